"""What a run says of a few rows, for a person to read."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from encode_once.cache.terminal import one_line
from encode_once.classify.runs.predict import Predicted


class ShownRow(TypedDict):
    """The labels of a row, and the scores that are shown, the highest first."""

    id: str
    labels: list[str]
    scores: dict[str, float]


def shown_rows(
    ids: Sequence[str], classes: Sequence[str], predicted: Predicted, top: int | None = None
) -> list[ShownRow]:
    """Each row with its labels, and the scores of these or, with `top`, of the classes that score most."""
    rows: list[ShownRow] = []
    for row_id, scores, labels in zip(ids, predicted.probabilities, predicted.labels, strict=True):
        order = np.argsort(-scores, kind="stable")
        chosen = [k for k in order.tolist() if labels[k]]
        shown = chosen if top is None else order[:top].tolist()
        rows.append(
            {
                "id": row_id,
                "labels": [classes[k] for k in chosen],
                "scores": {classes[k]: float(scores[k]) for k in shown},
            }
        )
    return rows


def text(rows: Sequence[ShownRow]) -> str:
    """A line for each row: its id, then each class with its score; in brackets if it is no label of it."""
    width = max(len(one_line(row["id"])) for row in rows)
    lines = []
    for row in rows:
        cells = [
            f"{name} {score:.3f}" if name in row["labels"] else f"({name} {score:.3f})"
            for name, score in row["scores"].items()
        ]
        lines.append(f"{one_line(row['id']).ljust(width)}  {', '.join(cells) or 'no label'}")
    return "\n".join(lines)
