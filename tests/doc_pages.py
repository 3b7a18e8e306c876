"""The Markdown pages as the tests read them: their code blocks, commands, links and anchors."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(
    r"`((?:python cli\.py|python [\w/]+\.py|encode-once|make) [^`]+)`|`(python docs/tables\.py)`"
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """(language, text) of every fenced block, in order."""
    return (match.groups() for match in FENCE.finditer(text_of(page)))


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", text_of(page))


def commands(language: str, block: str) -> list[str]:
    """The command lines of a block: all of `sh`, those after `$ ` of `console`, without comments."""
    if language == "console":
        lines = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
    else:
        lines = block.splitlines() if language == "sh" else []
    return [stripped for line in lines if (stripped := re.sub(r"(^|\s)#.*", "", line).strip())]


def run_commands(page: Path) -> list[str]:
    """The commands of all blocks of a page."""
    return [command for language, block in blocks(page) for command in commands(language, block)]


def inline_commands(page: Path) -> list[str]:
    """The whole commands that a page mentions in its text."""
    return [first or second for first, second in INLINE.findall(prose(page))]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    plain = (re.sub(r"[`*]", "", heading).lower() for heading in HEADING.findall(prose(page)))
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in plain}


def links(page: Path) -> list[str]:
    """The targets of a page's links that are not addresses."""
    return [target for target in LINK.findall(prose(page)) if not re.match(r"[a-z]+:", target)]
