"""Export a run as one ONNX file, for programs without encode-once: standardisation, network, thresholds."""

import json
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from encode_once.cache import DataError, EncodeOnceError
from encode_once.cache.errors import brief
from encode_once.cache.format.atomic import replacing
from encode_once.cache.process import silenced
from encode_once.classify import heads
from encode_once.classify.arrays import Vectors
from encode_once.classify.heads.base import Head
from encode_once.classify.heads.label_rnn import LabelRNN
from encode_once.classify.heads.linear import Linear
from encode_once.classify.heads.torch.head import TorchHead
from encode_once.classify.runs.run import Run

TOLERANCE = 1e-5  # difference of a score: the order of operations differs
ROWS = 64  # to compare on
OPSET = 17


class ExportError(EncodeOnceError, ValueError):
    """The ONNX file would not give the run's scores."""


def export_onnx(run: Run, path: Path) -> float:
    """Write a run as an ONNX file, after checking that onnxruntime gives the run's scores.

    Its input `features` (batch, d) float32 holds the stored features side by side, in the run's order; NaN
    for a missing vector and after the end of a sequence. Its outputs are `scores` (batch, c) float32 and
    `labels` (batch, c) bool. Metadata: `head`, `objective` and, as JSON, `features` (name, key in the store,
    length, width and first column of each), `classes` and `thresholds`.

    Returns:
        The largest difference of a score.

    Raises:
        DataError: the decision rule has no thresholds of plain scores, the head is neither linear nor a fixed
            torch network, or a library is missing.
        ExportError: torch cannot export the head, or onnxruntime gives other scores.
    """
    if not run.decision.has_plain_thresholds:
        raise DataError(
            f"{run.path} decides by more than thresholds ({run.decision.spec}): first "
            f"tune {run.path} --decide thresholds --calibrate none --at-least 0 --at-most 0"
        )
    if not _is_exportable(run.model.head):
        able = ", ".join(name for name in heads.HEADS if _is_exportable(heads.make(name)))
        raise DataError(f"a run of head {run.spec.head} cannot be exported; those of {able} can")
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise DataError(
            "export needs onnxruntime and onnx: pip install 'encode-once[onnxruntime]'"
        ) from error
    rows = _example(run)
    try:
        model = onnx.load_from_string(_onnx(ExportedRun(run, _network(run.model.head)), rows))
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        raise ExportError(f"torch cannot export head {run.spec.head}: {brief(error)}") from error
    onnx.helper.set_model_props(model, metadata(run))
    content: bytes = model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only; its warnings are for its developers
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    difference = max(_difference(run, session, batch) for batch in (rows, rows[:1], rows[-1:]))
    if not difference <= TOLERANCE:
        raise ExportError(f"{path} is not written: its scores differ from the run's by {difference:.1e}")
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return difference


def metadata(run: Run) -> dict[str, str]:
    """The metadata of the file."""
    features, first = [], 0
    for name, (length, width) in run.shapes.items():
        stored = run.record.features[name]
        position = {"length": length, "width": width, "first_column": first}
        features.append({"name": name, "key": stored.key if stored else None, **position})
        first += length * width
    thresholds = dict(zip(run.record.classes, run.decision.thresholds.tolist(), strict=True))
    values = {"features": features, "classes": run.record.classes, "thresholds": thresholds}
    return {
        "head": run.spec.head,
        "objective": run.decision.spec.objective,
        **{name: json.dumps(value, ensure_ascii=False) for name, value in values.items()},
    }


class ExportedRun(nn.Module):
    """Stored features (b, d) → scores and labels, both (b, c), as the run gives them."""

    mean: Tensor
    scale: Tensor
    thresholds: Tensor

    def __init__(self, run: Run, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.from_numpy(run.model.mean))
        self.register_buffer("scale", torch.from_numpy(run.model.scale))
        self.register_buffer("thresholds", torch.from_numpy(run.decision.thresholds))  # float64

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Scores, and whether they reach their thresholds."""
        standard = (features - self.mean) / self.scale
        scores = self.network(torch.where(standard.isnan(), 0.0, standard)).sigmoid()
        return scores, scores.double() >= self.thresholds


class BilinearByEinsum(nn.Module):
    """`nn.Bilinear` by an operator that ONNX has."""

    def __init__(self, layer: nn.Bilinear) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, X: Tensor, Y: Tensor) -> Tensor:
        """(b, o) from X (b, i) and Y (b, j)."""
        return torch.einsum("bi,oij,bj->bo", X, self.weight, Y) + self.bias


def _is_exportable(head: Head) -> TypeGuard[Linear | TorchHead]:
    """Whether the head is a network of fixed steps, which the search of a decoder is not."""
    return isinstance(head, Linear | TorchHead) and not isinstance(head, LabelRNN)


def _network(head: Linear | TorchHead) -> nn.Module:
    """The network from standardised rows (b, d) to logits (b, c), on the CPU."""
    if isinstance(head, Linear):
        c, d = head.coef_.shape
        layer = nn.Linear(d, c, device="meta")  # draws no random numbers
        layer.weight, layer.bias = (nn.Parameter(torch.from_numpy(x)) for x in (head.coef_, head.intercept_))
        return layer
    network: nn.Module = deepcopy(head.network_).cpu()
    for module in [*network.modules()]:
        for name, child in module.named_children():
            if isinstance(child, nn.Bilinear):
                setattr(module, name, BilinearByEinsum(child))
    return network


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


def _difference(run: Run, session: Any, rows: Vectors) -> float:
    """The largest difference of a score from the run's; infinite if a label contradicts its score."""
    scores, labels = session.run(["scores", "labels"], {"features": rows})
    expected = run.model.scores(rows)
    if scores.shape != expected.shape or not np.array_equal(labels, scores >= run.decision.thresholds):
        return float("inf")
    return float(np.abs(scores - expected).max())


def _onnx(module: ExportedRun, rows: Vectors) -> bytes:
    """The content of the file, for any number of rows."""
    # With parameters that need gradients, torch does not use its fast path for attention, which ONNX lacks.
    module.eval().requires_grad_()
    with TemporaryDirectory() as folder, silenced(1, 2):
        path = Path(folder) / "run.onnx"
        torch.onnx.export(
            module,
            (torch.from_numpy(rows),),
            path,
            input_names=["features"],
            output_names=["scores", "labels"],
            dynamic_axes={name: {0: "batch"} for name in ("features", "scores", "labels")},
            opset_version=OPSET,
            dynamo=False,  # its successor needs another library
        )
        return path.read_bytes()
