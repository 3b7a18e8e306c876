"""Cosines to one prototype a class, and the labels of cached rows: zero-shot by prompts, or by a few rows."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, normalize, softplus

from encode_once.cache.errors import DataError, MissingDataError, UsageError, brief
from encode_once.classify.arrays import BoolArray, LabelMatrix, RowIndex, Scores, State, Vectors
from encode_once.classify.data.matrix import MatrixLike, RowView, chunks
from encode_once.classify.device import choose_device, on_device
from encode_once.classify.heads.base import Head
from encode_once.classify.heads.checks import require_finite
from encode_once.classify.heads.validation import with_validation

QUERIES = 256  # rows asked at a time: their affinities to all cached rows are (256, m)
CALIBRATED = 8192  # rows at most that the slopes and intercepts are fitted on
STEPS, HALVINGS = 12, 6  # of Newton's method, and of a step that does not lessen the loss
LEVEL = 1e-6  # a gain that is none, as a share of the loss
TINY = 1e-12
SPREAD = 0.3  # of the classes' slopes, as a share of the common one


@dataclass(eq=False, repr=False)
class Prototype(Head, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Zero-shot CLIP, calibrated, blended with a cache of labelled rows (Tip-Adapter, Zhang et al., 2022).

    The score of a row x for a class is (1 - α) cos(x, prototype) / s + α A / t, where A is the share of the
    cached rows' votes that have the label, each row's vote being exp(-β (1 - cos)), and s and t the usual
    spreads of both. The α and β of least BCE on the validation rows are taken, a tenth of the rows where none
    are given. A slope and an intercept a class make probabilities of scores; they are fitted on the training
    rows, each scored as if it were not in the cache (see `calibrate`). A row without a vector (all zeros)
    gets the classes' frequencies.

    prompts: vectors of the classes' names, (c, d) or of several prompts a class (c, k, d), or a .npy file of
        such. Where FILE.ids.txt is beside, as `store export --to npy` leaves it, and `classes` are told, rows
        are found by name, and several of one name are a class's prompts; else they are in the classes' order.
        Without prompts, a prototype is the mean of the class's cached rows less the mean of all.
    shots: training rows a class to be cached, drawn at random; 0: none, pure zero-shot; by default all.
    alphas, betas: what is tried.
    classes: the names of Y's columns, which `fit` of a run tells.
    """

    prompts: str | os.PathLike[str] | Sequence[Any] | NDArray[Any] | None = None
    shots: int | None = None
    alphas: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0)
    betas: Sequence[float] = (2.5, 5.0, 10.0, 20.0, 40.0)
    classes: Sequence[str] | None = None
    seed: int = 0
    device: str = "auto"

    @property
    def takes_raw(self) -> bool:
        """Whether X's columns must come as they are: cosines to prompts mean nothing on standardised ones."""
        return self.prompts is not None

    def fit(
        self, X: MatrixLike, Y: LabelMatrix, X_val: MatrixLike | None = None, Y_val: LabelMatrix | None = None
    ) -> "Prototype":
        """Cache rows X (n, d) with their labels Y (n, c); choose α and β, calibrate."""
        if self.shots == 0 and self.prompts is None:
            raise UsageError(
                "head prototype with shots=0 needs prompts: nothing else is there to compare with"
            )
        prompts = self._named_prompts(X.shape[1], Y.shape[1])
        Y = np.asarray(Y, np.bool_)
        X_fit, Y_fit, X_held, Y_held = with_validation(X, Y, X_val, Y_val, self.seed)
        cached = self._keep(X_fit, Y_fit, prompts)
        settings = [
            (alpha, beta) for alpha in self.alphas for beta in (self.betas if alpha else self.betas[:1])
        ]
        if not len(self.rows_):
            settings = [(0.0, self.betas[0])]
        compared = self._compared(X_fit, Y_fit, self.betas, cached)
        if len(settings) > 1:
            alpha, beta = self._best(settings, compared, self._compared(X_held, Y_held, self.betas))
        else:
            alpha, beta = settings[0]
        if X_val is None or Y_val is None:
            compared = self._compared(X, Y, self.betas, self._keep(X, Y, prompts))
        self.beta_ = np.array([beta], np.float32)
        self.scale_, slope, intercept = self._calibrated(compared, alpha, beta)
        self.slope_, self.intercept_ = slope.cpu().numpy(), intercept.cpu().numpy()
        if alpha == 0:  # nobody asks the cached rows
            self._drop_rows()
        return self

    def predict_proba(self, X: MatrixLike) -> Scores:
        """Probabilities (n, c) of the labels of the rows X (n, d)."""
        device = choose_device(self.device)
        slope, intercept = on_device(self.slope_, device), on_device(self.intercept_, device)
        frequencies = on_device(self.frequencies_, device)
        parts = []
        for there, cosines, (affinities,) in self._queries(X, [float(self.beta_[0])]):
            scores = (_blend(cosines, affinities, self.scale_) * slope + intercept).sigmoid()
            parts.append(torch.where(there[:, None], scores, frequencies).cpu().numpy())
        return np.concatenate(parts)

    def state(self) -> State:
        """Prototypes (c, d), cached rows (m, d) float16 with their labels (m, c), β (1,), and the rest.

        The rest is what cosines and affinities are multiplied by, (2,), and the slopes, intercepts and
        frequencies of the classes, (c,) each.
        """
        names = ("prototypes", "rows", "labels", "beta", "scale", "slope", "intercept", "frequencies")
        return {name: getattr(self, f"{name}_") for name in names}

    def load_state(self, state: State) -> None:
        """Take up what another head kept and chose."""
        for name, array in state.items():
            setattr(self, f"{name}_", array)

    def _named_prompts(self, d: int, c: int) -> Vectors | None:
        """The prompts' prototypes (c, d), of length 1; None where there are no prompts."""
        if self.prompts is None:
            return None
        given, what, names = _read(self.prompts)
        if names is not None and self.classes is not None and given.ndim == 2 and len(names) == len(given):
            found = [np.array([name == one for name in names]) for one in self.classes]
            lacking = [one for one, rows in zip(self.classes, found, strict=True) if not rows.any()]
            if lacking:
                raise DataError(
                    f"{what} has no prompt for {len(lacking)} of {c} classes, such as {lacking[0]!r}: "
                    f"its rows' names are in {what}.ids.txt"
                )
            given = np.stack([_unit(given[rows]).mean(axis=0) for rows in found])
        if given.ndim == 3:
            given = _unit(given).mean(axis=1)
        if given.shape != (c, d):
            raise DataError(
                f"{what} holds {given.shape} numbers, but {c} classes and {d} columns need ({c}, {d}): a "
                "prompt for each class, in their order, and --features of the same encoder's images"
            )
        if not np.isfinite(given).all():
            raise DataError(f"{what} holds NaN or infinity: encode the prompts again")
        return _unit(given)

    def _keep(self, X: MatrixLike, Y: LabelMatrix, prompts: Vectors | None) -> "_Cached":
        """Set the cache, the prototypes and the frequencies."""
        there = np.concatenate([X[part].any(axis=1) for part in chunks(*X.shape)])
        kept = np.flatnonzero(_drawn(Y, there, self.shots, self.seed))
        places = np.full(len(Y), -1)
        places[kept] = np.arange(len(kept))
        some = RowView(X, kept)
        self.rows_: NDArray[np.float16] = np.empty((len(kept), X.shape[1]), np.float16)
        for part in chunks(*some.shape) if len(kept) else ():
            self.rows_[part] = normalize(torch.as_tensor(some[part])).half().numpy()
        self.labels_: LabelMatrix = Y[kept]
        self.frequencies_ = ((Y.sum(axis=0) + 0.5) / (len(Y) + 1)).astype(np.float32)
        if prompts is not None:
            self.prototypes_ = prompts
            return _Cached(places)
        device = choose_device(self.device)
        sums = _Sums(on_device(self.rows_, device), on_device(self.labels_, device))
        self.prototypes_ = sums.prototypes().cpu().numpy()
        return _Cached(places, sums)

    def _drop_rows(self) -> None:
        self.rows_, self.labels_ = self.rows_[:0], self.labels_[:0]

    def _queries(
        self, X: MatrixLike, betas: Sequence[float], cached: "_Cached | None" = None
    ) -> Iterator[tuple[Tensor, Tensor, list[Tensor]]]:
        """For some rows of X at a time: which have a vector (m,), cosines (m, c), each β's affinities (m, c).

        Rows that are `cached` are compared with the others only.
        """
        device = choose_device(self.device)
        rows, labels = on_device(self.rows_, device), on_device(self.labels_, device)
        prototypes = on_device(self.prototypes_, device)
        done = 0
        for part in chunks(*X.shape):
            for given in torch.split(on_device(X[part], device), QUERIES):
                queries = normalize(given)
                cosines, near = queries @ prototypes.T, queries @ rows.T
                if cached is not None:
                    places = torch.as_tensor(cached.places[done : done + len(queries)], device=device)
                    mine = places >= 0
                    near[mine, places[mine]] = -torch.inf
                    if cached.sums is not None:
                        cosines[mine] = cached.sums.left_out(queries[mine], labels[places[mine]])
                # exp(-β (1 - cos)) as shares of their sum are a softmax; the average stands in for no rows
                average = labels.mean(0).nan_to_num()
                affinities = [torch.softmax(beta * near, 1).nan_to_num() @ labels for beta in betas]
                alone = ~near.isfinite().any(1, keepdim=True)
                yield given.any(1), cosines, [torch.where(alone, average, one) for one in affinities]
                done += len(queries)

    def _compared(
        self, X: MatrixLike, Y: LabelMatrix, betas: Sequence[float], cached: "_Cached | None" = None
    ) -> "_Compared":
        """Rows that have a vector, at most so many of cached ones, beside prototypes and cache."""
        if cached is not None and len(Y) > CALIBRATED:
            some = np.sort(np.random.default_rng(self.seed).permutation(len(Y))[:CALIBRATED])
            X, Y, cached = RowView(X, some), Y[some], replace(cached, places=cached.places[some])
        found = list(self._queries(X, betas, cached))
        there = torch.cat([these for these, _, _ in found])
        cosines = torch.cat([these for _, these, _ in found])[there]
        affinities = [torch.cat(these)[there] for these in zip(*(one for _, _, one in found), strict=True)]
        truth = on_device(np.asarray(Y), there.device)[there]
        return _Compared(cosines, dict(zip(betas, affinities, strict=True)), truth)

    def _best(
        self, settings: Sequence[tuple[float, float]], fitted: "_Compared", held: "_Compared"
    ) -> tuple[float, float]:
        """The α and β of least BCE on the held rows, calibrated on the fitted ones.

        Where no held row has a vector, on the fitted ones, each scored as if it were not in the cache.
        """
        held = held if len(held.truth) else fitted
        losses = []
        for alpha, beta in settings:
            scale, slope, intercept = self._calibrated(fitted, alpha, beta)
            logits = _blend(held.cosines, held.affinities[beta], scale) * slope + intercept
            losses.append(float(binary_cross_entropy_with_logits(logits, held.truth)))
        require_finite(np.array(losses), "validation losses of head prototype")
        return settings[int(np.argmin(losses))]

    def _calibrated(self, fitted: "_Compared", alpha: float, beta: float) -> tuple[Vectors, Tensor, Tensor]:
        """What cosines and affinities are multiplied by, (2,), and the slopes and intercepts, (c,) each."""
        affinities = fitted.affinities[beta]
        scale = np.array([(1 - alpha) / _spread(fitted.cosines), alpha / _spread(affinities)], np.float32)
        slope, intercept = calibrate(_blend(fitted.cosines, affinities, scale), fitted.truth)
        return scale, slope, intercept


