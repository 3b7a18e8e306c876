"""Export a run without its encoders as one ONNX file: stored features → scores and labels."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from encode_once.classify.arrays import Vectors
from encode_once.classify.runs.run import Run
from encode_once.deploy.onnx_file import (
    ExportError,
    graph_of,
    onnx_library,
    serialised,
    session,
    with_properties,
    write,
)
from encode_once.deploy.run_graph import Agreement, RunGraph, compare, run_metadata

TOLERANCE = 1e-5  # difference of a score: the order of operations differs
ROWS = 64  # to compare on


def export_onnx(run: Run, path: Path) -> Agreement:
    """Write a run as an ONNX file, after checking that onnxruntime gives the run's scores and labels.

    Its input `features` (batch, d) float32 holds the stored features side by side, in the run's order; NaN
    for a missing vector and after the end of a sequence. Its outputs are `scores` (batch, c) float32, as
    `predict --scores` writes them, and `labels` (batch, c) bool. Metadata: see `run_metadata`.

    Raises:
        DataError: the head is neither linear nor a fixed torch network, or a library is missing.
        ExportError: torch cannot export the head, or onnxruntime gives other scores or labels.
    """
    onnx_library()
    rows = _example(run)
    graph = graph_of(
        RunGraph(run), {"features": torch.from_numpy(rows)}, ["scores", "labels"], f"head {run.spec.head}"
    )
    content = serialised(with_properties(graph, run_metadata(run)))
    model = session(content)
    try:
        compared = [_compared(run, model, batch) for batch in (rows, rows[:1], rows[-1:])]
    except ExportError as error:
        raise ExportError(f"{path} is not written: {error}") from error
    write(path, content)
    return Agreement(max(part.difference for part in compared), ROWS, compared[0].differing)


def _example(run: Run) -> Vectors:
    """Random rows (n, d): first whole ones, then ones with sequences of all lengths and missing features.

    The last row has no feature at all.
    """
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(ROWS, len(run.model.mean))).astype(np.float32)
    rows = rows * run.model.scale + run.model.mean
    first = 0
    for length, width in run.shapes.values():
        block = rows[:, first : first + length * width].reshape(ROWS, length, width)
        ends = rng.integers(0, length + 1, ROWS)  # 0: missing
        ends[: ROWS // 4], ends[-1] = length, 0
        block[np.arange(length) >= ends[:, None]] = np.nan
        rows[:, first : first + length * width] = block.reshape(ROWS, -1)
        first += length * width
    return rows


def _compared(run: Run, model: Any, rows: Vectors) -> Agreement:
    scores, labels = model.run(["scores", "labels"], {"features": rows})
    return compare(run, run.model.scores(rows), scores, labels, TOLERANCE)
