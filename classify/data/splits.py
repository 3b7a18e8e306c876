"""Which rows are held out: by a SPEC for evaluation, and among the training rows for tuning."""

from collections.abc import Mapping, Sequence

import numpy as np

from encode_once.cache.errors import DataError, unknown_name
from encode_once.classify.arrays import FloatArray, Groups, LabelMatrix, RowIndex

SPECS = ("stratified:0.1", "random:0.2", "tail:3000", "kfold:5")
HELD_OUT = frozenset({"val", "valid", "validation", "dev", "test", "eval", "1", "true"})
TRAINED_ON = frozenset({"train", "0", "false", ""})


def folds(
    spec: str,
    labels: LabelMatrix,
    columns: Mapping[str, Sequence[str]],
    seed: int = 0,
    groups: Groups | None = None,
) -> list[RowIndex]:
    """The rows to hold out, ascending: k sets of them for `kfold:k`, one for any other SPEC.

    labels: (n, c). columns: the table's other columns by name, n texts each. A SPEC is `stratified:F` or
    `random:F`, a fraction of the rows; `tail:N`, the last N rows or that fraction of them; `kfold:K`,
    stratified; or the name of a column, in which words of `HELD_OUT` mark the rows and those of `TRAINED_ON`
    all others.
    groups: (n,), rows of equal number stay together, and sizes are as near to those asked for as that allows.
    `tail` and columns hold out what they say: `straddling` counts what they part.
    Raises DataError: an unknown SPEC or column, a column with other words, no row held out or none left.
    """
    n = len(labels)
    rng = np.random.default_rng(seed)
    rule, _, argument = spec.partition(":")
    if spec in columns:
        held = [_marked(spec, columns[spec])]
    elif rule == "kfold":
        k = _whole(spec, argument)
        if not 2 <= k <= n:
            raise DataError(f"split {spec!r}: {n} rows can be parted into 2 to {n} folds")
        fold = stratified(labels, np.bincount(np.arange(n) % k), rng, groups)
        held = [np.flatnonzero(fold == j) for j in range(k)]
    elif rule == "stratified":
        size = _share(spec, argument, n)
        held = [np.flatnonzero(stratified(labels, [n - size, size], rng, groups))]
    elif rule == "random":
        held = [_random(_share(spec, argument, n), rng.permutation(n), groups)]
    elif rule == "tail":
        size = _whole(spec, argument) if "." not in argument else _share(spec, argument, n)
        held = [np.arange(max(n - size, 0), n)]
    else:
        raise unknown_name("split", spec, [*SPECS, *columns])
    for rows in held:
        if not 0 < len(rows) < n:
            raise DataError(
                f"split {spec!r} holds out {len(rows)} of {n} rows{_in_groups(groups)}: some must be held "
                "out and some left"
            )
    return held


def inner(
    labels: LabelMatrix, rows: RowIndex, fraction: float = 0.1, seed: int = 0, groups: Groups | None = None
) -> tuple[RowIndex, RowIndex]:
    """Parts training rows in two: those to fit on, and a stratified fraction to stop, choose and tune on.

    labels: (n, c) of the whole table, and groups (n,), which stay together. Both parts keep the rows' order.
    Raises DataError where the fraction leaves either part empty.
    """
    size = round(fraction * len(rows))
    together = None if groups is None else groups[rows]
    chosen = np.zeros(len(rows), np.bool_)
    if 0 < size < len(rows):
        sizes = [len(rows) - size, size]
        chosen = stratified(labels[rows], sizes, np.random.default_rng(seed), together) == 1
    if not chosen.any() or chosen.all():
        raise DataError(
            f"of {len(rows)} training rows{_in_groups(together)} no {fraction:.0%} can be set apart for "
            "tuning: more rows are needed, or smaller groups"
        )
    return rows[~chosen], rows[chosen]


def straddling(held: RowIndex, groups: Groups) -> int:
    """How many of the rows held out are in a group (n,) with a row that is not."""
    rest = np.delete(groups, held)
    return int(np.isin(groups[held], rest).sum())


def stratified(
    labels: LabelMatrix,
    sizes: Sequence[int] | RowIndex,
    rng: np.random.Generator,
    groups: Groups | None = None,
) -> RowIndex:
    """Folds of exactly these sizes in which every label has its share as nearly as can be: fold index (n,).

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011). As there, the label with the
    fewest unassigned rows is next, and each of its rows goes to the fold that still wants the most of them.
    Here all rows of the label are dealt at once, in the order of their label sets, so that each set, too, is
    spread over the folds; and no fold is dealt more rows than it has room for.

    groups: (n,), rows of equal number go to the same fold. They are dealt before all rows that are alone,
    which make up for what groups could not balance. Sizes may be missed where too few rows are alone.
    """
    n = len(labels)
    if sum(sizes) != n:
        raise DataError(f"folds of {sum(sizes)} rows in all cannot hold {n}")
    order = rng.permutation(n)
    order = order[_by_label_set(labels[order])]
    Y = np.column_stack(
        [labels[order], np.ones(n, dtype=bool)]
    )  # every row has the last label: it comes last
    left = Y.sum(axis=0)  # (c + 1,)
    wanted = np.outer(sizes, left) / n  # (k, c + 1); of the last label, a fold wants what it has room for
    fold = np.full(n, -1)
    if groups is not None:
        fold = _deal_groups(Y, groups[order], wanted, rng)
        left = Y[fold < 0].sum(axis=0)
    while left.any():
        label = np.where(left, left, n + 1).argmin()
        rows = np.flatnonzero((fold < 0) & Y[:, label])
        fold[rows] = _deal(wanted[:, label], wanted[:, -1], len(rows), rng)
        dealt = np.stack([Y[rows[fold[rows] == j]].sum(axis=0) for j in range(len(wanted))])
        wanted -= dealt
        left -= dealt.sum(axis=0)
    return fold[np.argsort(order)]


