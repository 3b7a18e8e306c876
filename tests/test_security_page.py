"""The tests that docs/security.md cites exist."""

import re

import pytest

from tests.doc_pages import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
ROWS = re.search(r"^\| attack .*\n\|---.*\n((?:\| .*\n)+)", PAGE, re.MULTILINE)[1].splitlines()


def cited():
    """Pairs of a file and a shortened name of a test in it, in the order of the page."""
    names, file = [], None
    for row in ROWS:
        for name in re.findall(r"`([^`]+)`", row.split(" | ")[-1]):
            if name.endswith(".py"):
                file = name
            else:
                names.append((file, name))
    return names


@pytest.mark.parametrize(("file", "name"), cited())
def test_a_cited_test_exists(file, name):
    content = (ROOT / file).read_text(encoding="utf-8")
    shortened, _, example = name.partition("[")
    pattern = ".*".join(map(re.escape, shortened.split("…")))
    assert re.search(rf"^def test_{pattern}\(", content, re.MULTILINE)
    assert example.removesuffix("]") in content


def test_every_attack_has_a_test():
    assert len(ROWS) > 20
    assert not [row for row in ROWS if "`" not in row.split(" | ")[-1]]
