"""A few broken files of every format: each is read, or refused in one line. `make fuzz` tries many more."""

import random

import pytest

from tests.fuzz.formats import FORMATS
from tests.fuzz.run import attempt

INPUTS = 25
SLOW = {"run.json", "thresholds.json", "scores.h5", "weights.safetensors", "LightGBM text"}


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in SLOW])
def test_broken_files_are_read_or_refused_in_one_line(name, tmp_path):
    form = FORMATS[name]
    (tmp_path / "valid").mkdir()
    form.prepare(tmp_path / "valid")
    form.use(tmp_path / "valid")
    faults = {}
    for number in range(INPUTS):
        outcome, detail = attempt(form, random.Random(f"test {name} {number}"), tmp_path)
        if outcome == "fault":
            faults[number] = detail
    assert not faults, f"python -m tests.fuzz.run {name!r} --seed test --only {min(faults)}"
