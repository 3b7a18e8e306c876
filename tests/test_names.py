"""Names and words that the project does not use: see CONTRIBUTING.md."""

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("names")  # one worker parses all files
ROOT = Path(__file__).parents[1]
FOLDERS = ("cache", "classify", "deploy", "docs", "extract", "tests")
NOT_NAMES = {*"one found told some mine there how made held held_in is_one known wanted".split()}
NOT_WORDS = re.compile(r"\b(told|anew|mends?|mended)\b", re.IGNORECASE)


def files(*suffixes):
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in suffixes]
    return [*paths, *(path for path in ROOT.glob("*") if path.suffix in suffixes)]


@cache
def bound_names(path):
    """(name, line, whether it is a class) of all that a module binds: variables, parameters and so on."""
    return [*_bound_names(ast.parse(path.read_text(encoding="utf-8")))]


def _bound_names(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno, False
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno, False
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node.lineno, isinstance(node, ast.ClassDef)


def test_variables_are_named_after_their_type_or_role():
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in files(".py")
        for name, line, _ in bound_names(path)
        if name.strip("_") in NOT_NAMES
    ]
    assert wrong == []


def test_words_that_must_be_read_twice_are_absent():
    lines = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files(".py", ".md", ".toml")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if NOT_WORDS.search(line) and path != Path(__file__)
    ]
    assert lines == []


def test_a_class_name_occurs_once_in_the_program():
    names = Counter(
        name
        for path in files(".py")
        if "tests" not in path.relative_to(ROOT).parts
        for name, _, is_class in bound_names(path)
        if is_class
    )
    assert [name for name, count in names.items() if count > 1] == []
