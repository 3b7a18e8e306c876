"""A few broken files of every format: each is read, or refused in one line. `make fuzz` tries many more."""

import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import MEMORY_DISK
from tests.fuzz.formats import FORMATS, Format, use_store
from tests.fuzz.run import FAULTS, ROOT, attempt, fuzz, main, prepare

INPUTS = 20
OF_STORES = 8  # each takes three times as long: a store is verified, read and repaired


@pytest.fixture(scope="module")
def prepared():
    """A function that returns the folder of a format; formats that break the same files share it."""
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=MEMORY_DISK) as root:
        folders = {}

        def folder_of(form):
            if form.prepare not in folders:
                folders[form.prepare] = Path(root) / str(len(folders))
                prepare(form, folders[form.prepare])
            return folders[form.prepare]

        yield folder_of


@pytest.mark.parametrize("name", FORMATS)
def test_broken_files_are_read_or_refused_in_one_line(name, prepared):
    form, faults = FORMATS[name], {}
    for number in range(OF_STORES if form.use is use_store else INPUTS):
        outcome, detail = attempt(name, "test", number, prepared(form))
        if outcome == "fault":
            faults[number] = detail
    assert not faults, f"python -m tests.fuzz.run {name!r} --seed test --only {min(faults)}"


def test_every_fault_is_counted_and_the_next_inputs_are_tried(monkeypatch):
    endless = itertools.count(1)
    uses = [lambda: None, lambda: 1 / 0, lambda: os._exit(3), lambda: all(endless), Path("/").read_bytes]
    numbers = range(len(uses) + 1)
    drawn = [str(random.Random(f"0 odd {number}").random()) for number in numbers]

    def use(folder):
        text = (folder / "drawn").read_text()
        if text in drawn:
            uses[drawn.index(text) % len(uses)]()

    def write(text, folder):
        (folder / "drawn").write_text(text)

    odd = Format(partial(write, "valid"), lambda rng, folder: write(str(rng.random()), folder), use)
    monkeypatch.setitem(FORMATS, "odd", odd)
    monkeypatch.setattr("tests.fuzz.run.HANG", 1)
    row, faults = fuzz("odd", "0", numbers)
    assert [row[key] for key in ("read", "refused", *FAULTS)] == [2, 1, 1, 1, 1]
    assert [fault.partition(":")[0] for fault in faults] == [f"odd {number}" for number in (1, 2, 3)]


def test_a_results_file_is_continued_and_rendered(tmp_path):
    file = tmp_path / "docs" / "results" / "fuzz.json"
    file.parent.mkdir(parents=True)
    for empty in ("README.md", "docs/results/tables.toml"):
        (tmp_path / empty).touch()
    page = tmp_path / "docs" / "security.md"
    page.write_text("<!-- table: fuzz -->\n<!-- end -->\n")
    script = tmp_path / "docs" / "tables.py"
    script.write_bytes((ROOT / "docs" / "tables.py").read_bytes())
    options = ["--inputs", "3", "--json", str(file)]
    assert main(["bmp", *options]) == 0
    results = json.loads(file.read_text())
    results["rows"][0][-1] = 12_345
    file.write_text(json.dumps(results))
    assert main(["bmp", "png", *options]) == 0
    bmp, png = json.loads(file.read_text())["rows"]
    assert bmp == results["rows"][0]
    assert png[:2] == ["png", 3]
    assert png[2] + png[3] == 3
    subprocess.run([sys.executable, script], check=True)
    assert "\n| bmp | 3 |" in page.read_text()
    assert "| 12,345 |\n| png | 3 |" in page.read_text()
    results["rows"][0][results["columns"].index({"name": "hangs", "format": ",d"})] = 1
    file.write_text(json.dumps(results))
    assert main(["bmp", *options]) == 1
    assert main(["bmp", "--inputs", "2", "--json", str(file)]) == 0, "another command starts again"
    assert [row[1] for row in json.loads(file.read_text())["rows"]] == [2]
