"""Checks of fitted heads: numbers are finite, and scores are informative for each class."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from encode_once.cache.errors import DataError, InsufficientMemoryError, brief
from encode_once.cache.process import available_memory
from encode_once.classify.arrays import BoolArray, FloatArray, PartialLabels, Scores
from encode_once.classify.partial import (
    always,
    is_partial,
    positives,
    rows_by_class,
    unknown_entries,
)

if TYPE_CHECKING:
    import torch

CPU_ALLOCATOR = "DefaultCPUAllocator"  # in torch's message: it has no more memory
MIN_ROWS = 10  # validation rows; fewer allow no conclusion
FLAT = 1e-6  # range of a class's scores, relative to the highest, that may be rounding
WORSE = 3.0  # standard errors by which a class must be worse than its frequency
CHANCE = 2.0  # standard errors above chance within which a ranking is no better than chance
MAX_NAMED = 3  # classes named in a warning
CLIP = 1e-7  # probabilities are clipped to [CLIP, 1 - CLIP] for their logarithms

Array = TypeVar("Array", bound="torch.Tensor | NDArray[Any]")


def require_finite(values: Array, what: str) -> Array:
    """Return the values if all are finite.

    NaN compares false, so that a search for the least loss would skip it silently and keep its start. Call
    this on results of factorisations and training loops before they are compared.

    Raises:
        DataError: a value is NaN or infinite.
    """
    finite = np.isfinite(values) if isinstance(values, np.ndarray) else values.isfinite()
    if not finite.all():
        raise DataError(
            f"{what}: {int((~finite).sum())} of {prod(finite.shape)} values are NaN or infinite: look for "
            "infinite or huge values in the features, or try another --head"
        )
    return values


def require_memory(head: str, needed: float, remedy: str) -> None:
    """Refuse a fit that would need more bytes than are available, before it starts.

    remedy: what to do instead.

    Raises:
        InsufficientMemoryError: it would.
    """
    available = available_memory()
    if needed > available:
        raise InsufficientMemoryError(
            f"head {head} would need about {needed / 1e9:.1f} GB of memory, and {available / 1e9:.1f} GB are "
            f"available: {remedy}"
        )


@contextmanager
def torch_memory() -> Iterator[None]:
    """A block in which torch raises a MemoryError where there is no more memory, as NumPy does."""
    try:
        yield
    except RuntimeError as error:  # of the allocator of a CPU; that of a GPU has a class of its own
        if type(error).__name__ == "OutOfMemoryError" or CPU_ALLOCATOR in str(error):
            raise MemoryError(brief(error)) from error
        raise


def check_scores(
    head: str, classes: Sequence[str], scores: Scores, Y: PartialLabels, Y_train: PartialLabels
) -> list[str]:
    """Warnings about classes for which the scores of the validation rows are not informative.

    A class is reported if all rows have the same score, although the class varies among the train rows; and
    if its scores are worse than its frequency: their mean log loss is higher by 3 standard errors, and their
    ranking not better than chance by 2 standard errors. (Scores that rank well at a wrong level, as after
    training with a weighted loss, are corrected by thresholds and calibration.) If no class is reported, all
    are tested together, because each alone may have too few positives.

    Args:
        head: the name of the head.
        classes: the names of the c classes.
        scores: of the validation rows, (n, c).
        Y: labels of the validation rows, (n, c).
        Y_train: labels of the train rows, (m, c).

    Raises:
        DataError: a score is NaN or infinite.
    """
    not_finite = ~np.asarray(np.isfinite(scores).all(axis=0))
    require_finite(scores, f"scores of head {head} for {_named(classes, not_finite)} on the validation rows")
    if len(Y) < MIN_ROWS:
        return []
    frequencies = class_frequencies(Y_train)
    varies = positives(Y_train).any(axis=0) & ~always(Y_train)
    constant = varies & (np.ptp(scores, axis=0) <= FLAT * scores.max(axis=0))
    evidence = _evidence(scores, Y, frequencies)
    worse = ~constant & _uninformative(*evidence)
    warnings = []
    if constant.any():
        counts = positives(Y_train)[:, constant].sum(axis=0)
        warnings.append(
            f"head {head} gives all validation rows the same score for {_named(classes, constant)}, with "
            f"{counts.min()} to {counts.max()} positives in {len(Y_train)} train rows: it has learned "
            "nothing about them; add rows with these labels or try another --head"
        )
    together = [np.nansum(part, axis=-1, keepdims=True) for part in evidence]
    if not (constant | worse).any() and _uninformative(*together)[0]:
        worse = np.ones_like(worse)
    if worse.any():
        loss, prior = (np.nanmean(_log_loss(p, Y)[:, worse]) for p in (scores, frequencies))
        warnings.append(
            f"head {head} is worse than the class frequencies for {_named(classes, worse)}: on {len(Y)} "
            f"validation rows its log loss is {loss:.3f} against {prior:.3f}, and it ranks no better than "
            "chance; it overfits or did not converge: regularise it more, or try another --head or --features"
        )
    return warnings


def class_frequencies(Y: PartialLabels) -> FloatArray:
    """The share of each class in the rows whose label is known, (c,), smoothed so that none is 0 or 1."""
    return np.asarray((positives(Y).sum(axis=0) + 0.5) / (rows_by_class(Y) + 1))


def _evidence(
    scores: Scores, Y: PartialLabels, frequencies: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """How much the loss of each score exceeds that of the frequencies, (n, c), and a rank test of each class.

    The excess is NaN where labels are unknown; the test is of the other rows.
    The test is that of Mann and Whitney: the excess (c,) of pairs that are ranked right over those expected
    by chance, and its variance (c,).
    """
    from scipy.stats import rankdata  # takes a second to import

    excess = _log_loss(scores, Y) - _log_loss(frequencies, Y)  # (n, c)
    truth, n = positives(Y), rows_by_class(Y)
    p = truth.sum(axis=0)
    pairs = p * (n - p)
    last = np.where(unknown_entries(Y), np.inf, scores)  # ranked above all others, they change no other rank
    ranked_right = (rankdata(last, axis=0) * truth).sum(axis=0) - p * (p + 1) / 2  # pairs
    return excess, ranked_right - pairs / 2, pairs * (n + 1) / 12


def _uninformative(excess: FloatArray, advantage: FloatArray, variance: FloatArray) -> BoolArray:
    """Which classes have scores worse than their frequencies and a ranking no better than chance, (c,)."""
    n = (~np.isnan(excess)).sum(axis=0)
    enough = excess[:, n > 1]  # a class of fewer known rows allows no conclusion
    worse = np.zeros(excess.shape[1], np.bool_)
    errors = np.nanstd(enough, axis=0, ddof=1) / np.sqrt(n[n > 1])
    worse[n > 1] = np.nanmean(enough, axis=0) > WORSE * errors
    uninformative: BoolArray = worse & (variance > 0) & (advantage <= CHANCE * np.sqrt(variance))
    return uninformative


def _log_loss(p: NDArray[Any], Y: PartialLabels) -> FloatArray:
    """The log loss of probabilities (n, c) or (c,) for each row and class, (n, c); NaN for unknown labels."""
    p = np.asarray(p, np.float64).clip(CLIP, 1 - CLIP)
    loss: FloatArray = -xlogy(positives(Y), p) - xlogy(Y == 0, 1 - p)
    if is_partial(Y):
        loss[unknown_entries(Y)] = np.nan
    return loss


def _named(classes: Sequence[str], which: BoolArray) -> str:
    """How many classes, and the names of the first."""
    names = [classes[c] for c in np.flatnonzero(which).tolist()]
    more = ", …" if len(names) > MAX_NAMED else ""
    return f"{len(names)} of {len(classes)} classes ({', '.join(names[:MAX_NAMED])}{more})"
