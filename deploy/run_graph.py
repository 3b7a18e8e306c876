"""A run without its encoders as a torch module: standardisation, network, decision rule."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from encode_once.cache import DataError
from encode_once.classify import heads
from encode_once.classify.arrays import LabelMatrix, Scores, Vectors
from encode_once.classify.data.columns import ColumnValues, column_of
from encode_once.classify.data.labels import MULTI
from encode_once.classify.data.text.tfidf import TfIdf
from encode_once.classify.heads.base import Head
from encode_once.classify.heads.label_rnn import LabelRNN
from encode_once.classify.heads.linear import Linear
from encode_once.classify.heads.task import probabilities as head_probabilities
from encode_once.classify.heads.torch.head import TorchHead
from encode_once.classify.heads.wrapped import Wrapped
from encode_once.classify.runs.run import Run
from encode_once.deploy.decision_graph import DecisionGraph
from encode_once.deploy.onnx_file import ExportError

SMALLEST_TOTAL = torch.finfo(torch.float32).tiny


class RunGraph(nn.Module):
    """Stored features → scores and labels, both (b, c), as the run gives them."""

    mean: Tensor
    scale: Tensor

    def __init__(self, run: Run) -> None:
        """Take the parts of a run.

        Raises:
            DataError: the head is neither linear nor a torch network of fixed steps.
        """
        super().__init__()
        if not _is_exportable(run.model.head):
            able = ", ".join(name for name in heads.HEADS if _is_exportable(heads.make(name)))
            raise DataError(f"a run of head {run.spec.head} cannot be exported; those of {able} can")
        self.network, self.task = _network(run.model.head), run.spec.task
        self.own_task = getattr(run.model.head, "task", MULTI)
        self.decision = DecisionGraph(run.decision)
        self.register_buffer("mean", torch.from_numpy(run.model.mean))
        self.register_buffer("scale", torch.from_numpy(run.model.scale))

    def forward(self, *blocks: Tensor) -> tuple[Tensor, Tensor]:
        """Scores as `predict --scores` writes them, and labels.

        blocks: the features (b, length * width) in the run's order, or all side by side; NaN where missing.
        """
        features = torch.cat(blocks, dim=1) if len(blocks) > 1 else blocks[0]
        standard = (features - self.mean) / self.scale
        logits = self.network(torch.where(standard.isnan(), 0.0, standard))
        scores = head_probabilities(logits, self.own_task)
        if self.task != MULTI:  # see `of_task`
            total = scores.sum(dim=1, keepdim=True)
            equal = torch.full_like(scores, 1 / scores.shape[1])
            scores = torch.where(total > 0, scores / total.clamp(min=SMALLEST_TOTAL), equal)
        probabilities, labels = self.decision(scores)
        return probabilities.float(), labels


class BilinearByEinsum(nn.Module):
    """`nn.Bilinear` by an operator that ONNX has."""

    def __init__(self, layer: nn.Bilinear) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, X: Tensor, Y: Tensor) -> Tensor:
        """(b, o) from X (b, i) and Y (b, j)."""
        return torch.einsum("bi,oij,bj->bo", X, self.weight, Y) + self.bias


def _is_exportable(head: Head) -> TypeGuard[Linear | Wrapped | TorchHead]:
    """Whether the head is a network of fixed steps, which the search of a decoder is not."""
    if isinstance(head, Wrapped):
        return head.linear is not None
    return isinstance(head, Linear | TorchHead) and not isinstance(head, LabelRNN)


def _network(head: Linear | Wrapped | TorchHead) -> nn.Module:
    """The network from standardised rows (b, d) to logits (b, c), on the CPU."""
    if isinstance(head, Linear | Wrapped):
        linear = (head.coef_, head.intercept_) if isinstance(head, Linear) else head.linear
        assert linear is not None  # it is exportable
        coef, intercept = linear
        c, d = coef.shape
        layer = nn.Linear(d, c, device="meta")  # draws no random numbers
        layer.weight, layer.bias = (nn.Parameter(torch.from_numpy(x)) for x in (coef, intercept))
        return layer
    network: nn.Module = deepcopy(head.network_).cpu()
    for module in [*network.modules()]:
        for name, child in module.named_children():
            if isinstance(child, nn.Bilinear):
                setattr(module, name, BilinearByEinsum(child))
    return network


def run_metadata(run: Run) -> dict[str, Any]:
    """What the metadata of a file say of a run, as JSON values.

    thresholds: of `scores`; None if the run compares label sets. features: name, key in the store (None
    for a feature that the run learned), length, width and first column of each; of tf-idf also its words and
    their weights, of a table's column its categories. hierarchy: pairs of a class and one above it, by which
    scores and labels are closed upward.
    """
    features: list[dict[str, Any]] = []
    first = 0
    for name, (length, width) in run.shapes.items():
        stored = run.record.features[name]
        entry = {"name": name, "key": stored.key if stored else None, "length": length, "width": width}
        features.append({**entry, "first_column": first, **_learned(run, name)})
        first += length * width
    by_thresholds = run.decision.spec.decide == "thresholds"
    thresholds = dict(zip(run.record.classes, run.decision.thresholds.tolist(), strict=True))
    return {
        "head": run.spec.head,
        "objective": run.decision.summary["objective"],
        "decided": run.decision.summary["decided"],
        "features": features,
        "classes": run.record.classes,
        "hierarchy": [[run.record.classes[c] for c in pair] for pair in run.pairs]
        if run.pairs is not None
        else [],
        "thresholds": thresholds if by_thresholds else None,
    }


def undescribed(run: Run) -> list[str]:
    """The learned features that another program cannot make, as the file does not hold what they learned."""
    learned = run.model.vectorisers
    return [name for name in learned if not _learned(run, name)]


def _learned(run: Run, name: str) -> dict[str, Any]:
    """What a learned feature is made with: words and what their counts are multiplied by, or categories."""
    vectoriser = run.model.vectorisers.get(name)
    if isinstance(vectoriser, ColumnValues):
        return {
            "column": column_of(name)[0],
            "categories": vectoriser.categories_,
            "computed": "1 for the category of the cell, else 0; without categories the number itself; NaN "
            "for a missing cell",
        }
    if not isinstance(vectoriser, TfIdf):
        return {}
    words, weights = vectoriser.vocabulary
    return {
        "words": words,
        "weights": weights.tolist(),
        "computed": "counts of the words of the caption in lower case (\\b\\w\\w+\\b), times weights, "
        "divided by the norm; NaN without any such word",
    }


@dataclass(frozen=True)
class Agreement:
    """How the scores and labels of a graph differ from those of its run."""

    difference: float  # of a score, the largest
    rows: int
    differing: int  # rows with other labels, because a score differs

    def text(self, what: str) -> str:
        """The comparison in words; what: the kind of rows."""
        labels = f"{self.differing} have other labels" if self.differing else "all have the same labels"
        return (
            f"scores of {self.rows} {what} differ from the run's by {self.difference:.1e} at most; {labels}"
        )

    def as_json(self) -> dict[str, Any]:
        """The comparison as the command prints it."""
        counts = {"rows": self.rows, "rows_differing": self.differing}
        return {"difference": self.difference, "same_labels": self.differing == 0, **counts}


def compare(run: Run, expected: Scores, scores: Vectors, labels: LabelMatrix, tolerance: float) -> Agreement:
    """Compare a graph's scores and labels (n, c) with a run's.

    A row may have other labels only if the run's decision rule gives these for the graph's scores, too.

    Args:
        expected: the scores (n, c) of the run's head, not calibrated.
        tolerance: that these may differ by.

    Raises:
        ExportError: they differ by more.
    """
    rule = run.decision
    probabilities = rule.probabilities(expected)
    if scores.shape != probabilities.shape:
        raise ExportError(f"its scores are {scores.shape}, and the run's {probabilities.shape}")
    difference = float(np.abs(scores - probabilities).max())
    # Calibration rises with the score, and isotonic calibration may jump.
    low, high = (rule.probabilities((expected + d).clip(0, 1)) for d in (-tolerance, tolerance))
    if not ((low - tolerance <= scores) & (scores <= high + tolerance)).all():
        raise ExportError(f"its scores differ from the run's by {difference:.1e}")
    differs = (labels != rule.choose(probabilities)).any(axis=1)
    if not np.array_equal(labels[differs], rule.choose(scores.astype(np.float64))[differs]):
        raise ExportError("its labels do not follow from its scores as the run's do")
    return Agreement(difference, len(scores), int(differs.sum()))
