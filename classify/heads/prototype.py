"""Cosines to one prototype per class, blended with the labels of cached rows: zero-shot or few-shot."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from encode_once.cache.errors import UsageError
from encode_once.classify.arrays import (
    UNKNOWN,
    BoolArray,
    PartialLabels,
    RowIndex,
    Scores,
    Vectors,
    as_partial_labels,
)
from encode_once.classify.data.matrix import MatrixLike, RowView, chunks
from encode_once.classify.device import choose_device, on_device
from encode_once.classify.heads.base import Head
from encode_once.classify.heads.checks import class_frequencies, require_finite, require_memory
from encode_once.classify.heads.estimator import Estimator
from encode_once.classify.heads.leave_one_out import ClassSums
from encode_once.classify.heads.prompts import Prompts, read_prompts
from encode_once.classify.heads.validation import with_validation
from encode_once.classify.partial import entry_weights, positives
from encode_once.classify.platt import fit_lines

QUERIES = 256  # rows compared at a time: their affinities to all cached rows are (256, m)
MAX_CALIBRATED = 8192  # rows that the slopes and intercepts are fitted on …
# … fewer if they have more scores than this: each takes 100 bytes, and 20 settings are tried …
MAX_SCORES = 2**22
MIN_CALIBRATED = 1024  # … but not fewer than these
ROW_BYTES, LABEL_BYTES = 6, 5  # for each number of the cached rows, as float16 and float32, and each label
SPREAD = 0.3  # standard deviation of the classes' slopes, as a share of the common slope


@dataclass(eq=False, repr=False)
class Prototype(Head, Estimator):
    """Zero-shot CLIP, calibrated, blended with a cache of labelled rows (Tip-Adapter, Zhang et al., 2022).

    The score of a row x for a class is (1 - α) cos(x, prototype) / s + α A / t. A is the share of the class
    in the votes of the cached rows, each of which has the weight exp(-β (1 - cos)); s and t are the standard
    deviations of both terms. α and β minimise the BCE of the validation rows, a tenth of the rows if none are
    given. A slope and an intercept for each class turn scores into probabilities; they are fitted on the
    train rows, each scored as if it were not in the cache (see `calibrate`). A row without a vector (all
    zeros) is given the classes' frequencies.

    prompts: vectors of the classes' names, (c, d), or of several prompts a class, (c, k, d), or a .npy file
        of them. If FILE.ids.txt exists, as `store export --to npy` writes it, and `classes` is set, rows are
        matched by name, and all rows of a name are prompts of its class; otherwise they are in the order of
        the classes. Without prompts, a prototype is the mean of the class's cached rows minus the mean of
        all.
    shots: train rows to cache for each class, drawn at random; 0: none, pure zero-shot; by default all.
    alphas, betas: the values to try.
    classes: the names of Y's columns.
    """

    PARTIAL: ClassVar[bool] = True
    # Prototypes (c, d), cached rows (m, d) float16 with their labels (m, c), of which -1 are unknown, β (1,),
    # what cosines and affinities are multiplied by, (2,), and the slopes, intercepts and frequencies of the
    # classes, (c,).
    STATE: ClassVar[Sequence[str]] = (
        "prototypes", "rows", "labels", "beta", "scale", "slope", "intercept", "frequencies",
    )  # fmt: skip

    prompts: Prompts | None = None
    shots: int | None = None
    alphas: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0)
    betas: Sequence[float] = (2.5, 5.0, 10.0, 20.0, 40.0)
    classes: Sequence[str] | None = None
    seed: int = 0
    device: str = "auto"

    @property
    def takes_raw(self) -> bool:
        """With prompts: cosines to them mean nothing on standardised columns."""
        return self.prompts is not None

    def fit(
        self,
        X: MatrixLike,
        Y: PartialLabels,
        X_val: MatrixLike | None = None,
        Y_val: PartialLabels | None = None,
    ) -> "Prototype":
        """Cache rows X (n, d) with their labels Y (n, c); choose α and β, calibrate."""
        if self.shots == 0 and self.prompts is None:
            raise UsageError(
                "head prototype with shots=0 needs prompts: there is nothing else to compare with"
            )
        Y, prompts = as_partial_labels(Y, len(X)), None
        cached = len(X) if self.shots is None else min(len(X), self.shots * Y.shape[1])
        fewer = "--set shots=16 caches 16 rows of each class; or "
        remedy = f"{fewer if self.shots is None or self.shots > 16 else ''}--head linear needs less"
        require_memory("prototype", cached * (ROW_BYTES * X.shape[1] + LABEL_BYTES * Y.shape[1]), remedy)
        if self.prompts is not None:
            prompts = read_prompts(self.prompts, self.classes, X.shape[1], Y.shape[1])
        X_train, Y_train, X_validation, Y_validation = with_validation(X, Y, X_val, Y_val, self.seed)
        cache = self._fill_cache(X_train, Y_train, prompts)
        pairs = [(alpha, beta) for alpha in self.alphas for beta in (self.betas if alpha else self.betas[:1])]
        if not len(self.rows_):
            pairs = [(0.0, self.betas[0])]
        compared = self._compare(X_train, Y_train, self.betas, cache)
        alpha, beta = pairs[0]
        if len(pairs) > 1:
            validation = self._compare(X_validation, Y_validation, self.betas)
            alpha, beta = _choose(pairs, compared, validation)
        if X_val is None or Y_val is None:
            compared = self._compare(X, Y, [beta], self._fill_cache(X, Y, prompts))
        self.beta_ = np.array([beta], np.float32)
        self.scale_, slope, intercept = _calibrated(compared, alpha, beta)
        self.slope_, self.intercept_ = slope.cpu().numpy(), intercept.cpu().numpy()
        if alpha == 0:  # the cached rows have no weight
            self._empty_cache()
        return self

    def predict_proba(self, X: MatrixLike) -> Scores:
        device = choose_device(self.device)
        slope, intercept = on_device(self.slope_, device), on_device(self.intercept_, device)
        frequencies = on_device(self.frequencies_, device)
        parts = []
        for has_vector, cosines, (affinities,) in self._similarities(X, [float(self.beta_[0])]):
            scores = (_blend(cosines, affinities, self.scale_) * slope + intercept).sigmoid()
            parts.append(torch.where(has_vector[:, None], scores, frequencies).cpu().numpy())
        return np.concatenate(parts)

    def _fill_cache(self, X: MatrixLike, Y: PartialLabels, prompts: Vectors | None) -> "_Cache":
        """Set the cached rows, the prototypes and the frequencies."""
        has_vector = np.concatenate([X[part].any(axis=1) for part in chunks(*X.shape)])
        cached = np.flatnonzero(_draw(Y, has_vector, self.shots, self.seed))
        places = np.full(len(Y), -1)
        places[cached] = np.arange(len(cached))
        X_cached = RowView(X, cached)
        self.rows_: NDArray[np.float16] = np.empty(X_cached.shape, np.float16)
        for part in chunks(*X_cached.shape) if len(cached) else ():
            self.rows_[part] = normalize(torch.as_tensor(X_cached[part])).half().numpy()
        self.labels_: PartialLabels = Y[cached]
        self.frequencies_ = class_frequencies(Y).astype(np.float32)
        if prompts is not None:
            self.prototypes_ = prompts
            return _Cache(places)
        device = choose_device(self.device)
        sums = ClassSums(on_device(self.rows_, device), on_device(positives(self.labels_), device))
        self.prototypes_ = sums.prototypes().cpu().numpy()
        return _Cache(places, sums)

    def _empty_cache(self) -> None:
        self.rows_, self.labels_ = self.rows_[:0], self.labels_[:0]

    def _similarities(
        self, X: MatrixLike, betas: Sequence[float], cache: "_Cache | None" = None
    ) -> Iterator[tuple[Tensor, Tensor, list[Tensor]]]:
        """Which of the next m rows have a vector (m,), their cosines (m, c) and affinities (m, c) by β.

        With `cache`, rows that are in it are compared with the other cached rows only.
        """
        device = choose_device(self.device)
        rows, labels = on_device(self.rows_, device), on_device(positives(self.labels_), device)
        prototypes = on_device(self.prototypes_, device)
        average = labels.mean(0).nan_to_num()
        weights = entry_weights(self.labels_)
        voters = None if weights is None else on_device(weights, device)
        if voters is not None:
            average = labels.sum(0) / voters.sum(0).clamp(min=1)
        start = 0
        for part in chunks(*X.shape):
            for vectors in torch.split(on_device(X[part], device), QUERIES):
                queries = normalize(vectors)
                cosines, near = queries @ prototypes.T, queries @ rows.T
                if cache is not None:
                    places = torch.as_tensor(cache.places[start : start + len(queries)], device=device)
                    is_cached = places >= 0
                    near[is_cached, places[is_cached]] = -torch.inf
                    if cache.sums is not None:
                        own_labels = labels[places[is_cached]]
                        cosines[is_cached] = cache.sums.cosines_without_each(queries[is_cached], own_labels)
                # exp(-β (1 - cos)) as shares of their sum are a softmax; without other rows: the average
                shares = [torch.softmax(beta * near, 1).nan_to_num() for beta in betas]
                affinities = [share @ labels for share in shares]
                if voters is not None:  # of a class, those rows vote whose label is known
                    sums = [share @ voters for share in shares]
                    affinities = [
                        torch.where(total > 0, votes / total, average)
                        for votes, total in zip(affinities, sums, strict=True)
                    ]
                alone = ~near.isfinite().any(1, keepdim=True)
                yield vectors.any(1), cosines, [torch.where(alone, average, votes) for votes in affinities]
                start += len(queries)

    def _compare(
        self, X: MatrixLike, Y: PartialLabels, betas: Sequence[float], cache: "_Cache | None" = None
    ) -> "_Compared":
        """Compare the rows that have a vector; with `cache`, only a sample small enough to calibrate on."""
        most = max(min(MAX_CALIBRATED, MAX_SCORES // Y.shape[1]), MIN_CALIBRATED)
        if cache is not None and len(Y) > most:
            drawn = np.sort(np.random.default_rng(self.seed).permutation(len(Y))[:most])
            X, Y, cache = RowView(X, drawn), Y[drawn], replace(cache, places=cache.places[drawn])
        has_vector, cosines, affinities = zip(*self._similarities(X, betas, cache), strict=True)
        kept = torch.cat(has_vector)
        by_beta = [torch.cat(parts)[kept] for parts in zip(*affinities, strict=True)]
        labels = on_device(np.asarray(Y), kept.device)[kept]
        return _Compared(torch.cat(cosines)[kept], dict(zip(betas, by_beta, strict=True)), labels)


@dataclass(frozen=True)
class _Cache:
    """Each row's place in the cache, (n,), -1 for none; and the sums that prototypes of rows come from."""

    places: RowIndex
    sums: ClassSums | None = None


