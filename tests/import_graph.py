"""Prints which folders of the program import which: python tests/import_graph.py [--dot]."""

import argparse
import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("cache", "classify", "deploy", "extract")
NAME = "encode_once"


def modules() -> dict[str, Path]:
    """Dotted name → file, of all modules of the program."""
    files = [ROOT / "cli.py", *(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))]
    return {_dotted(path): path for path in files}


def imports(path: Path) -> Iterator[str]:
    """The dotted names that a file imports when it runs, whether of the program or not."""
    package = (NAME, *path.relative_to(ROOT).parts[:-1])
    for node in _walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix(f"{NAME}.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join([*base, *(node.module or "").split(".")]).removeprefix(f"{NAME}.").strip(".")
            source = "" if source == NAME else source
            yield from (f"{source}.{alias.name}".strip(".") for alias in node.names)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree, without those under `if TYPE_CHECKING`."""
    yield node
    if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
        for child in ast.iter_child_nodes(node):
            yield from _walk(child)


def edges() -> Iterator[tuple[Path, Path]]:
    """(file, file it imports from), once for each imported name."""
    files = modules()
    for path in files.values():
        for imported in imports(path):
            target = next((prefix for prefix in _prefixes(imported) if prefix in files), None)
            if target is not None and files[target] != path:
                yield path, files[target]


def graph() -> Counter[tuple[str, str]]:
    """(folder, folder it imports) → number of imported names, between different folders."""
    return Counter((_folder(a), _folder(b)) for a, b in edges() if _folder(a) != _folder(b))


def _prefixes(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[:length]) for length in range(len(parts), 0, -1))


def _dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _folder(path: Path) -> str:
    return path.name if path.parent == ROOT else str(path.parent.relative_to(ROOT))


def main() -> None:
    """Print the graph."""
    parser = argparse.ArgumentParser(description="Which folders of the program import which.")
    parser.add_argument("--dot", action="store_true", help="Print Graphviz, for `dot -Tsvg`.")
    dot = parser.parse_args().dot
    counts = graph()
    if dot:
        lines = [f'  "{a}" -> "{b}" [label={count}];' for (a, b), count in sorted(counts.items())]
        print("\n".join(["digraph imports {", *lines, "}"]))
        return
    for folder in sorted({folder for edge in counts for folder in edge}):
        targets = ", ".join(f"{b} ({count})" for (a, b), count in sorted(counts.items()) if a == folder)
        print(f"{folder:24} → {targets or '–'}")


if __name__ == "__main__":
    main()
