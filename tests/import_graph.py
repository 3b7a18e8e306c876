"""Prints which folders of the program import which: python tests/import_graph.py [--dot]."""

import argparse
import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("cache", "classify", "extract")
NAME = "encode_once"


def modules() -> dict[str, Path]:
    """Dotted name → file, of all modules of the program."""
    files = [ROOT / "cli.py", *(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))]
    return {_dotted(path): path for path in files}


def imports(path: Path) -> Iterator[str]:
    """The dotted names that a file imports, whether of the program or not."""
    package = (NAME, *path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix(f"{NAME}.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join([*base, *(node.module or "").split(".")]).removeprefix(f"{NAME}.").strip(".")
            source = "" if source == NAME else source
            yield from (f"{source}.{alias.name}".strip(".") for alias in node.names)


def graph() -> Counter[tuple[str, str]]:
    """(folder, folder it imports) → number of imported names, between different folders."""
    known = modules()
    edges: Counter[tuple[str, str]] = Counter()
    for path in known.values():
        for imported in imports(path):
            target = next((prefix for prefix in _prefixes(imported) if prefix in known), None)
            if target is not None:
                edge = _folder(path), _folder(known[target])
                edges[edge] += edge[0] != edge[1]
    return +edges


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
    edges = graph()
    if dot:
        lines = [f'  "{a}" -> "{b}" [label={count}];' for (a, b), count in sorted(edges.items())]
        print("\n".join(["digraph imports {", *lines, "}"]))
        return
    for folder in sorted({a for a, _ in edges} | {b for _, b in edges}):
        targets = ", ".join(f"{b} ({count})" for (a, b), count in sorted(edges.items()) if a == folder)
        print(f"{folder:24} → {targets or '–'}")


if __name__ == "__main__":
    main()