@dataclass(frozen=True)
class _Compared:
    """Rows beside prototypes and cache, and their labels."""

    cosines: Tensor  # (n, c)
    affinities: dict[float, Tensor]  # β → (n, c)
    truth: Tensor  # (n, c)


@dataclass(frozen=True)
class _Cached:
    """Where in the cache rows are, (n,), -1 for nowhere; and what left out rows are taken from, if any is."""

    places: RowIndex
    sums: "_Sums | None" = None


class _Sums:
    """Of the cached rows (m, d) of each class, and of all, from which a row can be taken out again."""

    def __init__(self, rows: Tensor, labels: Tensor) -> None:
        self.of_class, self.counts = labels.T @ rows, labels.sum(0)  # (c, d), (c,)
        self.of_all, self.count = rows.sum(0), len(rows)  # (d,)

    def prototypes(self) -> Tensor:
        """The mean of each class less the mean of all, of length 1, (c, d); 0 for a class without rows."""
        means = self.of_class / self.counts.clamp(min=1)[:, None] - self.of_all / max(self.count, 1)
        return normalize(means * (self.counts > 0)[:, None])

    def left_out(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Cosines (n, c) of cached rows x of length 1 to the prototypes without them.

        With S the sum of a class that has x (y = 1) or not (y = 0), k = |class| - y, and T the sum of all m,
        the prototype without x is p = (S - y x) / k - (T - x) / (m - 1); x·p and |p|² follow from the
        products of x, S and T, so that no prototype is made anew.
        """
        of_class, of_all, rows, y = (one.double() for one in (self.of_class, self.of_all, rows, labels))
        k, others = (self.counts - y).clamp(min=1), max(self.count - 1, 1)
        x_s, x_t = rows @ of_class.T, (rows @ of_all)[:, None]  # (n, c), (n, 1)
        x_x = (rows * rows).sum(1, keepdim=True)
        along = (x_s - y * x_x) / k - (x_t - x_x) / others
        s_s = (of_class * of_class).sum(1) - 2 * y * x_s + y * x_x
        s_t = of_class @ of_all - x_s - y * x_t + y * x_x
        t_t = of_all @ of_all - 2 * x_t + x_x
        squares = s_s / k**2 - 2 * s_t / (k * others) + t_t / others**2
        cosines = along / squares.clamp(min=TINY).sqrt()
        return torch.where((self.counts - y > 0) & (squares > TINY), cosines, 0).clamp(-1, 1).float()


def calibrate(scores: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Slopes and intercepts (c,) that make logits of scores (n, c): Platt's scaling, with classes alike.

    Newton's steps towards the least of each class's Σ BCE + ½ (slope - common)² / spread². First the common
    slope is 0 and the spread 1; then the common slope is the mean of those found, weighted by how surely each
    is known, and the spread a share of it. So a class of few rows takes the slope of the others. One more row
    at the mean score, half of it with the label, keeps the intercept of a class finite that never occurs.
    """
    center = scores.mean(0).nan_to_num()
    z = scores - center
    fit = _Platt(z, truth)
    fit.descend(torch.zeros(()), torch.ones(()))
    known = fit.known()
    common = ((fit.slope * known).sum() / known.sum().clamp(min=TINY)).clamp(min=0.1)
    fit.descend(common, SPREAD * common)
    return fit.slope, fit.intercept - fit.slope * center


class _Platt:
    """Logistic regressions of one column each, (n, c), from mean 0."""

    def __init__(self, z: Tensor, truth: Tensor) -> None:
        self.z, self.truth = z, truth
        self.slope = z.new_zeros(z.shape[1])
        self.intercept = torch.logit((truth.sum(0) + 0.5) / (len(truth) + 1))

    def known(self) -> Tensor:
        """The curvature of the loss along each slope, (c,)."""
        p = (self.slope * self.z + self.intercept).sigmoid()
        return (p * (1 - p) * self.z**2).sum(0)

    def descend(self, common: Tensor, spread: Tensor) -> None:
        """Newton's method, each class with a step of its own, halved until the loss is no greater."""
        loss = require_finite(
            self._loss(self.slope, self.intercept, common, spread), "calibration losses of head prototype"
        )
        for _ in range(STEPS):
            p, half = (self.slope * self.z + self.intercept).sigmoid(), self.intercept.sigmoid()
            weights, away = p * (1 - p), p - self.truth
            by_slope = (away * self.z).sum(0) + (self.slope - common) / spread**2
            by_intercept = away.sum(0) + half - 0.5
            aa = (weights * self.z**2).sum(0) + 1 / spread**2
            ab, bb = (weights * self.z).sum(0), weights.sum(0) + half * (1 - half)
            both = (aa * bb - ab * ab).clamp(min=TINY)
            slope_step = (bb * by_slope - ab * by_intercept) / both
            intercept_step = (aa * by_intercept - ab * by_slope) / both
            length = torch.ones_like(loss)
            for _ in range(HALVINGS):
                slope, intercept = self.slope - length * slope_step, self.intercept - length * intercept_step
                reached = self._loss(slope, intercept, common, spread)
                worse = ~(reached <= loss)
                if not worse.any():
                    break
                length = torch.where(worse, length / 2, length)
            better = reached <= loss
            self.slope = torch.where(better, slope, self.slope)
            self.intercept = torch.where(better, intercept, self.intercept)
            gained, loss = loss - torch.where(better, reached, loss), torch.where(better, reached, loss)
            if (gained <= LEVEL * (1 + loss)).all():
                break

    def _loss(self, slope: Tensor, intercept: Tensor, common: Tensor, spread: Tensor) -> Tensor:
        logits = slope * self.z + intercept
        rows = (softplus(logits) - logits * self.truth).sum(0)
        pseudo = softplus(intercept) - intercept / 2
        return rows + pseudo + ((slope - common) / spread) ** 2 / 2


def _blend(cosines: Tensor, affinities: Tensor, scale: Vectors) -> Tensor:
    return float(scale[0]) * cosines + float(scale[1]) * affinities


def _spread(scores: Tensor) -> float:
    """How far scores (n, c) usually are from the mean of their class."""
    return max(float((scores - scores.mean(0)).pow(2).mean().sqrt().nan_to_num()), 1e-6)


def _drawn(Y: LabelMatrix, there: BoolArray, shots: int | None, seed: int) -> BoolArray:
    """Which rows that are there are drawn, (n,): so many of each class, or all."""
    if shots is None:
        return there
    order = np.random.default_rng(seed).permutation(len(Y))
    order = order[there[order]]
    drawn = np.zeros(len(Y), np.bool_)
    for labels in Y.T:
        drawn[order[labels[order]][:shots]] = True
    return drawn


def _read(
    prompts: str | os.PathLike[str] | Sequence[Any] | NDArray[Any],
) -> tuple[Vectors, str, list[str] | None]:
    """Prompts as an array, what to call them, and the rows' names where a file beside has them."""
    if not isinstance(prompts, str | os.PathLike):
        return np.asarray(prompts, np.float32), "the array of prompts", None
    prompts = os.fspath(prompts)
    try:
        given = np.load(prompts, allow_pickle=False).astype(np.float32)
    except FileNotFoundError as error:
        raise MissingDataError(f"there is no file {prompts} of prompts") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{prompts} cannot be read as .npy: {brief(error)}") from error
    names = Path(f"{prompts}.ids.txt")
    return given, prompts, names.read_text(encoding="utf-8").split("\n")[:-1] if names.exists() else None


def _unit(vectors: Vectors) -> Vectors:
    """Vectors of length 1 along the last axis; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
