"""One self-contained HTML page of a summary: sliders for thresholds, charts, and a gallery of mistakes.

The page has all scores, so it needs no server.
"""

import base64
from collections.abc import Sequence
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encode_once.classify.arrays import LabelMatrix
from encode_once.classify.evaluation.evaluation import Evaluation
from encode_once.classify.evaluation.metrics import applies
from encode_once.classify.evaluation.tables import compared, of_one_class, shown, without_positives
from encode_once.classify.pages.render import render, script_json
from encode_once.classify.partial import is_partial, positives, unknown_entries
from encode_once.classify.report.gallery import GalleryRow
from encode_once.classify.report.summary import RunSummary, Summary
from encode_once.classify.runs.retune import OWN_RULE

FILES = files(__package__) / "page"
SCRIPTS = ("scores.js", "charts.js", "thresholds.js", "gallery.js", "start.js")  # in the order of their use
LIVE = ("micro_f1", "macro_f1", "samples_f1", "precision", "recall")
COLUMNS = (
    ("label", "class"), ("support", "positives"), ("threshold", "threshold"), ("precision", "precision"),
    ("recall", "recall"), ("f1", "F1"), ("ap", "AP"),
)  # fmt: skip
RULE_NAMES = {
    OWN_RULE: "the run's own",
    "0.5": "0.5 for all",
    "global": "one threshold, tuned for macro F1",
    "per class": "one per class, tuned for macro F1",
    "expected F1": "sets of the greatest expected F1",
    "expected mean": "sets of the greatest expected mean of the three",
}


def page(
    summary: Summary, evaluations: Sequence[Evaluation], galleries: Sequence[Sequence[GalleryRow]]
) -> str:
    """The page of a summary, of the evaluations of its runs, and of their galleries, in the same order."""
    runs = summary["runs"]
    return render(
        FILES,
        SCRIPTS,
        title=runs[0]["run"] if len(runs) == 1 else f"{len(runs)} runs",
        notes=summary["notes"],
        comparison=summary["comparison"],
        runs=[
            {
                "summary": run,
                "shown": chain(*shown(run["metrics"])),
                "notes": [*without_positives(run["metrics"]), *of_one_class(run["metrics"])],
                "live": [name for name in LIVE if applies(run["metrics"], name)],
                "data": "/".join(Path(run["about"]["data"]).parts[-2:]),  # the rest is the reader's machine
                "gallery": gallery,
                "payload": script_json(payload(run, evaluation, gallery)),
            }
            for run, evaluation, gallery in zip(runs, evaluations, galleries, strict=True)
        ],
        compared=compared([run["metrics"] for run in runs]),
        columns=COLUMNS,
        rule_names=RULE_NAMES,
    )


def payload(run: RunSummary, evaluation: Evaluation, gallery: Sequence[GalleryRow]) -> dict[str, Any]:
    """What the scripts of the page need of a run.

    `scores` are float32, `labels`, `predictions` and, if labels are unknown, `unknown` bits, each (classes,
    rows) in base64: 80 classes of 30,000 rows are 13 MB.
    """
    rows = evaluation.rows
    return {
        "run": run["run"],
        "rows": len(rows.ids),
        "classes": list(evaluation.classes),
        "scores": _base64(rows.scores.astype("<f4").T),
        "labels": _bits(positives(rows.labels)),
        "unknown": _bits(unknown_entries(rows.labels)) if is_partial(rows.labels) else None,
        "predictions": _bits(evaluation.predictions),
        "thresholds": run["thresholds"],
        "ap": [row["ap"] for row in run["metrics"]["per_class"]],
        "history": run["history"],
        "gallery": [row.as_json() for row in gallery],
    }


def _base64(table: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(table).tobytes()).decode()


def _bits(labels: LabelMatrix) -> str:
    """Labels (n, c), class after class, eight to a byte, the lowest bit first."""
    return _base64(np.packbits(np.ascontiguousarray(labels.T).ravel(), bitorder="little"))
