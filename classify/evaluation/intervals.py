"""Bootstrap intervals: how much a figure depends on which rows were evaluated.

**Meaning.** The model and its thresholds are fixed, the eval rows are a sample. In 95 of 100 samples, the
interval contains the figure for the whole population that the rows come from. It does not cover the chance in
fitting; several seeds do. Classes that do not occur in the eval rows cannot be measured: macro F1 and mAP
are over the classes with positives among the eval rows, in the figure as in its interval. `bench intervals`
measures the coverage.

**Draws.** The rows get random exponential weights a thousand times: the Bayesian bootstrap (Rubin, 1981). If
rows were drawn with replacement instead, a class with k positives would have none in a share exp(-k) of the
draws, which lowers macro F1 and changes the classes that mAP is over; with rare classes, percentile and BCa
intervals would not even contain the figure itself. Rows of a group (`--groups`) share a weight. Draws are not
computed one by one: the true positives of all draws are one matrix product, and so is average precision.

**Rare classes** need two corrections, which shift and widen the draws of the averages over classes.

1. Variance. Let m rows be informative about a class: for F1 the true or predicted rows, for average precision
   the positive ones. The variance D of its draws is too small, and 0 if m = 1: exponential weights give a
   mean of m numbers the variance s² / (m + 1), where s² itself is too small by (m - 1) / m. So
   u = D m (m + 1) / (m - 1) estimates the variance that a row contributes, with m - 1 degrees of freedom. It
   is shrunk toward the mean of the classes by `PRIOR` further degrees, and v = u / m replaces D. Because v is
   uncertain, too, the draws are stretched from the normal to Student's distribution, with degrees of freedom
   by Satterthwaite (1946).
2. Bias. Given that m rows of a class are true or predicted, its true positives are Bin(m, J), J being the
   Jaccard index, and F1 = 2 J / (1 + J) is concave: its expectation is off by F1''(J) Var(J) / 2, which is
   -(1 + J) / 2 times the variance v of F1. Average precision is too high, because each positive counts itself
   among the few ranked above it: see `_ap_bias`.

Two models on the same rows are compared by the interval of their difference over the same draws.

The calibration error has no interval: it is an average of absolute values, which the noise of a draw
increases. Its draws lie above the figure itself: about .022 for a figure of .016, for 3,000 rows of a class
whose scores are true probabilities.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from numpy.polynomial.legendre import leggauss
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import ndtr, ndtri, stdtrit

from encode_once.cache.errors import unknown_name
from encode_once.classify.arrays import (
    UNKNOWN,
    BoolArray,
    FloatArray,
    Groups,
    IntArray,
    LabelMatrix,
    PartialLabels,
    RowIndex,
    RowWeights,
    Vectors,
    as_labels,
    as_partial_labels,
    as_scores,
)
from encode_once.classify.decisions.canonical import canonical_order
from encode_once.classify.decisions.ranking import parts
from encode_once.classify.decisions.shrinkage import between_variance
from encode_once.classify.evaluation.metrics import (
    MetricName,
    average_precision,
    coverages,
    f1,
    ranked_classes,
    ranking_losses,
    row_f1,
)
from encode_once.classify.partial import is_partial, positives, unknown_entries, without_unknown

DRAWS, LEVEL = 1000, 0.95
TINY = 1e-12  # the least divisor
CHUNK = 100  # draws at a time: W of 10,000 rows takes 4 MB
CELLS = 2**24  # weights at a time, if rows are many: 67 MB
CLASSES = 500  # at a time in integrals: each of their arrays takes 6 MB
PRIOR = 4  # degrees of freedom of the mean of the classes, toward which a class's variance is shrunk
BIAS_ERROR = 0.15  # standard error of a bias correction, in units of it: the binormal model is not exact
# Shown in tables of several runs.
METRICS: tuple[MetricName, ...] = ("micro_f1", "macro_f1", "samples_f1", "mAP")
WITHOUT_DRAWS = {"calibration_error", "roc_auc"}
ALL: tuple[MetricName, ...] = tuple(name for name in get_args(MetricName) if name not in WITHOUT_DRAWS)
# Rank runs: the greater, the better, and tables show them. The last two apply to one label per row.
RANKING: tuple[MetricName, ...] = (*METRICS, "accuracy", "balanced_accuracy")
UNBOUNDED = {"coverage_error"}  # all other metrics lie in 0 .. 1
CLASS_F1 = "class_f1"


def in_tables(metrics: Mapping[str, Any]) -> list[MetricName]:
    """The names of the metrics that tables of several runs show, of a run with these metrics."""
    return [name for name in RANKING if name in METRICS or name in metrics]


def metric_named(name: str, among: Sequence[MetricName] = RANKING) -> MetricName:
    """The metric of a name.

    Raises:
        UsageError: it is not among these.
    """
    metric = next((metric for metric in among if metric == name), None)
    if metric is None:
        raise unknown_name("metric", name, among)
    return metric


def resampled(
    labels: PartialLabels,
    predictions: LabelMatrix,
    scores: NDArray[np.floating],
    groups: Groups | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    order: RowIndex | None = None,
) -> dict[str, FloatArray]:
    """Each metric of `ALL` on every draw, (draws,), corrected, and `class_f1`, each class's F1, (draws, c).

    labels, predictions and scores are (n, c). groups (n,): rows with equal numbers are drawn together; by
    default every row is drawn alone. 0/0 and unknown labels count as in `classify.evaluation.metrics`; mAP is
    NaN without any positive. Equal n, groups, draws and seeds give equal draws.

    order: the rows (n,) in the order in which weights are drawn for them, by default as they come. With an
    order that depends on the rows' contents, such as `rows.content_order`, results depend on nothing else.

    Raises:
        DataError: labels or predictions that are not 0 or 1, scores that are not finite, other shapes.
    """
    labels = as_partial_labels(labels)
    predictions, scores = as_labels(predictions, *labels.shape), as_scores(scores, labels)
    n = len(labels)
    order = np.arange(n) if order is None else order
    _, classes = canonical_order(scores, np.where(labels == UNKNOWN, UNKNOWN, labels + 2 * predictions))
    labels, predictions, scores = (table[np.ix_(order, classes)] for table in (labels, predictions, scores))
    group = _numbered(np.arange(n) if groups is None else groups[order])
    truth, chosen = without_unknown(labels, predictions)
    has_positives = np.asarray(truth.any(axis=0))
    ones = np.ones(n, np.float32)
    rankings = [RankedClass.of(labels[:, k], scores[:, k], ones) for k in np.flatnonzero(has_positives)]
    shares = (~unknown_entries(labels)).mean(axis=1)  # of each row's entries that are known
    rows = shares > 0
    by_row = {
        "samples_f1": row_f1(labels, predictions),
        "subset_accuracy": (truth == chosen).all(axis=1) & rows,
        "hamming_loss": (truth != chosen).mean(axis=1),
        "coverage_error": coverages(labels, scores),
        "ranking_loss": ranking_losses(labels, scores),
    }
    row_values = np.stack([*by_row.values()], axis=1).astype(np.float32)  # (n, 5)
    sizes = np.stack([shares if name == "hamming_loss" else rows for name in by_row], axis=1)
    counted = truth & chosen, chosen, truth
    drawn_parts = []

    def measured(W: RowWeights) -> float | FloatArray:
        return (W.T @ rows.astype(np.float32)).astype(np.float64)[:, None] if is_partial(labels) else n

    for W in _weights(group, draws, seed):
        whole = W.T @ sizes.astype(np.float32) if is_partial(labels) else n
        means = (W.T @ row_values / np.maximum(whole, TINY)).T.astype(np.float64)
        drawn_parts.append(
            _of_counts(labels, measured(W), *(_weighted(W, table) for table in counted))
            | dict(zip(by_row, means, strict=True))
            | {AP: np.array([ranking.average_precision(W) for ranking in rankings]).reshape(-1, W.shape[1]).T}
        )
    drawn = {name: np.concatenate([part[name] for part in drawn_parts]) for name in drawn_parts[0]}
    drawn |= _corrected_f1(drawn, truth, chosen, group)
    drawn["accuracy"] = drawn["subset_accuracy"]
    drawn["mAP"] = _corrected_map(drawn.pop(AP), labels, scores, group)
    drawn[CLASS_F1] = drawn[CLASS_F1][:, np.argsort(classes)]
    return {
        name: values if name in UNBOUNDED else np.clip(values, 0, 1)
        for name, values in ((name, drawn[name]) for name in (*ALL, CLASS_F1))
    }


AP = "average precision of each class"  # (draws, classes with positives)


def interval(values: FloatArray, figure: float | None) -> list[float] | None:
    """The lower and upper end of the middle 95 % of values, extended to hold the figure; None without one."""
    if figure is None or np.isnan(values).all():
        return None
    outside = (1 - LEVEL) / 2
    low, high = np.quantile(values, [outside, 1 - outside], method="weibull")  # exact for few draws, too
    return [min(float(low), figure), max(float(high), figure)]


def differences(ours: Mapping[str, FloatArray], theirs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Ours minus theirs for each metric on every draw; both are of the same rows."""
    return {name: ours[name] - theirs[name] for name in ours}


