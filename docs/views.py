"""Writes a table of what views are worth, docs/results/views-heads.json or views.json. After these commands:

python cli.py extract --data coco19-9k --encoder efficientnet-lite0/regions,minilm --view crop,whole-320
python cli.py experiment run docs/views-heads.toml --folder runs/views
python docs/views.py views-heads runs/views --rows 9,000 --machine "2 cores" --commit 0123abc
python docs/tables.py
"""

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from encode_once.cache.names import FeatureName
from encode_once.cache.views import COPIES, CROP, split_view
from encode_once.classify import load_run
from encode_once.classify.evaluation.compare import against_first
from encode_once.classify.evaluation.metrics import MetricName
from encode_once.classify.runs.retune import evaluate_kept

ROOT = Path(__file__).resolve().parents[1]
OWN_SIZE = 224  # pixels, of efficientnet-lite0
CAPTIONS = "minilm"
METRICS: tuple[MetricName, ...] = ("mAP", "samples_f1")
LINEAR = "linear"  # whose figures rank, and whose differences from the crop are tested
COLUMNS = [(head, captions) for head in (LINEAR, "mlp", "attention") for captions in (False, True)]
INPUTS = {False: "image", True: "captions"}

Runs = dict[tuple[str, bool], dict[str, Any]]  # head, with captions → its row of the leaderboard


def cost(views: Sequence[str]) -> float:
    """The time of these views of an encoder, in that of its own."""
    parsed = [split_view(f"encoder@{view}")[1] for view in views]
    sizes = [((view.size or OWN_SIZE) / OWN_SIZE) ** 2 for view in parsed]
    copies = [COPIES.get(view.square, 1) * (2 if view.flip else 1) for view in parsed]
    return round(sum(size * number for size, number in zip(sizes, copies, strict=True)), 2)


def by_views(folder: Path) -> dict[tuple[str, ...], Runs]:
    """Views → the runs on them in a folder; the views of least mAP first."""
    runs: dict[tuple[str, ...], Runs] = {}
    for row in json.loads((folder / "leaderboard.json").read_text(encoding="utf-8")):
        encoders = [FeatureName.parse(name).encoder for name in row["features"]]
        views = tuple(str(split_view(name)[1]) or CROP for name in encoders if name != CAPTIONS)
        runs.setdefault(views, {})[row["head"], CAPTIONS in encoders] = row
    return dict(sorted(runs.items(), key=lambda item: item[1][LINEAR, False]["mAP"]))


def gains(runs: dict[tuple[str, ...], Runs], captions: bool) -> dict[tuple[str, ...], dict[str, str]]:
    """Views → metric → how much more it is than the crop's, with the paired interval."""
    paths = {views: of_views[LINEAR, captions]["run"] for views, of_views in runs.items()}
    crop = evaluate_kept(load_run(paths.pop((CROP,))))
    texts: dict[tuple[str, ...], dict[str, str]] = {}
    for views, path in paths.items():
        comparison, _ = against_first([crop, evaluate_kept(load_run(path))])
        texts[views] = {}
        for metric in METRICS:
            change = comparison["differences"][0]["metrics"][metric]
            low, high = change["interval"] or (0.0, 0.0)
            texts[views][metric] = f"{change['difference']:+.3f} ({low:+.3f} to {high:+.3f})"
    return texts


def result(name: str, folder: Path, total: str) -> dict[str, Any]:
    """The table and, for sentences, the gains by `VIEW-image` or `VIEW-captions` and the metric."""
    runs = by_views(folder)
    of_inputs = {captions: gains(runs, captions) for captions in INPUTS}
    columns = [column for column in COLUMNS if any(column in of_views for of_views in runs.values())]
    splits = {row["head"]: load_run(row["run"]).spec.split for of in runs.values() for row in of.values()}
    measured = ", ".join(f"`{head}`: `{split}`" for head, split in splits.items())
    rows = [
        [
            f"`{'` and `'.join(views)}`",
            cost(views),
            *(
                " / ".join(f"{row[metric]:.3f}" for metric in METRICS)
                if (row := of_views.get(column))
                else None
                for column in columns
            ),
            *(texts[views]["mAP"] if views in texts else None for texts in of_inputs.values()),
        ]
        for views, of_views in runs.items()
    ]
    names = [f"`{head}`{' + captions' * captions}" for head, captions in columns]
    names += [f"`{LINEAR}`{' + captions' * captions}: mAP above `{CROP}`" for captions in INPUTS]
    return {
        "title": f"mAP / samples F1 of views of `efficientnet-lite0`, alone and with `{CAPTIONS}`, on "
        f"{total} photographs ({measured}); with paired 95 % intervals",
        "command": f"python cli.py experiment run docs/{name}.toml",
        "values": {
            f"{'-'.join(views)}-{INPUTS[captions]}-{metric.replace('_', '-')}": text
            for captions, texts in of_inputs.items()
            for views, of_views in texts.items()
            for metric, text in of_views.items()
        },
        "columns": [
            {"name": "view"},
            {"name": "time ×", "format": ".1f"},
            *({"name": column} for column in names),
        ],
        "rows": rows,
    }


def main() -> None:
    """Write the results file."""
    parser = argparse.ArgumentParser(description="Write docs/results/NAME.json.")
    parser.add_argument("name", choices=["views", "views-heads"], help="The experiment's file in docs.")
    parser.add_argument("folder", type=Path, help="Folder of its runs.")
    parser.add_argument("--rows", required=True, help="Photographs, such as 9,000.")
    parser.add_argument("--machine", required=True, help="What they ran on.")
    parser.add_argument("--commit", required=True, help="Of the program that fitted them.")
    arguments = parser.parse_args()
    content = result(arguments.name, arguments.folder, arguments.rows) | {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": arguments.commit,
        "machine": arguments.machine,
    }
    path = ROOT / "docs" / "results" / f"{arguments.name}.json"
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
