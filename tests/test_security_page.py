"""The tests that docs/security.md cites exist."""

import re

import pytest

from tests.doc_pages import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def cited():
    """Pairs of a file and a shortened name of a test in it, in the order of the page."""
    names, file = [], None
    for line in PAGE.splitlines():
        if line.startswith("| ") and not line.startswith("| attack"):
            for name in re.findall(r"`([^`]+)`", line.split(" | ")[-1]):
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
    assert re.search(rf"^def test_{pattern if name.startswith('…') else name}\(", content, re.MULTILINE)
    assert example.removesuffix("]") in content


def test_every_attack_has_a_test():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| attack")]
    assert len(rows) > 20
    assert not [row for row in rows if "`" not in row.split(" | ")[-1]]
