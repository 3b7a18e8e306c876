"""A run's decision rule as a torch module of standard operators, which an ONNX file can hold.

The expected F1 of a row's k likeliest labels is a sum over the numbers of true labels, which
`classify.decisions.expected_f1` computes by a recursion. ONNX has no short form of that, but the sum is also
an integral. Let a of the k labels and b of the others be true. As 1 / m = ∫ t^(m - 1) dt over [0, 1],

    F(k) = E[2 a / (k + a + b)] = 2 ∫ t^(k - 1) E[a t^a] E[t^b] dt,

and for independent labels of probabilities p_1 ≥ p_2 ≥ … ≥ p_c the expectations are products:

    F(k) = 2 ∫ t^k  Π_i (1 - p_i + p_i t)  Σ_(i ≤ k) p_i / (1 - p_i + p_i t) dt.

The integrand is a polynomial, so that Gauss and Legendre's nodes give the integral exactly, or with fewer
nodes nearly so (see `expected_mean.quadrature`). Nothing is subtracted, so that rounding errors stay those of
float64.
"""

import numpy as np
import torch
from torch import Tensor, nn

from encode_once.classify.decisions.calibration import COARSE, FINEST, Calibration
from encode_once.classify.decisions.expected_f1 import ROUNDING
from encode_once.classify.decisions.expected_mean import quadrature
from encode_once.classify.decisions.rule import SETS, DecisionRule

SMALLEST = 1e-300  # a margin of a label that is not chosen is at most minus that


