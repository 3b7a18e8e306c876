"""A run as one ONNX file: standardisation, network and thresholds, for programs that know none of ours."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from encode_once.cache import DataError, EncodeOnceError
from encode_once.cache.errors import brief
from encode_once.cache.format.atomic import replacing
from encode_once.cache.process import silenced
from encode_once.classify import heads
from encode_once.classify.heads.base import Head
from encode_once.classify.heads.label_rnn import LabelRNN
from encode_once.classify.heads.linear import Linear
from encode_once.classify.heads.torch.head import TorchHead
from encode_once.classify.runs.run import Run

TOLERANCE = 1e-5  # of a score: the same arithmetic in another order
ROWS = 64  # to compare on
OPSET = 17


class ExportError(EncodeOnceError, ValueError):
    """A run as ONNX would not be the run."""


def export(run: Run, path: Path) -> float:
    """Write a run as an ONNX file, once onnxruntime gives the scores that the run gives.

    Its input `features` (batch, d) float32 holds the features as they are stored, side by side in the run's
    order; NaN where a vector is missing, and behind the end of a sequence. Its outputs are `scores`
    (batch, c) float32 and `labels` (batch, c) bool. Metadata: `head`, `objective` and, as JSON, `features`
    (name, key in the store, length, width and first column of each), `classes` and `thresholds`.

    Returns:
        The largest difference of a score.

    Raises:
        DataError: the decision rule is more than thresholds, the head is not linear or of torch, or a
            library is missing.
        ExportError: torch cannot export it, or onnxruntime gives other scores.
    """
    if not run.decision.by_thresholds_alone:
        raise DataError(
            f"{run.path} decides by more than thresholds ({run.decision.spec}): first "
            f"tune {run.path} --decide thresholds --calibrate none --at-least 0 --at-most 0"
        )
    network = _network(run.model.head)
    if network is None:
        able = ", ".join(name for name in heads.HEADS if _is_able(heads.make(name)))
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
        model = onnx.load_from_string(_onnx(Whole(run, network).eval(), torch.from_numpy(rows)))
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        raise ExportError(f"torch cannot export head {run.spec.head}: {brief(error)}") from error
    onnx.helper.set_model_props(model, metadata(run))
    content: bytes = model.SerializeToString()
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3  # errors: what it says below is for its developers
    session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    difference = max(_difference(run, session, some) for some in (rows, rows[:1], rows[-1:]))
    if not difference <= TOLERANCE:
        raise ExportError(f"{path} is not written: its scores differ from the run's by {difference:.1e}")
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return difference


def metadata(run: Run) -> dict[str, str]:
    """What the file says of itself."""
    features, first = [], 0
    for name, (length, width) in run.shapes.items():
        source = run.record.features[name]
        place = {"length": length, "width": width, "first_column": first}
        features.append({"name": name, "key": source and source.key, **place})
        first += length * width
    thresholds = dict(zip(run.record.classes, run.decision.thresholds.tolist(), strict=True))
    told = {"features": features, "classes": run.record.classes, "thresholds": thresholds}
    return {
        "head": run.spec.head,
        "objective": run.decision.spec.objective,
        **{name: json.dumps(one, ensure_ascii=False) for name, one in told.items()},
    }


class Whole(nn.Module):
    """Features (b, d) as they are stored → scores and labels, (b, c) both, as the run gives them."""

    mean: Tensor
    scale: Tensor
    thresholds: Tensor

    def __init__(self, run: Run, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.from_numpy(run.model.mean))
        self.register_buffer("scale", torch.from_numpy(run.model.scale))
        self.register_buffer(
            "thresholds", torch.from_numpy(run.decision.thresholds)
        )  # float64, as scores are cut

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Scores, and whether they reach their thresholds."""
        standard = (features - self.mean) / self.scale
        scores = self.network(torch.where(standard.isnan(), 0.0, standard)).sigmoid()
        return scores, scores.double() >= self.thresholds


class Products(nn.Module):
    """What `nn.Bilinear` computes, by an operator that ONNX has."""

    def __init__(self, layer: nn.Bilinear) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, X: Tensor, Y: Tensor) -> Tensor:
        """(b, o) of X (b, i) and Y (b, j)."""
        return torch.einsum("bi,oij,bj->bo", X, self.weight, Y) + self.bias


def _network(head: Head) -> nn.Module | None:
    """What maps standardised rows (b, d) to logits (b, c), on the CPU; of torch's heads alone."""
    if isinstance(head, Linear):
        c, d = head.coef_.shape
        layer = nn.Linear(d, c, device="meta")  # drawing no random numbers
        layer.weight, layer.bias = (nn.Parameter(torch.from_numpy(x)) for x in (head.coef_, head.intercept_))
        return layer
    if _is_able(head):
        network: nn.Module = deepcopy(head.network_).cpu()
        for module in [*network.modules()]:
            for name, child in module.named_children():
                if isinstance(child, nn.Bilinear):
                    setattr(module, name, Products(child))
        return network
    return None


def _is_able(head: Head) -> TypeGuard[Linear | TorchHead]:
    """Whether it is a network of fixed steps, as a decoder's search is not."""
    return isinstance(head, Linear | TorchHead) and not isinstance(head, LabelRNN)


def _example(run: Run) -> NDArray[np.float32]:
    """Random rows (n, d): whole ones first, then of sequences of all lengths with features missing, at the
    end one with nothing.
    """
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(ROWS, len(run.model.mean))).astype(np.float32)
    rows = rows * run.model.scale + np.nan_to_num(run.model.mean)
    first = 0
    for length, width in run.shapes.values():
        block = rows[:, first : first + length * width].reshape(ROWS, length, width)
        ends = rng.integers(0, length + 1, ROWS)  # 0: missing
        ends[: ROWS // 4], ends[-1] = length, 0
        block[np.arange(length) >= ends[:, None]] = np.nan
        rows[:, first : first + length * width] = block.reshape(ROWS, -1)
        first += length * width
    return rows


def _difference(run: Run, session: Any, rows: NDArray[np.float32]) -> float:
    """The largest difference of a score from the run's; infinite where a label is not its score's."""
    scores, labels = session.run(["scores", "labels"], {"features": rows})
    wanted = run.model.scores(rows)
    if scores.shape != wanted.shape or not np.array_equal(labels, run.decision(scores)):
        return float("inf")
    return float(np.abs(scores - wanted).max())


def _onnx(whole: nn.Module, rows: Tensor) -> bytes:
    """The file's content, for any number of rows."""
    with TemporaryDirectory() as folder, silenced(1, 2), _plain_attention():
        path = Path(folder) / "run.onnx"
        torch.onnx.export(
            whole,
            (rows,),
            path,
            input_names=["features"],
            output_names=["scores", "labels"],
            dynamic_axes={name: {0: "batch"} for name in ("features", "scores", "labels")},
            opset_version=OPSET,
            dynamo=False,  # its successor needs a further library
        )
        return path.read_bytes()


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention by torch's common operators; its own fast path is one that no exporter knows."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
