"""The Dockerfile and the units of docs/services.md, as far as they can be checked unbuilt."""

import configparser
import fnmatch
import json
import re
import shlex
import subprocess
import tomllib

import pytest
from packaging.specifiers import SpecifierSet

from encode_once.deploy.update_command import STATUS
from tests.doc_pages import ROOT, blocks
from tests.test_docs import parse

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
INSTRUCTIONS = {"FROM", "RUN", "COPY", "USER", "WORKDIR", "ENV", "ENTRYPOINT"}
SERVICES = [*blocks(ROOT / "docs" / "services.md")]


def instructions():
    """(name, arguments) of each instruction of the Dockerfile, continued lines joined."""
    lines = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text()).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip() and not line.startswith("#")]


def values(name):
    return [arguments for instruction, arguments in instructions() if instruction == name]


def test_every_instruction_is_one_and_every_command_is_shell():
    assert {name for name, _ in instructions()} <= INSTRUCTIONS
    assert instructions()[0][0] == "FROM"
    for command in values("RUN"):
        subprocess.run(["sh", "-n", "-c", command], check=True)


def test_it_installs_what_the_project_has():
    (install,) = [command for command in values("RUN") if "pip install" in command]
    extras = re.search(r'"/src\[([\w,-]+)\]"', install)[1].split(",")
    assert {*extras} <= PROJECT["optional-dependencies"].keys()
    (python,) = re.findall(r"^python:([\d.]+)", values("FROM")[0])
    assert python in SpecifierSet(PROJECT["requires-python"])
    assert json.loads(values("ENTRYPOINT")[0])[0] in PROJECT["scripts"]


def test_the_build_gets_every_file_of_the_package():
    """COPY leaves out what .dockerignore lists; the build needs the packages, the README and the licence."""
    ignored = (ROOT / ".dockerignore").read_text().split()
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    needed = ["pyproject.toml", PROJECT["readme"], *PROJECT["license-files"], "cli.py", "__init__.py"]
    needed += [path for path in setup["package-dir"].values() if path != "."]
    for path in needed:
        assert (ROOT / path).exists()
        assert not [pattern for pattern in ignored if fnmatch.fnmatch(path, pattern)], path


def test_the_user_of_the_container_is_that_of_the_page():
    (number,) = re.findall(r"--uid (\d+)", " ".join(values("RUN")))
    assert f"has the number {number}" in (ROOT / "docs/services.md").read_text()


def words_behind(text, program):
    """The words behind each mention of a program, to the end of the command."""
    joined = text.replace("\\\n", " ")
    for line in joined.splitlines():
        if not line.startswith("#") and (match := re.search(rf"\b{program}\s+(--log-format.*)", line)):
            yield shlex.split(match[1].partition(">>")[0])


@pytest.mark.parametrize(
    "words", [w for _, text in SERVICES for w in words_behind(text, "encode-once")], ids=" ".join
)
def test_commands_of_units_and_containers_are_accepted(words):
    assert words[:2] == ["--log-format", "json"]
    assert parse(words[2:]) in ("update", "predict", "monitor")


def test_units_have_the_exit_statuses_of_the_commands():
    (text,) = [text for language, text in SERVICES if language == "ini"]
    units = re.split(r"^# (/etc/systemd/\S+?)(?:;.*)?$", text, flags=re.MULTILINE)[1:]
    parsed = {}
    for path, unit in zip(units[::2], units[1::2], strict=True):
        parsed[path] = configparser.ConfigParser(strict=False, interpolation=None)
        parsed[path].optionxform = str
        parsed[path].read_string(unit)
    (update,) = [
        unit["Service"]
        for unit in parsed.values()
        if "Service" in unit and " update " in unit["Service"]["ExecStart"]
    ]
    assert int(update["SuccessExitStatus"]) == STATUS["nothing new"]
    cron = [text for language, text in SERVICES if language == "text" and "nice" in text]
    assert all(
        re.match(r"[\d*/,-]+( +[\d*/,-]+){4}  \S", line) for text in cron for line in text.splitlines()
    )