def _numbered(groups: Groups) -> Groups:
    """The groups (n,) with the numbers 0, 1, … in the order of their first rows."""
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[group], np.intp)


def _weights(group: Groups, draws: int, seed: int) -> Iterator[RowWeights]:
    """Weights of rows (n, up to `CHUNK`) whose group numbers, (n,), are 0, 1, …; of many rows fewer."""
    rng = np.random.default_rng(seed)
    n, g = len(group), group.max() + 1
    step = min(max(CELLS // n, 1), CHUNK)  # the numbers drawn are the same, whatever the step
    for start in range(0, draws, step):
        W = np.ascontiguousarray(rng.standard_exponential((min(step, draws - start), g), np.float32).T)
        W = W if g == n else W[group]
        yield np.multiply(W, n / W.sum(axis=0, dtype=np.float64), out=W, casting="same_kind")


def _weighted(W: RowWeights, table: LabelMatrix) -> FloatArray:
    """The weighted counts of each draw and class, (draws, c), of a table (n, c)."""
    columns = parts(table.shape[1], len(table))
    return np.hstack([(W.T @ table[:, part].astype(np.float32)).astype(np.float64) for part in columns])


def _of_counts(
    labels: PartialLabels,
    rows: float | FloatArray,
    hits: FloatArray,
    predicted: FloatArray,
    support: FloatArray,
) -> dict[str, FloatArray]:
    """Metrics from the weighted counts of each draw and class, (draws, c), of rows with labels (n, c).

    rows: the number of rows with a known label, or their weighted number in each draw, (draws, 1).
    """
    has_positives = np.asarray(positives(labels).any(axis=0))
    class_f1 = _ratio(2 * hits, predicted + support)
    all_hits, all_predicted, all_true = (counts.sum(axis=1) for counts in (hits, predicted, support))
    return {
        "micro_f1": _ratio(2 * all_hits, all_predicted + all_true),
        "macro_f1": class_f1 @ _macro_shares(has_positives),
        "weighted_f1": _ratio((class_f1 * support).sum(axis=1), all_true),
        "precision": _ratio(all_hits, all_predicted),
        "recall": _ratio(all_hits, all_true),
        "balanced_accuracy": _balanced_accuracy(labels, rows, hits, predicted, support),
        CLASS_F1: class_f1,
    }


def _macro_shares(has_positives: BoolArray) -> FloatArray:
    """What each class adds to macro F1, (c,): nothing without positives."""
    return np.asarray(has_positives / max(has_positives.sum(), 1))


def _balanced_accuracy(
    labels: PartialLabels,
    rows: float | FloatArray,
    hits: FloatArray,
    predicted: FloatArray,
    support: FloatArray,
) -> FloatArray:
    """The mean recall of the classes, (draws,); a single class has its absence next to it."""
    occurs = positives(labels).any(axis=0)
    if labels.shape[1] == 1:
        occurs = np.array([(labels == 0).any(), *occurs])
        hits = np.hstack([rows - support - predicted + hits, hits])
        support = np.hstack([rows - support, support])
    return np.asarray(_ratio(hits, support) @ _macro_shares(occurs))


def _ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _corrected_f1(
    drawn: Mapping[str, FloatArray], labels: LabelMatrix, predictions: LabelMatrix, group: Groups
) -> Any:
    """The draws of macro and weighted F1, with the corrections for rare classes."""
    hits, either, support = (t.sum(axis=0) for t in (labels & predictions, labels | predictions, labels))
    class_f1, jaccard = f1(hits, hits + either), hits / np.maximum(either, 1)
    of_draws = drawn[CLASS_F1].var(axis=0)
    m = _groups_with(labels | predictions, group)
    variances = _class_variances(of_draws, m)
    bias, both = -(1 + jaccard) / 2 * variances, np.stack([of_draws, variances])
    shares = {"macro_f1": _macro_shares(support > 0), "weighted_f1": support / max(support.sum(), 1)}
    return {
        name: _corrected(drawn[name], class_f1 @ share, bias @ share, share**2 * both, m)
        for name, share in shares.items()
    }


def _corrected_map(
    drawn: FloatArray, labels: PartialLabels, scores: NDArray[Any], group: Groups
) -> FloatArray:
    """The corrected draws of mAP, from those of average precision (draws, classes with positives)."""
    has_positives = np.asarray(positives(labels).any(axis=0))
    if not has_positives.any():
        return np.full(len(drawn), np.nan)
    labels, scores = labels[:, has_positives], scores[:, has_positives]
    precisions = [average_precision(*of_class) for of_class in ranked_classes(labels, scores)]
    with_positives = _groups_with(positives(labels), group)
    of_draws = drawn.var(axis=0)
    parts = np.stack([of_draws, _class_variances(of_draws, with_positives)]) / has_positives.sum() ** 2
    bias = float(
        _ap_bias(labels, scores, with_positives, _groups_with(~unknown_entries(labels), group)).mean()
    )
    return _corrected(drawn.mean(axis=1), float(np.mean(precisions)), bias, parts, with_positives)


def _corrected(drawn: FloatArray, figure: float, bias: float, parts: FloatArray, m: IntArray) -> FloatArray:
    """Draws (draws,) with the figure minus its bias as their mean, and a greater variance.

    parts (2, c): what each class adds to the variance, D and the v that replaces it. m is (c,).
    """
    variance = drawn.var()
    if variance < 1e-12:  # rounding
        return np.full(len(drawn), figure - bias)
    uncertain = (parts[1] ** 2 / (np.maximum(m - 1, 0) + PRIOR)).sum()
    freedom = parts[1].sum() ** 2 / uncertain if uncertain else np.inf
    stretch = stdtrit(freedom, (1 + LEVEL) / 2) / ndtri((1 + LEVEL) / 2)
    more = max(parts[1].sum() - parts[0].sum(), 0) + (BIAS_ERROR * bias) ** 2
    wider = stretch * np.sqrt((variance + more) / variance)
    return np.asarray(figure - bias + (drawn - drawn.mean()) * wider)


def _groups_with(rows: BoolArray, group: Groups) -> IntArray:
    """The number of groups with a row of each class, (c,), for rows (n, c)."""
    if group.max() + 1 == len(group):
        return np.asarray(rows.sum(axis=0), np.intp)
    return np.array([len(np.unique(group[column])) for column in rows.T])


def _class_variances(of_draws: FloatArray, m: IntArray) -> FloatArray:
    """The corrected variances v, (c,), from those of the draws and the numbers m of informative groups."""
    freedom = np.maximum(m - 1, 0)
    single = of_draws * m * (m + 1) / np.maximum(freedom, 1)
    trust = freedom / (freedom + PRIOR)
    usual = float(trust @ single) / max(float(trust.sum()), 1e-12)
    shrunk = (PRIOR * usual + freedom * single) / (PRIOR + freedom)
    variances = np.where(m > 0, shrunk / np.maximum(m, 1), 0.0)
    return np.where(m == 1, np.maximum(variances, of_draws), variances)  # weights of negatives vary, too


def _ap_bias(labels: PartialLabels, scores: NDArray[Any], p: IntArray, n: IntArray) -> FloatArray:
    """The bias of average precision, (c,), for classes with p positives among n rows, both (c,).

    The model is binormal: on a suitable scale, scores of negatives are N(0, 1) and of positives N(d, 1). A
    positive that a share F of the negatives exceeds is at z = -Φ⁻¹(F), so the mean of a class's z is an
    estimate of d with variance 1 / p; d is shrunk toward the mean of the classes by empirical Bayes, and the
    bias is averaged over the remaining uncertainty. Let T(x), F(x) be the shares of positives and negatives
    above a positive x. The population's average precision is the mean over x of p T / (p T + q F), with
    q = n - p. In a sample, R - 1 ~ Bin(p - 1, T) other positives and N ~ Bin(q, F) negatives are above x, and
    since 1 / (R + N) is the integral of u^(R + N - 1) over u = 0 .. 1,

        E[R / (R + N)] = ∫ (b^(p - 1) + u (p - 1) T b^(p - 2)) (1 - F (1 - u))^q du,   b = 1 - T (1 - u).
    """
    separations = []
    for truth, of_class in zip(labels.T, scores.T, strict=True):
        negatives = np.sort(of_class[truth == 0])
        left, right = (np.searchsorted(negatives, of_class[truth == 1], side) for side in ("left", "right"))
        above = len(negatives) - (left + right) / 2  # ties count half
        separations.append(-ndtri((above + 0.5) / (len(negatives) + 1)).mean())
    own, variances = np.array(separations), 1 / p
    spread = between_variance(own, variances)
    precision = 1 / (variances + spread)
    centre = own @ precision / precision.sum()
    d = (spread * own + variances * centre) * precision
    nodes, shares = hermegauss(3)
    shares /= shares.sum()
    deviations = np.sqrt(spread * variances * precision)
    return np.asarray(
        sum(w * _binormal_bias(d + x * deviations, p, n) for x, w in zip(nodes, shares, strict=True))
    )


def _binormal_bias(d: FloatArray, p_of_class: IntArray, n_of_class: IntArray) -> FloatArray:
    """The bias of average precision (c,) for separations d (c,), as `_ap_bias`."""
    if len(d) > CLASSES:
        blocks = (slice(start, start + CLASSES) for start in range(0, len(d), CLASSES))
        parts = (_binormal_bias(d[block], p_of_class[block], n_of_class[block]) for block in blocks)
        return np.concatenate([*parts])
    x, of_x = hermegauss(48)
    of_x /= of_x.sum()
    T, F = ndtr(-x)[:, None], ndtr(-(x + d[:, None]))[..., None]  # (48, 1), (c, 48, 1)
    v, of_v = leggauss(32)
    rest = ((1 - v) / 2) ** 5  # 1 - u, with nodes dense near 0, where the integrand of many rows lies
    of_u = of_v * 2.5 * ((1 - v) / 2) ** 4
    p, n = (sizes[:, None, None].astype(np.float64) for sizes in (p_of_class, n_of_class))
    b = 1 - T * rest
    others = b ** (p - 1) + (1 - rest) * (p - 1) * T * b ** np.maximum(p - 2, 0)
    expected = (others * np.exp((n - p) * np.log1p(-F * rest))) @ of_u  # (c, 48)
    T, F, p, n = T[:, 0], F[..., 0], p[..., 0], n[..., 0]
    return np.asarray((expected - p * T / (p * T + (n - p) * F)) @ of_x)


@dataclass(frozen=True)
class RankedClass:
    """The rows of a class from the highest score on, in groups that each end with a score of positives.

    Precision counts only there. Both are (groups, n), 1 where a row belongs to the group.
    """

    rows: csr_array
    positives: csr_array  # only rows that are positive

    @classmethod
    def of(cls, labels: PartialLabels, scores: NDArray[Any], ones: Vectors) -> "RankedClass":
        """labels and scores (n,) are of a class with positives; rows of unknown labels are in no group.

        ones: n of them, which all classes share.
        """
        order = np.argsort(-scores).astype(np.int32)
        order = order[labels[order] != UNKNOWN]
        truth, falling = labels[order] == 1, -scores[order]
        ends = np.unique(np.searchsorted(falling, falling[truth], side="right"))

        def groups(rows: NDArray[np.int32], ends: IntArray) -> csr_array:
            starts = np.r_[0, ends].astype(np.int32)
            return csr_array((ones[: len(rows)], rows, starts), (len(ends), len(labels)))

        return cls(groups(order[: ends[-1]], ends), groups(order[truth], truth.cumsum()[ends - 1]))

    def average_precision(self, W: RowWeights) -> FloatArray:
        """Σ precision · positives over the groups / all positives, (draws,)."""
        seen, positives = self.rows @ W, self.positives @ W  # (groups, draws)
        seen.cumsum(axis=0, out=seen)
        precision = positives.cumsum(axis=0)
        precision /= np.maximum(seen, np.finfo(np.float32).tiny, out=seen)
        return np.asarray((precision * positives).sum(axis=0, dtype=np.float64) / positives.sum(axis=0))