def _deal(wanted: FloatArray, room: FloatArray, m: int, rng: np.random.Generator) -> RowIndex:
    """The folds of m rows in turn: wanted and room are (k,), the folds' wishes and free places.

    Giving row after row to the fold with the greatest wish left comes to taking the m highest of the levels
    wish, wish - 1, wish - 2 ... of all folds; of equal levels, that of the fold with more room.
    """
    turns = np.arange(m)
    levels = np.where(turns < room[:, None], wanted[:, None] - turns, -np.inf)  # (k, m)
    highest = np.lexsort((-np.repeat(room, m), -levels.ravel()))[:m]
    counts = np.bincount(highest // m, minlength=len(wanted))
    # Each fold's turns are spaced evenly over the m rows.
    places = np.concatenate([(np.arange(count) + rng.random()) / max(count, 1) for count in counts])
    return np.repeat(np.arange(len(counts)), counts)[np.argsort(places)]


def _deal_groups(Y: LabelMatrix, groups: Groups, wanted: FloatArray, rng: np.random.Generator) -> RowIndex:
    """The fold of each row of a group of several, -1 of all others; what folds get is taken from wanted.

    Y is (n, c + 1), wanted (k, c + 1). With E what each fold wanted of each label at first, the distance of a
    split to the balanced one is χ² = Σ wanted²/E. A group with counts g of the labels, dealt to a fold,
    changes it by Σ g (g - 2 wanted)/E over that fold's E, its share of the rows times the labels' totals. So
    each group, the largest first, goes where that is least among the folds that have room for it.
    """
    fold = np.full(len(Y), -1)
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    several = np.flatnonzero(sizes > 1)
    if not len(several):
        return fold
    rows = np.argsort(group, kind="stable")  # those of a group side by side
    ends = np.cumsum(sizes)
    total = np.maximum(Y.sum(axis=0), 1)
    shares = np.maximum(wanted[:, -1:] / len(Y), 1e-9)  # (k, 1); a fold of no rows has room for none
    several = rng.permutation(several)
    for one in several[np.argsort(-sizes[several], kind="stable")]:
        members = rows[ends[one] - sizes[one] : ends[one]]
        counts = Y[members].sum(axis=0)  # (c + 1,)
        room = wanted[:, -1]
        change = (counts * (counts - 2 * wanted) / total / shares).sum(axis=1)
        fits = room >= sizes[one]
        j = np.where(fits, change, np.inf).argmin() if fits.any() else room.argmax()
        fold[members] = j
        wanted[j] -= counts
    return fold


def _by_label_set(labels: LabelMatrix) -> RowIndex:
    """The order that puts rows (n, c) of equal labels side by side; such rows stay in theirs."""
    packed = np.packbits(labels, axis=1)
    whole = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8))).view(">u8")  # compared 64 labels at a time
    return np.lexsort(whole.T[::-1].astype(np.uint64)) if whole.size else np.arange(len(labels))


def _random(size: int, order: RowIndex, groups: Groups | None) -> RowIndex:
    """The first rows in that order, sorted; of groups, those that fit, in the order of their first rows."""
    if groups is None:
        return np.sort(order[:size])
    _, first, group, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    chosen = np.zeros(len(sizes), np.bool_)
    for one in np.argsort(np.argsort(order)[first]):
        if sizes[one] <= size:
            chosen[one] = True
            size -= sizes[one]
        if not size:
            break
    return np.flatnonzero(chosen[group])


def _in_groups(groups: Groups | None) -> str:
    """What an error says of groups that leave little choice."""
    many = len(np.unique(groups)) if groups is not None else 0
    return f" in {many} groups that stay together" if groups is not None and many < len(groups) else ""


def _marked(name: str, values: Sequence[str]) -> RowIndex:
    words = [value.strip().lower() for value in values]
    for row, word in enumerate(words, start=1):
        if word not in HELD_OUT | TRAINED_ON:
            raise DataError(
                f"column {name!r} says {word!r} in row {row}: a split column says train, or val or test"
            )
    return np.flatnonzero([word in HELD_OUT for word in words])


def _whole(spec: str, argument: str) -> int:
    if not argument.isdecimal():
        raise DataError(
            f"split {spec!r}: a whole number belongs after the colon, as in {SPECS[2]} or {SPECS[3]}"
        )
    return int(argument)


def _share(spec: str, argument: str, n: int) -> int:
    """How many of n rows a fraction is."""
    try:
        fraction = float(argument)
    except ValueError:
        fraction = 0.0
    if not 0 < fraction < 1:
        raise DataError(
            f"split {spec!r}: a fraction between 0 and 1 belongs after the colon, as in {SPECS[0]}"
        )
    return round(fraction * n)