@dataclass(frozen=True)
class _Compared:
    """Rows compared with the prototypes and the cache."""

    cosines: Tensor  # (n, c)
    affinities: dict[float, Tensor]  # β → (n, c)
    labels: Tensor  # (n, c), of which -1 are unknown


def _choose(
    pairs: Sequence[tuple[float, float]], train: _Compared, validation: _Compared
) -> tuple[float, float]:
    """The α and β of least BCE on the validation rows, calibrated on the train rows.

    If no validation row has a vector, the train rows choose, each scored as if it were not in the cache.
    """
    validation = validation if len(validation.labels) else train
    losses = []
    for alpha, beta in pairs:
        scale, slope, intercept = _calibrated(train, alpha, beta)
        logits = _blend(validation.cosines, validation.affinities[beta], scale) * slope + intercept
        counted = validation.labels != UNKNOWN
        if counted.all():
            losses.append(float(binary_cross_entropy_with_logits(logits, validation.labels)))
        else:
            loss = binary_cross_entropy_with_logits(logits[counted], validation.labels[counted])
            losses.append(float(loss))
    require_finite(np.array(losses), "validation losses of head prototype")
    return pairs[int(np.argmin(losses))]


def _calibrated(train: _Compared, alpha: float, beta: float) -> tuple[Vectors, Tensor, Tensor]:
    """What cosines and affinities are multiplied by, (2,), and slopes and intercepts, (c,) each."""
    affinities = train.affinities[beta]
    scale = np.array([(1 - alpha) / _deviation(train.cosines), alpha / _deviation(affinities)], np.float32)
    slope, intercept = calibrate(_blend(train.cosines, affinities, scale), train.labels)
    return scale, slope, intercept


