"""Exact k nearest neighbours; all values of k and of the temperature are tried in one pass.

n rows are held as float16, and compared as float32, a block at a time if they are many. To compare m rows
with them takes 2 n m d operations: an hour at 100 GFlops for 1,600,000 rows, 180,000 others and 768 columns.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, normalize

from encode_once.cache.errors import unknown_name
from encode_once.classify.arrays import UNKNOWN, PartialLabels, Scores, Vectors, as_partial_labels
from encode_once.classify.data.matrix import MatrixLike, RowView, chunks, is_large
from encode_once.classify.device import choose_device, on_device
from encode_once.classify.heads.base import Head
from encode_once.classify.heads.checks import require_finite, require_memory
from encode_once.classify.heads.estimator import Estimator
from encode_once.classify.heads.validation import with_validation
from encode_once.classify.partial import is_partial

METRICS = ("cosine", "l2")
QUERIES = 256  # rows compared at a time: their neighbours' labels are (256, k, c)
BLOCK = 2**25  # numbers of stored rows that they are compared with at a time, if these are many: 128 MiB


@dataclass(eq=False, repr=False)
class KNN(Head, Estimator):
    """The probability of a class is its share of the votes of the k nearest rows and an average row.

    Of a class, only neighbours vote whose label is known.

    A row at distance d votes with weight exp(-(d - d₁) / (temperature · spread)), where d₁ is the distance of
    the nearest row, and `spread` the mean difference between the distances of the nearest and of the k-th row
    for the largest k. At an infinite temperature all votes are equal. k and the temperature minimise the BCE
    of the validation rows over all classes together, because a rare class has too few rows to choose by.

    ks, temperatures: the values to try.
    metric: "cosine" or "l2".
    rows: the most rows to hold; of more, so many are drawn at random, and only these vote.
    """

    CHOICES: ClassVar[Mapping[str, Sequence[str]]] = {"metric": METRICS}
    SEEDED: ClassVar[bool] = False
    PARTIAL: ClassVar[bool] = True
    # The rows (n, d) float16 with their labels (n, c), of which -1 are unknown; the spread, k and the
    # temperature, each (1,).
    STATE: ClassVar[Sequence[str]] = ("rows", "labels", "spread", "k", "temperature")

    ks: Sequence[int] = (5, 10, 20, 40, 80, 160)
    temperatures: Sequence[float] = (0.1, 0.2, 0.4, float("inf"))
    metric: str = "cosine"
    rows: int | None = None
    seed: int = 0
    device: str = "auto"

    def fit(
        self,
        X: MatrixLike,
        Y: PartialLabels,
        X_val: MatrixLike | None = None,
        Y_val: PartialLabels | None = None,
    ) -> "KNN":
        """Store the rows X (n, d) with their labels Y (n, c); choose k and the temperature."""
        if self.metric not in METRICS:
            raise unknown_name("metric", self.metric, METRICS)
        Y = as_partial_labels(Y, len(X))
        rows = X.shape[0] if self.rows is None else min(self.rows, X.shape[0])
        remedy = "--set rows=200000 holds so many, drawn at random; or --head prototype or linear"
        require_memory("knn", rows * (2 * X.shape[1] + Y.shape[1]), remedy)
        X_train, Y_train, X_validation, Y_validation = with_validation(X, Y, X_val, Y_val, self.seed)
        self._store(X_train, Y_train)
        ks = sorted({min(k, len(self.rows_)) for k in self.ks})
        self._choose(X_validation, Y_validation, ks)
        if X_val is None or Y_val is None:
            self._store(X, Y)
        return self

    def predict_proba(self, X: MatrixLike) -> Scores:
        labels = on_device(self.labels_, choose_device(self.device))
        temperature, k = float(self.temperature_[0]), int(self.k_[0])
        average = _frequencies(labels)
        parts = []
        for distances, rows in self._neighbours(X, k):
            shares = self._shares(distances, labels[rows], average, [temperature], [k])
            parts.append(shares[:, 0].cpu().numpy())
        return np.concatenate(parts)

    def _store(self, X: MatrixLike, Y: PartialLabels) -> None:
        if self.rows is not None and self.rows < len(X):
            drawn = np.sort(np.random.default_rng(0).choice(len(X), self.rows, replace=False))
            X, Y = RowView(X, drawn), Y[drawn]
        # In the order of a loaded state, whose sums are rounded alike.
        self.rows_ = np.empty(X.shape, np.float16)
        for part in chunks(*X.shape):
            rows = self._comparable(X[part]).half().numpy()
            self.rows_[part] = require_finite(rows, "rows of head knn as float16")
        self.labels_ = Y

    def _comparable(self, rows: Vectors) -> Tensor:
        vectors = torch.as_tensor(rows)
        return normalize(vectors) if self.metric == "cosine" else vectors

    def _neighbours(self, X: MatrixLike, k: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Distances (m, k) of the next m rows of X to the nearest stored rows, and the indices of these."""
        device = choose_device(self.device)
        stored = torch.as_tensor(self.rows_)
        if is_large(self.rows_):
            blocks = torch.split(stored, max(BLOCK // stored.shape[1], k))
        else:
            blocks = (stored.to(device).float(),)
        squares = torch.cat([rows.to(device).float().square().sum(1) for rows in blocks])  # (n,)
        for part in chunks(len(X)):
            for rows in torch.split(self._comparable(X[part]).to(device), QUERIES):
                nearest = self._nearest(rows, blocks, squares, k)
                distances = (nearest.values + (rows * rows).sum(1, keepdim=True)).clamp(min=0)
                yield distances / 2 if self.metric == "cosine" else distances.sqrt(), nearest.indices

    def _nearest(self, queries: Tensor, blocks: Sequence[Tensor], squares: Tensor, k: int) -> "Nearest":
        """|b|² - 2ab of the k nearest rows b to each query a (m, d), and the indices of these rows.

        |a - b|² = |a|² + |b|² - 2ab, which is 2 (1 - cosine) for vectors of length 1.
        """
        nearest, start = None, 0
        for block in blocks:
            rows = block.to(queries)
            # With the long side first, a CPU multiplies a third faster.
            partial = torch.addmm(squares[start : start + len(rows), None], rows, queries.T, alpha=-2)
            of_block = partial.T.contiguous().topk(min(k, len(rows)), largest=False)  # of (m, rows)
            near = Nearest(of_block.values, of_block.indices + start)
            nearest, start = near if nearest is None else nearest.merged(near, k), start + len(rows)
        assert nearest is not None
        return nearest

    def _choose(self, X: MatrixLike, Y: PartialLabels, ks: Sequence[int]) -> None:
        """Set the spread, k and the temperature, (1,) each."""
        neighbours = list(self._neighbours(X, ks[-1]))
        spans = torch.cat([distances[:, -1] - distances[:, 0] for distances, _ in neighbours])
        require_finite(spans, "distances of the validation rows to the rows of head knn")
        self.spread_ = spans.mean().clamp(min=1e-12).cpu().numpy()[None]
        device = choose_device(self.device)
        labels, truth = on_device(self.labels_, device), on_device(Y, device)
        average = _frequencies(labels)
        settings = list(product(self.temperatures, ks))
        loss = np.zeros(len(settings))
        start, labels_are_known = 0, bool((truth != UNKNOWN).all())
        for distances, rows in neighbours:
            Y_part = truth[start : start + len(rows)]
            shares = self._shares(distances, labels[rows], average, self.temperatures, ks)
            counted = None if labels_are_known else (Y_part != UNKNOWN).float()
            targets = Y_part.clamp(min=0)
            loss += [
                float(binary_cross_entropy(share, targets, counted, reduction="sum"))
                for share in shares.unbind(1)
            ]
            start += len(rows)
        require_finite(loss, "validation losses of head knn")
        temperature, k = settings[int(loss.argmin())]
        self.k_, self.temperature_ = np.array([k], np.int64), np.array([temperature], np.float32)

    def _shares(
        self,
        distances: Tensor,
        labels: Tensor,
        average: Tensor,
        temperatures: Sequence[float],
        ks: Sequence[int],
    ) -> Tensor:
        """The classes' shares of the votes of the neighbours, (m, temperatures · ks, c).

        Distances (m, n) and labels (m, n, c) of the nearest n rows, of which each k of `ks` takes the first.
        """
        scales = distances.new_tensor(temperatures)[:, None] * float(self.spread_[0])
        weights = torch.exp(-(distances - distances[:, :1])[:, None] / scales)  # (m, temperatures, n)
        places = torch.arange(distances.shape[1], device=distances.device)
        within = places < torch.tensor(ks, device=distances.device)[:, None]  # (ks, n)
        weights = (weights[:, :, None] * within).flatten(1, 2)
        voters = weights.sum(2, keepdim=True)
        if is_partial(self.labels_):
            voters, labels = weights @ (labels != UNKNOWN).float(), labels.clamp(min=0)
        shares = (weights @ labels + average) / (voters + 1)
        return shares.clamp(max=1)  # the sums are rounded differently


class Nearest(NamedTuple):
    """Rows that are near to each of m queries, the nearest first."""

    values: Tensor  # (m, k), that order them
    indices: Tensor  # (m, k)

    def merged(self, others: "Nearest", k: int) -> "Nearest":
        """The k nearest of both."""
        values = torch.cat([self.values, others.values], dim=1)
        nearest = values.topk(k, largest=False)
        indices = torch.cat([self.indices, others.indices], dim=1).gather(1, nearest.indices)
        return Nearest(nearest.values, indices)


def _frequencies(labels: Tensor) -> Tensor:
    """The share of positives among the known labels of each class, (c,), of labels (n, c)."""
    return labels.clamp(min=0).sum(0) / (labels != UNKNOWN).sum(0).clamp(min=1)
