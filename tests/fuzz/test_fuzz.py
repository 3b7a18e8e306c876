"""A few broken files of every format: each is read, or refused in one line. `make fuzz` tries many more."""

import random

import pytest

from tests.fuzz.formats import FORMATS
from tests.fuzz.run import attempt

INPUTS = 20
OF_RUNS = 8  # each takes a quarter of a second
RUNS = {"run.json", "thresholds.json", "scores.h5", "weights.safetensors", "LightGBM text"}


@pytest.mark.parametrize("name", FORMATS)
def test_broken_files_are_read_or_refused_in_one_line(name, tmp_path):
    form = FORMATS[name]
    (tmp_path / "valid").mkdir()
    form.prepare(tmp_path / "valid")
    form.use(tmp_path / "valid")
    faults = {}
    for number in range(OF_RUNS if name in RUNS else INPUTS):
        outcome, detail = attempt(form, random.Random(f"test {name} {number}"), tmp_path)
        if outcome == "fault":
            faults[number] = detail
    assert not faults, f"python -m tests.fuzz.run {name!r} --seed test --only {min(faults)}"