def calibrate(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Slopes and intercepts (c,) that turn scores (n, c) into logits, with classes that resemble each other.

    Platt scaling, twice. The first time the prior of the slopes is N(0, 1). The second time its mean is the
    average slope, weighted by the curvature of each class's loss, and its standard deviation a share of that:
    a class of few rows takes the slope of the others. One more row at the mean score, half of it with the
    label, keeps the intercept of a class finite that never occurs. Labels of -1 are unknown, and left out.
    """
    center = scores.mean(0).nan_to_num()
    z = torch.cat([scores - center, torch.zeros_like(center)[None]]).double()
    y = torch.cat([labels, torch.full_like(center, 0.5)[None]]).double()
    weights = (y != UNKNOWN).double() if (y == UNKNOWN).any() else None
    mean = y.mean(0)
    if weights is not None:
        y = y.clamp(min=0)
        mean = y.sum(0) / weights.sum(0)
    start = torch.stack([mean.logit(), torch.zeros_like(y[0])])
    lines = fit_lines(z, y, start, 0.0, z.new_tensor([[0.0], [1.0]]), weights=weights)
    p = (lines[0] + lines[1] * z).sigmoid()
    curvature = (p * (1 - p) * z**2 * (1 if weights is None else weights)).sum(0)
    common = float(((lines[1] * curvature).sum() / curvature.sum().clamp(min=1e-12)).clamp(min=0.1))
    prior, precision = z.new_tensor([[0.0], [common]]), z.new_tensor([[0.0], [1 / (SPREAD * common) ** 2]])
    lines = require_finite(
        fit_lines(z, y, lines, prior, precision, weights=weights), "calibration of head prototype"
    )
    intercept, slope = lines.float()
    return slope, intercept - slope * center


def _blend(cosines: Tensor, affinities: Tensor, scale: Vectors) -> Tensor:
    return float(scale[0]) * cosines + float(scale[1]) * affinities


def _deviation(scores: Tensor) -> float:
    """The standard deviation of scores (n, c) from the mean of their class."""
    return max(float((scores - scores.mean(0)).pow(2).mean().sqrt().nan_to_num()), 1e-6)


def _draw(Y: PartialLabels, has_vector: BoolArray, shots: int | None, seed: int) -> BoolArray:
    """Which rows to cache, (n,): at random so many of each class, or all that have a vector."""
    if shots is None:
        return has_vector
    order = np.random.default_rng(seed).permutation(len(Y))
    order = order[has_vector[order]]
    drawn = np.zeros(len(Y), np.bool_)
    for labels in positives(Y).T:
        drawn[order[labels[order]][:shots]] = True
    return drawn
