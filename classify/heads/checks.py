"""What every fitted head has to pass: finite numbers, and scores that say something about each class."""

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy
from scipy.stats import rankdata

from encode_once.cache.errors import DataError
from encode_once.classify.arrays import BoolArray, FloatArray, LabelMatrix, Scores

if TYPE_CHECKING:
    import torch

FEWEST = 10  # validation rows; of fewer nothing is concluded
FLAT = 1e-6  # spread of a class's scores, relative to the highest, that is rounding
SURE = 3.0  # standard errors by which a class must be worse than its frequency
CHANCE = 2.0  # standard errors above chance up to which a ranking counts as none
NAMED = 3  # classes named in a warning
LEAST = 1e-7  # probability whose logarithm is taken

Array = TypeVar("Array", bound="torch.Tensor | NDArray[Any]")


def require_finite(values: Array, what: str) -> Array:
    """The same values; DataError where one is NaN or infinite.

    NaN compares false: a search for the least loss passes over it silently and keeps what it started from.
    So whatever a factorisation or a training loop returns goes through here before it is compared.
    """
    finite = np.isfinite(values) if isinstance(values, np.ndarray) else values.isfinite()
    if not finite.all():
        raise DataError(
            f"{what}: {int((~finite).sum())} of {prod(finite.shape)} values are NaN or infinite: look for "
            "infinite or huge values in the features, or try another --head"
        )
    return values


def check_scores(
    head: str, classes: Sequence[str], scores: Scores, Y: LabelMatrix, Y_train: LabelMatrix
) -> list[str]:
    """Warnings about a head whose scores on the validation rows say nothing about some classes.

    A class is reported where all rows get the same score, although it varies among the train rows; and where
    the scores are worse than the class's frequency would be: a mean log loss above that of the frequency by 3
    standard errors, from a ranking within 2 standard errors of chance, or below it. (Scores that rank well
    at a wrong level, as those under a weighted loss, are put right by thresholds and calibration.) Where
    none is reported, all classes are judged together, as each may have too few positives.

    Args:
        head: its name.
        classes: names of the c classes.
        scores: probabilities of the validation rows, (n, c).
        Y: labels of the validation rows, (n, c).
        Y_train: labels of the train rows, (m, c).

    Raises:
        DataError: a score is NaN or infinite.
    """
    bad = ~np.asarray(np.isfinite(scores).all(axis=0))
    require_finite(scores, f"scores of head {head} for {_named(classes, bad)} on the validation rows")
    if len(Y) < FEWEST:
        return []
    frequencies = (Y_train.sum(axis=0) + 0.5) / (len(Y_train) + 1)
    varies = Y_train.any(axis=0) & ~Y_train.all(axis=0)
    constant = varies & (np.ptp(scores, axis=0) <= FLAT * scores.max(axis=0))
    worse = ~constant & _behind(scores, Y, frequencies)
    warnings = []
    if constant.any():
        positives = Y_train[:, constant].sum(axis=0)
        warnings.append(
            f"head {head} gives all validation rows the same score for {_named(classes, constant)}, with "
            f"{positives.min()} to {positives.max()} positives in {len(Y_train)} train rows: it has learned "
            "nothing about them; add rows with these labels or try another --head"
        )
    if not (constant | worse).any() and _behind(scores, Y, frequencies, together=True)[0]:
        worse = np.ones_like(worse)
    if worse.any():
        loss, prior = (_log_loss(p, Y)[:, worse].mean() for p in (scores, frequencies))
        warnings.append(
            f"head {head} is worse than the class frequencies for {_named(classes, worse)}: on {len(Y)} "
            f"validation rows its log loss is {loss:.3f} against {prior:.3f}, and it ranks no better than "
            "chance; it overfits or did not converge: regularise it more, or try another --head or --features"
        )
    return warnings


def _behind(scores: Scores, Y: LabelMatrix, frequencies: FloatArray, together: bool = False) -> BoolArray:
    """Which classes are scored worse than by their frequencies and ranked no better than by chance, (c,).

    The losses are compared row by row, the ranking is the Mann-Whitney test. With `together` (1,), of the
    classes' sums of both.
    """
    n = len(Y)
    excess = _log_loss(scores, Y) - _log_loss(frequencies, Y)  # (n, c)
    positives = Y.sum(axis=0)
    pairs = positives * (n - positives)
    right = (rankdata(scores, axis=0) * Y).sum(axis=0) - positives * (positives + 1) / 2  # of the pairs
    advantage, variance = right - pairs / 2, pairs * (n + 1) / 12
    if together:
        excess = excess.sum(axis=1, keepdims=True)
        advantage, variance = advantage.sum(keepdims=True), variance.sum(keepdims=True)
    worse = excess.mean(axis=0) > SURE * excess.std(axis=0, ddof=1) / np.sqrt(n)
    behind: BoolArray = worse & (variance > 0) & (advantage <= CHANCE * np.sqrt(variance))
    return behind


def _log_loss(p: NDArray[Any], Y: LabelMatrix) -> FloatArray:
    """The log loss of probabilities (n, c) or (c,) for each row and class, (n, c)."""
    p = np.asarray(p, np.float64).clip(LEAST, 1 - LEAST)
    loss: FloatArray = -xlogy(Y, p) - xlogy(~Y, 1 - p)
    return loss


def _named(classes: Sequence[str], which: BoolArray) -> str:
    names = [name for name, is_one in zip(classes, which, strict=True) if is_one]
    more = ", …" if len(names) > NAMED else ""
    return f"{len(names)} of {len(classes)} classes ({', '.join(names[:NAMED])}{more})"
