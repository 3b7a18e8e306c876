"""Execute docs/notebook.ipynb in an empty folder, and write its outputs; --check compares them instead.

Other processors round otherwise, so that decimals may differ by `CLOSE`, and marks of significance are not
compared; whole numbers and words may not differ. Of pictures, only the words are compared. Of each output the
notebook keeps the form that is shown, and no messages.
"""

import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).with_name("notebook.ipynb")
NUMBER = re.compile(r"(\d+(?:\.\d+)?)")
WORDS_OF_PICTURE = re.compile(r"[^<>]*[A-Za-z][^<>]*(?=</)")
MARKS = re.compile(r" [*†]")
CLOSE = 0.05
SECONDS = 120  # for each cell

Notebook = Mapping[str, Any]


def executed(path: Path) -> Any:
    """The notebook at this path with the outputs that its cells give now.

    Raises:
        CellExecutionError: a cell fails.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory(prefix="notebook-") as folder:
        packages, place = Path(folder, "packages"), Path(folder, "work")
        packages.mkdir()
        place.mkdir()
        # The package is the folder of the checkout, whatever it is called.
        (packages / "encode_once").symlink_to(Path(__file__).resolve().parents[1], target_is_directory=True)
        paths = filter(None, [str(packages), os.environ.get("PYTHONPATH")])
        client = NotebookClient(
            notebook,
            timeout=SECONDS,
            kernel_name="python3",
            record_timing=False,
            resources={"metadata": {"path": str(place)}},
        )
        client.execute(env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [_shown_form(output) for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def _shown_form(output: Any) -> Any:
    """An output without the plain text that nobody sees, as there is HTML or a picture."""
    if len(output.get("data", ())) > 1:
        del output.data["text/plain"]
    return output


def shown(cell: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a cell shows: kind and text of each of its outputs."""
    for output in cell.get("outputs", ()):
        if output["output_type"] == "stream":
            yield output["name"], _joined(output["text"])
        for kind, lines in output.get("data", {}).items():
            text = _joined(lines)
            yield kind, "\n".join(WORDS_OF_PICTURE.findall(text)) if kind == "image/svg+xml" else text


def _joined(lines: str | list[str]) -> str:
    """A text of a notebook, which its file has as lines."""
    return lines if isinstance(lines, str) else "".join(lines)


def differences(old: Notebook, new: Notebook) -> list[str]:
    """A line for each output that is another one."""
    lines = []
    for number, (before, after) in enumerate(zip(old["cells"], new["cells"], strict=True), 1):
        expected, actual = list(shown(before)), list(shown(after))
        if [kind for kind, _ in expected] != [kind for kind, _ in actual]:
            lines.append(f"cell {number} shows {[kind for kind, _ in actual]}")
            continue
        lines += [
            f"cell {number} shows as {kind}:\n{text}\nnot:\n{text_before}"
            for (kind, text), (_, text_before) in zip(actual, expected, strict=True)
            if not are_alike(text, text_before)
        ]
    return lines


def are_alike(text: str, other: str) -> bool:
    """Whether texts have the same words and whole numbers, and decimals that differ by at most CLOSE."""
    parts, others = (NUMBER.split(MARKS.sub("", content)) for content in (text, other))
    if len(parts) != len(others):
        return False
    return all(
        abs(float(part) - float(of_other)) <= CLOSE
        if place % 2 and "." in part and "." in of_other
        else part == of_other
        for place, (part, of_other) in enumerate(zip(parts, others, strict=True))
    )


def main() -> None:
    """Write the outputs, or compare them; the exit status is 1 if they differ."""
    import nbformat

    notebook = executed(NOTEBOOK)
    if "--check" in sys.argv[1:]:
        lines = differences(nbformat.read(NOTEBOOK, as_version=4), notebook)
        sys.exit("\n".join([f"docs/{NOTEBOOK.name} shows other things now:", *lines]) if lines else 0)
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()
