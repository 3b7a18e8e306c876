"""What README says is there, and what is there README says."""

import re
from pathlib import Path

import click
import pytest

from encode_once.classify.heads import HEADS
from encode_once.cli import main
from encode_once.extract.encoders import listed

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands(group, path=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(commands(main))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented_with_help_and_example(name):
    assert re.search(rf"cli\.py {name}\b", README), f"README does not show cli.py {name}"
    assert COMMANDS[name].help


@pytest.mark.parametrize("line", sorted(set(re.findall(r"^(?:\$ )?python cli\.py (.+)$", README, re.M))))
def test_every_command_line_in_readme_exists(line):
    words = line.split("#")[0].split()
    name = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0]
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= options


def test_every_encoder_and_head_is_in_its_table():
    for name, _ in listed():
        assert f"`{name.removesuffix('…')}" in README, name
    for name in HEADS:
        assert f"| `{name}`" in README, name


def test_make_targets_named_in_readme_exist():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    assert set(re.findall(r"make (\w+)", README)) <= set(targets)


def test_no_text_names_the_host_of_a_registry():
    hosts = re.compile("py" + r"pi\.org|python" + "hosted")
    for path in [*ROOT.glob("*.*"), ROOT / "Makefile", ROOT / ".ci" / "run"]:
        if path.is_file():
            assert not hosts.search(path.read_text(errors="replace")), path
