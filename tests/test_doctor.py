"""`doctor` in set-ups that are broken in one way: the right line, its remedy, and exit status 1 on FAIL."""

import json
import shutil
import sys
from importlib import metadata
from pathlib import Path

import pytest

from encode_once.cache import Store
from encode_once.cache.doctor import machine
from encode_once.extract.encoders import catalogue
from tests.cache.rows import flip

SUBJECTS = [
    "Python",
    "libraries",
    "extras",
    "processor",
    "cores",
    "memory",
    "disk",
    "store folder",
    "GPU",
    "HDF5",
]


@pytest.fixture
def setup(state_after, monkeypatch):
    """Data, a store and a run, on a machine with little to write and no network."""
    monkeypatch.setattr(machine, "TRIAL", 1 << 20)
    monkeypatch.setattr(catalogue, "answers", lambda site: False)
    return state_after("extract --encoder glove-50", "fit --head linear", n=30)


@pytest.fixture
def doctor(run):
    """A function that runs the command and returns the lines of a state."""

    def lines(state, *words, status=0):
        output = run("doctor", *words, status=status).stdout
        return [line for line in output.splitlines() if line.startswith(state)]

    return lines


def test_a_sound_set_up_passes_and_says_what_it_is(setup, doctor, run):
    assert doctor("FAIL") == []
    checks = json.loads(run("doctor", "--json").stdout)
    assert [check["subject"] for check in checks if check["subject"] in SUBJECTS] >= SUBJECTS[:2]
    assert {*SUBJECTS} <= {check["subject"] for check in checks}
    assert all({*check} == {"subject", "state", "finding", "remedy"} for check in checks)
    assert checks[-1] == {
        "subject": "runs",
        "state": "PASS",
        "finding": "1 in runs can be read",
        "remedy": "",
    }


def test_no_network_is_a_warning_with_a_remedy(setup, doctor):
    hub, torch_site = (line for line in doctor("WARN") if "out of reach" in line)
    assert "huggingface.co: out of reach: clip-vit-b32" in hub
    assert torch_site.endswith("→ check the network or proxy, or pass --weights FILE")


def test_a_library_that_is_too_old(setup, doctor, monkeypatch):
    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0.1" if name == "h5py" else version(name))
    (line,) = doctor("FAIL", status=1)
    assert line == "FAIL  library: h5py is version 0.1, but >=3.12 is needed → pip install 'h5py>=3.12'"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="a folder that root cannot write either")
def test_a_store_folder_that_cannot_be_written(setup, doctor):
    (line,) = doctor("FAIL", "--store", "/proc/store", status=1)
    assert line.startswith("FAIL  store folder: /proc cannot be written")
    assert line.endswith("→ change its permissions, or choose another --store")


def test_a_damaged_store(setup, doctor):
    (part,) = Store("store").feature("glove-50/mean").parts
    flip(part.path, part.stamp.places["keys"])
    (line,) = doctor("FAIL", status=1)
    assert str(part.path) in line
    assert line.endswith("→ store verify --repair --store store, then extract")


def test_missing_images(setup, doctor):
    shutil.rmtree(setup / "data")
    assert any("no row has an image file" in line for line in doctor("WARN"))


def test_a_damaged_run(setup, doctor):
    shutil.copytree("runs/linear", "runs/nested/other")
    flip(Path("runs/nested/other/weights.safetensors"), 3)
    (line,) = doctor("FAIL", status=1)
    assert "runs/nested/other" in line
    assert line.endswith("→ restore its files, or fit it again with --overwrite")
    shutil.rmtree("store")
    assert any("its store" in line for line in doctor("WARN", status=1))


def test_checks_of_runs_fire_and_can_be_ignored(setup, doctor, run):
    (line,) = (line for line in doctor("WARN") if "EO002" in line)
    assert line.startswith("WARN  run: runs/linear: EO002: ")
    assert line.endswith("(--ignore EO002)")
    assert not any("EO002" in line for line in doctor("WARN", "--ignore", "EO002"))
    assert run("doctor", "--ignore", "EO999", status=2).stdout == ""


def test_a_library_that_cannot_be_imported_is_named(setup, doctor, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert any(line.startswith("FAIL  extract.doctor: not checked") for line in doctor("FAIL", status=1))


def test_a_library_that_cannot_be_loaded_is_named(setup, doctor, monkeypatch):
    def damaged(driver):
        raise OSError("libcudart.so.12: cannot open shared object file")

    monkeypatch.setattr("encode_once.extract.doctor.gpu", damaged)
    (line,) = doctor("FAIL", status=1)
    assert line.startswith("FAIL  extract.doctor: not checked: libcudart.so.12: cannot open")
