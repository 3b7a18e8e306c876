"""Eval rows by a split SPEC, and validation rows among the train rows.

Which rows are chosen depends on a number drawn for each row from its content and the seed, not on the rows'
order: a shuffled table has the same split. A row's number does not depend on the other rows either, so that
rows appended to a table leave nearly all others on their side of the split.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import xxhash

from encode_once.cache import Keys
from encode_once.cache.errors import DataError, UsageError, unknown_name
from encode_once.classify.arrays import (
    FloatArray,
    Groups,
    IntArray,
    LabelMatrix,
    PartialLabels,
    RowIndex,
    as_partial_labels,
)
from encode_once.classify.data.rows import content_order, equal_runs
from encode_once.classify.partial import positives

UNUSED = "unused"  # a word of a split column: these rows are neither fitted on nor measured
TABLES = "tables"  # the SPEC whose rows are those of the tables train, val and test
SPECS = ("stratified:0.1", "random:0.2", "tail:3000", "kfold:5", "lists:train.txt,test.txt", TABLES)
# Words in a split column, in lower case.
VALIDATION_WORDS = frozenset({"val", "valid", "validate", "validation", "dev", "development"})
TEST_WORDS = frozenset({"test", "testing", "eval", "evaluation", "holdout"})
EVAL_WORDS = VALIDATION_WORDS | TEST_WORDS | {"1", "1.0", "true", "yes"}
TRAIN_WORDS = frozenset({"train", "training", "trn", "fit", "0", "0.0", "false", "no", ""})
VALIDATION_FRACTION = 0.1  # of the rows that are not eval rows: they stop training and set thresholds


def row_draws(keys: Keys, ids: Sequence[str], seed: int) -> FloatArray:
    """A uniform number in [0, 1) for each row, (n,), from its content key (n, 16) and the seed.

    Rows of equal content have different numbers; their ids decide which of them has which.
    """
    order = content_order(keys, ids)
    occurrence = np.zeros(len(keys), np.intp)  # of the content, by id
    for start, end in equal_runs(keys[order]):
        occurrence[order[start:end]] = np.arange(end - start)
    return np.fromiter(
        (
            xxhash.xxh3_64_intdigest(key.tobytes() + int(number).to_bytes(8), seed) / 2**64
            for key, number in zip(keys, occurrence, strict=True)
        ),
        np.float64,
        len(keys),
    )


def position_draws(n: int, seed: int) -> FloatArray:
    """The same for rows that only their position identifies."""
    return np.random.default_rng(seed).random(n)


def folds(
    spec: str,
    labels: PartialLabels,
    columns: Mapping[str, Sequence[str]],
    draws: FloatArray,
    groups: Groups | None = None,
) -> list[RowIndex]:
    """The eval rows, ascending: k sets of them for `kfold:k`, one set for any other SPEC.

    Args:
        spec: `stratified:F` or `random:F`, a fraction of the rows; `tail:N`, the last N rows or that fraction
            of them; `kfold:K`, stratified; or the name of a column, whose words of `EVAL_WORDS` mark eval
            rows, and those of `TRAIN_WORDS` all others; in a column of both `VALIDATION_WORDS` and
            `TEST_WORDS`, only the latter mark eval rows (see `marked_validation`), and `UNUSED` rows are
            neither (see `marked_unused`).
        labels: (n, c); rows are balanced by those that are known to be positive.
        columns: the table's other columns, name → n texts.
        draws: (n,), see `row_draws`.
        groups: rows of equal number stay together, and the sizes are met as nearly as that allows. `tail` and
            columns may divide groups: see `straddling`.

    Raises:
        DataError: the SPEC or column is unknown, the column has other words, or all rows or none are chosen;
            labels are not 0 or 1.
    """
    truth: LabelMatrix = positives(as_partial_labels(labels))
    n = len(truth)
    rule, _, argument = spec.partition(":")
    if spec in columns:
        row_sets = [_marked(spec, columns[spec])]
    elif rule == "kfold":
        if repeated_folds(spec)[1] > 1:
            raise UsageError(f"split {spec!r}: a run has one set of folds; sweep --split {spec} repeats it")
        k = _integer(spec, argument)
        if not 2 <= k <= n:
            raise DataError(f"split {spec!r}: {n} rows can be divided into 2 to {n} folds")
        fold = stratified(truth, np.bincount(np.arange(n) % k), draws, groups)
        row_sets = [np.flatnonzero(fold == j) for j in range(k)]
    elif rule == "stratified":
        size = _size(spec, argument, n)
        row_sets = [np.flatnonzero(stratified(truth, [n - size, size], draws, groups))]
    elif rule == "random":
        row_sets = [_random(_size(spec, argument, n), draws, groups)]
    elif rule == "tail":
        size = _integer(spec, argument) if "." not in argument else _size(spec, argument, n)
        row_sets = [np.arange(max(n - size, 0), n)]
    else:
        aliases = {spec: f"stratified:{spec}"} if re.fullmatch(r"0?\.\d+", spec) else {}
        raise unknown_name("split", spec, [*SPECS, *columns, *aliases.values()], aliases=aliases)
    for rows in row_sets:
        if not 0 < len(rows) < n:
            raise DataError(
                f"split {spec!r} makes {len(rows)} of {n} rows{_in_groups(groups)} eval rows: choose a split "
                "with eval rows and other rows"
            )
    return row_sets


def repeated_folds(spec: str) -> tuple[str, int]:
    """`kfold:5x2` as `kfold:5` and 2 draws of its folds; any other SPEC as itself and 1."""
    repeated = re.fullmatch(r"(kfold:\d+)x([1-9]\d*)", spec)
    return (repeated[1], int(repeated[2])) if repeated else (spec, 1)


def validation_split(
    labels: PartialLabels, rows: RowIndex, fraction: float, draws: FloatArray, groups: Groups | None = None
) -> tuple[RowIndex, RowIndex]:
    """Divide rows into train rows and a stratified fraction of validation rows; both keep the order.

    labels (n, c), draws (n,) and groups (n,), which stay together, belong to the whole table.

    Raises:
        DataError: either part would be empty; labels are not 0 or 1.
    """
    truth: LabelMatrix = positives(as_partial_labels(labels))
    size = round(fraction * len(rows))
    own_groups = None if groups is None else groups[rows]
    chosen = np.zeros(len(rows), np.bool_)
    if 0 < size < len(rows):
        sizes = [len(rows) - size, size]
        chosen = stratified(truth[rows], sizes, draws[rows], own_groups) == 1
    if not chosen.any() or chosen.all():
        raise DataError(
            f"of {len(rows)} train rows{_in_groups(own_groups)} no {fraction:.0%} can be set aside for "
            "validation: more rows are needed, or smaller groups"
        )
    return rows[~chosen], rows[chosen]


def straddling(eval_rows: RowIndex, groups: Groups) -> int:
    """How many eval rows share a group (n,) with a row that is not."""
    rest = np.delete(groups, eval_rows)
    return int(np.isin(groups[eval_rows], rest).sum())


def stratified(
    labels: LabelMatrix,
    sizes: Sequence[int] | IntArray,
    draws: FloatArray,
    groups: Groups | None = None,
) -> IntArray:
    """The fold of each row, (n,), of folds with exactly these sizes and, nearly, equal shares of each label.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011). As there, the label with the
    fewest unassigned rows is next, and each of its rows goes to the fold that needs it most. Unlike there,
    all rows of the label are dealt at once, those of each label set by their draws, so that each set is
    spread over the folds as well; and no fold is dealt more rows than it has room for.

    draws: (n,), which decide what the labels leave open; see `row_draws`.
    groups: (n,), rows of equal number go to the same fold. Groups are dealt first; single rows then make up
    for what groups could not balance. With few single rows the sizes may not be met.
    """
    n = len(labels)
    if sum(sizes) != n:
        raise DataError(f"folds of {sum(sizes)} rows in all cannot hold {n}")
    order = np.argsort(draws)
    labels = labels[:, _by_rows(labels[order])]
    order = order[_by_label_set(labels[order])]
    draws = draws[order]
    # A last label that every row has: it is dealt last, and what a fold needs of it is its free places.
    Y = np.column_stack([labels[order], np.ones(n, dtype=bool)])
    left = Y.sum(axis=0)  # (c + 1,)
    needs = np.outer(sizes, left) / n  # (k, c + 1): rows of each label that each fold still lacks
    fold = np.full(n, -1)
    if groups is not None:
        fold = _deal_groups(Y, groups[order], needs, draws)
        left = Y[fold < 0].sum(axis=0)
    while left.any():
        label = np.where(left, left, n + 1).argmin()
        rows = np.flatnonzero((fold < 0) & Y[:, label])
        counts = _deal(needs[:, label], needs[:, -1], len(rows))
        turns = np.argsort(_places_in_set(Y[rows], draws[rows]))
        fold[rows[turns]] = np.repeat(np.arange(len(counts)), counts)
        dealt = np.stack([Y[rows[fold[rows] == j]].sum(axis=0) for j in range(len(needs))])
        needs -= dealt
        left -= dealt.sum(axis=0)
    return fold[np.argsort(order)]


def _deal(needs: FloatArray, room: FloatArray, m: int) -> IntArray:
    """How many of m rows each fold gets, (k,), given what each fold needs and its free places, both (k,).

    Giving row after row to the fold with the greatest need is the same as taking the m highest of the levels
    need, need - 1, need - 2 … of all folds; of equal levels, that of the fold with more room.
    """
    turns = np.arange(m)
    levels = np.where(turns < room[:, None], needs[:, None] - turns, -np.inf)  # (k, m)
    highest = np.lexsort((-np.repeat(room, m), -levels.ravel()))[:m]
    return np.bincount(highest // m, minlength=len(needs))


def _places_in_set(Y: LabelMatrix, draws: FloatArray) -> FloatArray:
    """The place of each row in its label set, (m,) in [0, 1]; the rows are in the order of set and draw."""
    starts = np.append(True, (Y[1:] != Y[:-1]).any(axis=1))
    first = np.flatnonzero(starts)
    set_of = np.cumsum(starts) - 1
    sizes = np.diff(np.append(first, len(Y)))
    places: FloatArray = (np.arange(len(Y)) - first[set_of] + draws) / sizes[set_of]
    return places


def _deal_groups(Y: LabelMatrix, groups: Groups, needs: FloatArray, draws: FloatArray) -> IntArray:
    """The fold of each row of a group of several, -1 of single rows; `needs` is updated in place.

    Y is (n, c + 1), needs (k, c + 1). With E the initial needs, the distance of a split from the balanced one
    is χ² = Σ needs²/E. A group with counts g of the labels, dealt to a fold, changes it by Σ g (g - 2
    needs)/E over that fold's E, which is its share of the rows times the labels' totals. So each group, the
    largest first, goes to the fold with room for it where the change is least.
    """
    fold: IntArray = np.full(len(Y), -1)
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    several = np.flatnonzero(sizes > 1)
    if not len(several):
        return fold
    rows = np.argsort(group, kind="stable")  # the rows of a group next to each other
    ends = np.cumsum(sizes)
    total = np.maximum(Y.sum(axis=0), 1)
    shares = np.maximum(needs[:, -1:] / len(Y), 1e-9)  # (k, 1); a fold of no rows has no room anyway
    group_draws = _group_draws(group, draws)
    for g in several[np.lexsort((group_draws[several], -sizes[several]))]:
        members = rows[ends[g] - sizes[g] : ends[g]]
        counts = Y[members].sum(axis=0)  # (c + 1,)
        room = needs[:, -1]
        change = (counts * (counts - 2 * needs) / total / shares).sum(axis=1)
        fits = room >= sizes[g]
        j = np.where(fits, change, np.inf).argmin() if fits.any() else room.argmax()
        fold[members] = j
        needs[j] -= counts
    return fold


def _by_rows(labels: LabelMatrix) -> IntArray:
    """An order of classes (n, c) by their rows, so that where they stand and their names do not matter."""
    packed = np.packbits(labels, axis=0)
    return np.array(sorted(range(labels.shape[1]), key=lambda c: packed[:, c].tobytes()), np.intp)


def _by_label_set(labels: LabelMatrix) -> RowIndex:
    """An order of rows (n, c) that puts equal label sets next to each other, and is stable within a set."""
    packed = np.packbits(labels, axis=1)
    whole = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8))).view(">u8")  # to compare 64 labels at a time
    return np.lexsort(whole.T[::-1].astype(np.uint64)) if whole.size else np.arange(len(labels))


def _group_draws(group: Groups, draws: FloatArray) -> FloatArray:
    """A uniform number for each group, (groups,), from the least draw of its rows."""
    least = np.ones(group.max() + 1)
    np.minimum.at(least, group, draws)
    # The chance that the least of so many uniform numbers is smaller is uniform again.
    return np.asarray(1 - (1 - least) ** np.bincount(group), np.float64)


def _random(size: int, draws: FloatArray, groups: Groups | None) -> RowIndex:
    """The `size` rows of least draw, ascending; with groups, all that fit, in order of their draws."""
    if groups is None:
        return np.sort(np.argsort(draws)[:size])
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    chosen = np.zeros(len(sizes), np.bool_)
    for g in np.argsort(_group_draws(group, draws)):
        if sizes[g] <= size:
            chosen[g] = True
            size -= sizes[g]
        if not size:
            break
    return np.flatnonzero(chosen[group])


def _in_groups(groups: Groups | None) -> str:
    """What an error adds if groups leave little choice."""
    count = len(np.unique(groups)) if groups is not None else 0
    return f" in {count} groups that stay together" if groups is not None and count < len(groups) else ""


def _marked(name: str, values: Sequence[str]) -> RowIndex:
    """The rows that a split column marks as eval rows: of val and test, test alone."""
    words = _words(values)
    for row, word in enumerate(words, start=1):
        if word not in EVAL_WORDS | TRAIN_WORDS | {UNUSED}:
            raise DataError(
                f"column {name!r} has {word!r} in row {row}: a split column has train, val and test (or "
                f"training, validation, dev, testing, holdout; 0 and 1; false and true; no and yes; {UNUSED})"
            )
    marks = TEST_WORDS if _has_both(words) else EVAL_WORDS
    return np.flatnonzero([word in marks for word in words])


def marked_validation(spec: str, columns: Mapping[str, Sequence[str]]) -> RowIndex | None:
    """The rows that a split column of train, val and test marks as validation rows.

    None if the SPEC is no column, or one of only two of these.
    """
    words = _words(columns.get(spec, ()))
    return np.flatnonzero([word in VALIDATION_WORDS for word in words]) if _has_both(words) else None


def marked_unused(spec: str, columns: Mapping[str, Sequence[str]]) -> RowIndex:
    """The rows that a split column marks as unused; none if the SPEC is no column."""
    return np.flatnonzero([word == UNUSED for word in _words(columns.get(spec, ()))])


def _words(values: Sequence[str]) -> list[str]:
    return [value.strip().lower() for value in values]


def _has_both(words: Sequence[str]) -> bool:
    return not VALIDATION_WORDS.isdisjoint(words) and not TEST_WORDS.isdisjoint(words)


def _integer(spec: str, argument: str) -> int:
    if not argument.isdecimal():
        raise DataError(
            f"split {spec!r}: an integer is required after the colon, as in {SPECS[2]} or {SPECS[3]}"
        )
    return int(argument)


def _size(spec: str, argument: str, n: int) -> int:
    """The number of rows that a fraction of n rows is."""
    try:
        fraction = float(argument)
    except ValueError:
        fraction = 0.0
    if not 0 < fraction < 1:
        raise DataError(
            f"split {spec!r}: a fraction between 0 and 1 is required after the colon, as in {SPECS[0]}"
        )
    return round(fraction * n)
