"""Writes docs/results/views.json: what each view is worth. After the commands below, for 3,000 rows:

    python cli.py extract --data photographs --encoder efficientnet-lite0,minilm \
        --view crop,flip,whole,whole-288,whole-320,pad-320,whole-320-flip,five-crops
    python cli.py experiment run docs/views.toml --folder runs/views
    python docs/views.py runs/views --rows "2,000 and 1,000" --machine "2 cores" --commit 0123abc
    python docs/tables.py
"""

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from encode_once.cache.names import FeatureName
from encode_once.cache.views import COPIES, CROP, split_view

ROOT = Path(__file__).resolve().parents[1]
COMMAND = "python cli.py experiment run docs/views.toml"
OWN_SIZE = 224  # pixels, of efficientnet-lite0
METRICS = {"mAP": ".3f", "samples_f1": ".3f"}
COLUMNS = [("linear", False), ("linear", True), ("mlp", False), ("mlp", True)]  # head, with captions


def cost(views: Sequence[str]) -> float:
    """The time of these views of an encoder, in that of its own."""
    parsed = [split_view(f"encoder@{view}")[1] for view in views]
    sizes = [((view.size or OWN_SIZE) / OWN_SIZE) ** 2 for view in parsed]
    copies = [COPIES.get(view.square, 1) * (2 if view.flip else 1) for view in parsed]
    return round(sum(size * number for size, number in zip(sizes, copies, strict=True)), 2)


def rows(folder: Path) -> list[list[str | float]]:
    """A row for each view: its cost, then the metrics of each head, of the image alone and with captions."""
    figures: dict[tuple[str, ...], dict[tuple[str, bool], list[float]]] = {}
    for run in json.loads((folder / "leaderboard.json").read_text(encoding="utf-8")):
        encoders = [FeatureName.parse(name).encoder for name in run["features"]]
        views = tuple(str(split_view(name)[1]) or CROP for name in encoders if name != "minilm")
        of_view = figures.setdefault(views, {})
        of_view[run["head"], "minilm" in encoders] = [round(run[metric], 4) for metric in METRICS]
    ranked = sorted(figures.items(), key=lambda item: item[1][COLUMNS[0]])
    return [
        [
            f"`{'` and `'.join(views)}`",
            cost(views),
            *(value for column in COLUMNS for value in of_view[column]),
        ]
        for views, of_view in ranked
    ]


def main() -> None:
    """Write the results file."""
    parser = argparse.ArgumentParser(description="Write docs/results/views.json.")
    parser.add_argument("folder", type=Path, help="Folder of the runs.")
    parser.add_argument("--machine", required=True, help="What they ran on.")
    parser.add_argument("--rows", required=True, help="Train and eval rows, such as '2,000 and 1,000'.")
    parser.add_argument("--commit", required=True, help="Of the program that fitted them.")
    arguments = parser.parse_args()
    inputs = {False: "", True: " + captions"}
    columns = [{"name": "view"}, {"name": "time ×", "format": ".1f"}]
    columns += [
        {"name": f"{head}{inputs[captions]}: {metric}", "format": digits}
        for head, captions in COLUMNS
        for metric, digits in METRICS.items()
    ]
    result = {
        "title": f"Views of `efficientnet-lite0`, with and without `minilm`; {arguments.rows} photographs",
        "command": COMMAND,
        "date": datetime.now(UTC).date().isoformat(),
        "commit": arguments.commit,
        "machine": arguments.machine,
        "columns": columns,
        "rows": rows(arguments.folder),
    }
    path = ROOT / "docs" / "results" / "views.json"
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
