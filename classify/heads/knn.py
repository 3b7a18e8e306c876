"""k nearest neighbours, exact or by an index; all values of k and of the temperature are tried in one pass.

n rows are held as float16, and compared as float32, a block at a time if they are many. To compare m rows
with them takes 2 n m d operations: an hour at 100 GFlops for 1,600,000 rows, 180,000 others and 768 columns.
An index (`classify.heads.inverted_file`) compares a row with few of them, and misses some neighbours.
"""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, normalize

from encode_once.cache.errors import unknown_name
from encode_once.cache.progress import ProgressBar
from encode_once.cache.terminal import one_line
from encode_once.classify.arrays import (
    UNKNOWN,
    PartialLabels,
    Scores,
    State,
    Vectors,
    as_partial_labels,
)
from encode_once.classify.data.matrix import MatrixLike, RowView, chunks, sample
from encode_once.classify.device import choose_device, on_device
from encode_once.classify.heads import inverted_file
from encode_once.classify.heads.base import Head
from encode_once.classify.heads.checks import require_finite, require_memory
from encode_once.classify.heads.estimator import Estimator
from encode_once.classify.heads.inverted_file import InvertedFile
from encode_once.classify.heads.nearest import ExactSearch
from encode_once.classify.heads.validation import with_validation
from encode_once.classify.partial import is_partial