class DecisionGraph(nn.Module):
    """Scores (b, c) float32 → probabilities float64 and labels bool, both (b, c), as the rule gives them."""

    def __init__(self, rule: DecisionRule) -> None:
        super().__init__()
        self.calibration: nn.Module | None = None
        if rule.calibration is not None:
            by_pieces = rule.calibration.method == "isotonic"
            self.calibration = (PiecesGraph if by_pieces else LinesGraph)(rule.calibration)
        bounds = rule.spec.bounds
        self.choose: nn.Module
        if rule.spec.decide in SETS:
            sets = ExpectedF1Graph if rule.gains is None else ExpectedMeanGraph
            self.choose = InOrder(sets(rule), rule, *bounds)
        elif rule.spec.decide == "argmax":
            self.choose = InOrder(HighestGraph(), rule, *bounds)
        elif bounds == (0, None):
            self.choose = ThresholdGraph(rule)
        else:
            self.choose = InOrder(MarginGraph(rule), rule, *bounds)

        self.closed = UpwardGraph(rule)

    def forward(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities, which are the scores if the rule does not calibrate them, and labels."""
        probabilities = scores.double()
        if self.calibration is not None:
            probabilities = self.calibration(probabilities)
        probabilities = self.closed(probabilities)
        labels: Tensor = self.choose(probabilities)
        return probabilities, self.closed(labels.float()) > 0 if self.closed.groups else labels


class UpwardGraph(nn.Module):
    """`raised`: values (b, c) → of each class the highest of its own and of those below it in a hierarchy."""

    def __init__(self, rule: DecisionRule) -> None:
        super().__init__()
        below: dict[int, list[int]] = {}
        for child, parent in [] if rule.pairs is None else rule.pairs.tolist():
            below.setdefault(parent, [parent]).append(child)
        self.groups = [*below.values()]
        places = {parent: len(rule.thresholds) + k for k, parent in enumerate(below)}
        self.places = [places.get(column, column) for column in range(len(rule.thresholds))]

    def forward(self, values: Tensor) -> Tensor:
        """The values, closed upward."""
        if not self.groups:
            return values
        highest = [values[:, group].amax(dim=1, keepdim=True) for group in self.groups]
        return torch.cat([values, *highest], dim=1)[:, self.places]


class LinesGraph(nn.Module):
    """`Calibration` by a line per class: scores (b, c) → probabilities (b, c), float64."""

    intercepts: Tensor
    slopes: Tensor

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        intercepts, slopes = np.array(calibration.parameters).T
        self.register_buffer("intercepts", torch.from_numpy(intercepts))
        self.register_buffer("slopes", torch.from_numpy(slopes))

    def forward(self, scores: Tensor) -> Tensor:
        """Probabilities."""
        return torch.sigmoid(self.intercepts + self.slopes * _logits(scores, COARSE))


class PiecesGraph(nn.Module):
    """`Calibration` by straight pieces per class: scores (b, c) → probabilities (b, c), float64."""

    starts: Tensor
    widths: Tensor
    slopes: Tensor
    lowest: Tensor

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        most = max(corners.shape[1] for corners in calibration.parameters)
        # The last corner of a class is repeated, so that all have equally many.
        padded = [np.pad(p, [(0, 0), (0, most - p.shape[1])], "edge") for p in calibration.parameters]
        x, y = np.stack(padded, axis=1)  # (c, corners)
        widths, rises = np.diff(x), np.diff(y)
        slopes = np.divide(rises, widths, out=np.zeros_like(rises), where=widths > 0)
        for name, values in {
            "starts": x[:, :-1],
            "widths": widths,
            "slopes": slopes,
            "lowest": y[:, 0],
        }.items():
            self.register_buffer(name, torch.from_numpy(values.copy()))

    def forward(self, scores: Tensor) -> Tensor:
        """Probabilities."""
        beyond = (_logits(scores, COARSE)[..., None] - self.starts).clamp(min=0)  # (b, c, pieces)
        return self.lowest + (torch.minimum(beyond, self.widths) * self.slopes).sum(dim=2)


class ThresholdGraph(nn.Module):
    """Probabilities (b, c) → whether they reach their thresholds, (b, c)."""

    thresholds: Tensor

    def __init__(self, rule: DecisionRule) -> None:
        super().__init__()
        self.register_buffer("thresholds", torch.from_numpy(rule.thresholds))

    def forward(self, probabilities: Tensor) -> Tensor:
        """Labels."""
        return probabilities >= self.thresholds


class InOrder(nn.Module):
    """Probabilities (b, c) → labels (b, c): a number of those that come first in a row, within bounds.

    ranking: probabilities (b, c), with columns in the rule's order of precedence → the columns in the order
        in which they are chosen, and how many are, (b, 1). Of equal ones the first column comes first.
    """

    order: Tensor
    inverse: Tensor

    def __init__(self, ranking: nn.Module, rule: DecisionRule, at_least: int, at_most: int | None) -> None:
        super().__init__()
        c = len(rule.thresholds)
        order = np.arange(c) if rule.precedence is None else rule.precedence
        self.ranking, self.at_least, self.at_most = ranking, min(at_least, c), min(at_most or c, c)
        self.register_buffer("order", torch.from_numpy(order))
        self.register_buffer("inverse", torch.from_numpy(np.argsort(order)))

    def forward(self, probabilities: Tensor) -> Tensor:
        """Labels."""
        probabilities = probabilities[:, self.order]
        ranked, sizes = self.ranking(probabilities)
        sizes = sizes.clamp(self.at_least, self.at_most)
        chosen = torch.arange(len(self.order)) < sizes  # (b, c), in the order of `ranked`
        return torch.zeros_like(chosen).scatter(1, ranked, chosen)[:, self.inverse]


class MarginGraph(nn.Module):
    """Probabilities (b, c) → columns by how far they are above their thresholds, and how many reach them."""

    thresholds: Tensor
    threshold_logits: Tensor

    def __init__(self, rule: DecisionRule) -> None:
        super().__init__()
        order = np.arange(len(rule.thresholds)) if rule.precedence is None else rule.precedence
        thresholds = torch.from_numpy(rule.thresholds[order])
        self.register_buffer("thresholds", thresholds)
        self.register_buffer("threshold_logits", _logits(thresholds, FINEST))

    def forward(self, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """Columns in order, and their number."""
        reached = probabilities >= self.thresholds
        margins = _logits(probabilities, FINEST) - self.threshold_logits
        # Those that reach their thresholds come first, however margins were rounded.
        margins = torch.where(reached, margins.clamp(min=0), margins.clamp(max=-SMALLEST))
        return _descending(margins)[1], reached.long().sum(dim=1, keepdim=True)


class HighestGraph(nn.Module):
    """Probabilities (b, c) → columns in descending order, of which one is chosen."""

    def forward(self, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """Columns in order, and their number."""
        ranked = _descending(probabilities)[1]
        return ranked, torch.ones_like(ranked[:, :1])


class ExpectedF1Graph(nn.Module):
    """Probabilities (b, c) → columns in descending order, and the size of the set of greatest expected F1."""

    nodes: Tensor
    powers: Tensor
    allowed: Tensor

    def __init__(self, rule: DecisionRule) -> None:
        super().__init__()
        c = len(rule.thresholds)
        least, self.largest = rule.set_sizes
        nodes, powers = quadrature(c, self.largest, c)  # (nodes, k)
        self.register_buffer("nodes", torch.from_numpy(nodes))
        self.register_buffer("powers", torch.from_numpy(powers))
        self.register_buffer("allowed", torch.arange(self.largest + 1) >= least)

    def forward(self, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """Columns in order, and their number."""
        p, ranked = _descending(probabilities)
        factors = 1 - p[..., None] + p[..., None] * self.nodes  # (b, c, nodes)
        product = factors.log().sum(dim=1, keepdim=True).exp()  # (b, 1, nodes)
        first = (p[..., None] / factors)[:, : self.largest].cumsum(dim=1)  # (b, k, nodes)
        values = (first * product * self.powers.T).sum(dim=2)  # (b, k): expected F1 of the first k
        return ranked, self.size(p, values)

    def size(self, p: Tensor, values: Tensor) -> Tensor:
        """The size (b, 1) of the best set, of equally good ones the smallest.

        values: those of the sets of 1, 2, … labels, (b, k).
        """
        empty = (1 - p).log().sum(dim=1, keepdim=True).exp()  # the chance that no label is true
        values = torch.where(self.allowed, torch.cat([empty, values], dim=1), -torch.inf)
        best = values >= values.amax(dim=1, keepdim=True) - ROUNDING
        return best.float().argmax(dim=1, keepdim=True)


class ExpectedMeanGraph(ExpectedF1Graph):
    """Probabilities (b, c) → columns, and the size of the set of `expected_mean`, whose labels come first."""

    lines: Tensor
    sizes: Tensor

    def __init__(self, rule: DecisionRule) -> None:
        super().__init__(rule)
        assert rule.gains is not None
        order = np.arange(len(rule.thresholds)) if rule.precedence is None else rule.precedence
        self.register_buffer("lines", torch.from_numpy(rule.gains[:, order]))
        self.register_buffer("sizes", torch.arange(1, self.largest + 1))

    def forward(self, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """Columns in order, and their number."""
        p = probabilities
        factors = 1 - p[..., None] + p[..., None] * self.nodes  # (b, c, nodes)
        product = factors.log().sum(dim=1, keepdim=True).exp()  # (b, 1, nodes)
        values = (p[..., None] / factors * product) @ self.powers  # (b, c, k)
        values = values + (self.lines[0] * p - self.lines[1])[..., None]
        ordered = values.topk(self.largest, dim=1)  # (b, rank, k)
        within = torch.arange(1, self.largest + 1)[:, None] <= self.sizes  # (rank, k)
        size = self.size(p, torch.where(within, ordered.values, 0.0).sum(dim=1))
        place = (size - 1).clamp(min=0)[..., None].expand(-1, self.largest, -1)
        best = ordered.indices.gather(2, place)[..., 0]  # (b, rank): the best labels of that size
        first = (torch.arange(self.largest) < size).double()
        return _descending(torch.zeros_like(p).scatter(1, best, first))[1], size


def _descending(values: Tensor) -> tuple[Tensor, Tensor]:
    """The values (b, c) in descending order, and their columns; ONNX keeps the order of equal ones."""
    ordered = values.topk(values.shape[1], dim=1)
    return ordered.values, ordered.indices


def _logits(scores: Tensor, clip: float) -> Tensor:
    clipped = scores.clamp(clip, 1 - clip)
    return (clipped / (1 - clipped)).log()