METRICS = ("cosine", "l2")
INDICES = ("auto", "exact", "faiss")
QUERIES = 256  # rows compared at a time: their neighbours' labels are (256, k, c)
EXACT = 1e13  # products of numbers up to which "auto" compares all rows: minutes on a few cores
SAMPLE = 256  # validation rows whose neighbours by the index are compared with the exact ones
POOR = 0.9  # share of the neighbours below which the index is warned about


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
    index: "exact" compares a row with all rows, "faiss" with those in the nearest cells of an index, as many
        cells as find 95 % of the neighbours of a sample. "auto" takes the index if it is installed, there is
        no GPU, and comparing the validation rows takes more than 10¹³ products (train rows · validation rows
        · columns).
    """

    CHOICES: ClassVar[Mapping[str, Sequence[str]]] = {"metric": METRICS, "index": INDICES}
    SEEDED: ClassVar[bool] = False
    PARTIAL: ClassVar[bool] = True
    # The rows (n, d) float16 with their labels (n, c), of which -1 are unknown; the spread, k and the
    # temperature, each (1,). With an index, what its `state` returns, too.
    STATE: ClassVar[Sequence[str]] = ("rows", "labels", "spread", "k", "temperature")

    ks: Sequence[int] = (5, 10, 20, 40, 80, 160)
    temperatures: Sequence[float] = (0.1, 0.2, 0.4, float("inf"))
    metric: str = "cosine"
    rows: int | None = None
    index: str = "auto"
    seed: int = 0
    device: str = "auto"
    _inverted: InvertedFile | None = field(default=None, init=False)

    def fit(
        self,
        X: MatrixLike,
        Y: PartialLabels,
        X_val: MatrixLike | None = None,
        Y_val: PartialLabels | None = None,
    ) -> "KNN":
        """Store the rows X (n, d) with their labels Y (n, c); choose k and the temperature."""
        for name, value in (("metric", self.metric), ("index", self.index)):
            if value not in self.CHOICES[name]:
                raise unknown_name(name, value, self.CHOICES[name])
        self.check()
        Y = as_partial_labels(Y, len(X))
        X_train, Y_train, X_validation, Y_validation = with_validation(X, Y, X_val, Y_val, self.seed)
        rows = X.shape[0] if self.rows is None else min(self.rows, X.shape[0])
        is_long = self._is_long(rows * len(X_validation) * X.shape[1])
        has_index = self.index == "faiss" or (is_long and inverted_file.is_installed())
        remedy = "--set rows=200000 holds so many, drawn at random; or --head prototype or linear"
        numbers = rows * X.shape[1] * (2 if has_index else 1)  # the index holds the rows, too
        require_memory("knn", 2 * numbers + rows * Y.shape[1], remedy)
        self._inverted, self.warnings_ = None, []
        self._store(X_train, Y_train)
        ks = sorted({min(k, len(self.rows_)) for k in self.ks})
        if has_index:
            self._learn_index(X_validation, ks[-1])
        self._choose(X_validation, Y_validation, ks, is_slow=is_long and not has_index)
        if X_val is None or Y_val is None:
            self._store(X, Y)
        return self

    def check(self) -> None:
        if self.index == "faiss":
            inverted_file.load_faiss()

    @property
    def notes(self) -> Sequence[str]:
        return [] if self._inverted is None else [f"head knn {self._inverted} (--set index=exact: all)"]

    def state(self) -> State:
        return super().state() | ({} if self._inverted is None else self._inverted.state())

    def load_state(self, state: State) -> None:
        """Restore rows and labels, and fill the index again.

        Raises:
            UsageError: an index was searched, and faiss is missing.
            ValueError: the arrays of the index do not fit one another.
        """
        super().load_state(state)
        self._inverted = InvertedFile.restored(self.rows_, state) if "centroids" in state else None

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
            drawn = sample(len(X), self.rows)
            X, Y = RowView(X, drawn), Y[drawn]
        # In the order of a loaded state, whose sums are rounded alike.
        self.rows_ = np.empty(X.shape, np.float16)
        for part in chunks(*X.shape):
            rows = self._comparable(X[part]).half().numpy()
            self.rows_[part] = require_finite(rows, "rows of head knn as float16")
        self.labels_ = Y
        if self._inverted is not None:
            self._inverted.refill(self.rows_)

    def _is_long(self, products: float) -> bool:
        """Whether "auto" should not compare all rows."""
        return self.index == "auto" and products > EXACT and choose_device(self.device).type == "cpu"

    def _learn_index(self, X: MatrixLike, k: int) -> None:
        """Index the rows; search as many cells as find the k nearest of a sample of the rows X."""
        index = InvertedFile.learned(self.rows_)
        index.choose_probes(self._comparable(X[sample(len(X), SAMPLE)]), k)
        if index.recall < POOR:
            self.warnings_ = [f"head knn {index} and no more: --set index=exact compares all rows"]
        self._inverted = index

    def _comparable(self, rows: Vectors) -> Tensor:
        vectors = torch.as_tensor(rows)
        return normalize(vectors) if self.metric == "cosine" else vectors

    def _neighbours(self, X: MatrixLike, k: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Distances (m, k) of the next m rows of X to the nearest stored rows, and the indices of these."""
        device = choose_device(self.device)
        search = self._inverted or ExactSearch(self.rows_, device)
        for part in chunks(len(X)):
            for rows in torch.split(self._comparable(X[part]).to(device), QUERIES):
                squared, indices = search.nearest(rows, k)
                yield squared / 2 if self.metric == "cosine" else squared.sqrt(), indices

    def _warn_if_slow(self, seconds: float, validation_rows: int) -> None:
        """Say how long the search will take, as soon as that is known."""
        duration = f"{seconds / 60:.0f} minutes" if seconds < 2 * 3600 else f"{seconds / 3600:.0f} hours"
        warning = (
            f"head knn compares {validation_rows:,} validation rows with {len(self.rows_):,} others, which "
            f"takes about {duration}: {inverted_file.EXTRA} adds an index, --set rows=200000 takes a sample"
        )
        self.warnings_ = [warning]
        ProgressBar.write(one_line(warning), file=sys.stderr)

    def _choose(self, X: MatrixLike, Y: PartialLabels, ks: Sequence[int], is_slow: bool) -> None:
        """Set the spread, k and the temperature, (1,) each."""
        start_time, searches = time.monotonic(), self._neighbours(X, ks[-1])
        neighbours = [next(searches)]
        if is_slow:
            searched = len(neighbours[0][0])
            self._warn_if_slow((time.monotonic() - start_time) / searched * len(X), len(X))
        neighbours += searches
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


def _frequencies(labels: Tensor) -> Tensor:
    """The share of positives among the known labels of each class, (c,), of labels (n, c)."""
    return labels.clamp(min=0).sum(0) / (labels != UNKNOWN).sum(0).clamp(min=1)
