"""Which rows are held out: by a SPEC for evaluation, and among the training rows for tuning."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cache.errors import DataError, unknown_name
from classify.matrices import Labels

SPECS = ("stratified:0.1", "random:0.2", "tail:3000", "kfold:5")
HELD_OUT = frozenset({"val", "valid", "validation", "dev", "test", "eval", "1", "true"})
TRAINED_ON = frozenset({"train", "0", "false", ""})

Rows = NDArray[np.intp]


def folds(spec: str, labels: Labels, columns: Mapping[str, Sequence[str]], seed: int = 0) -> list[Rows]:
    """The rows to hold out, ascending: k sets of them for `kfold:k`, one for any other SPEC.

    labels: (n, c). columns: the table's other columns by name, n texts each. A SPEC is `stratified:F` or
    `random:F`, a fraction of the rows; `tail:N`, the last N rows or that fraction of them; `kfold:K`,
    stratified; or the name of a column, in which words of `HELD_OUT` mark the rows and those of `TRAINED_ON`
    all others.
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
        fold = stratified(labels, np.bincount(np.arange(n) % k), rng)
        held = [np.flatnonzero(fold == j) for j in range(k)]
    elif rule == "stratified":
        size = _share(spec, argument, n)
        held = [np.flatnonzero(stratified(labels, [n - size, size], rng))]
    elif rule == "random":
        held = [np.sort(rng.permutation(n)[: _share(spec, argument, n)])]
    elif rule == "tail":
        size = _whole(spec, argument) if "." not in argument else _share(spec, argument, n)
        held = [np.arange(max(n - size, 0), n)]
    else:
        raise unknown_name("split", spec, [*SPECS, *columns])
    if not all(0 < len(rows) < n for rows in held):
        raise DataError(
            f"split {spec!r} holds out {len(held[0])} of {n} rows: some must be held out and some left"
        )
    return held


def inner(labels: Labels, rows: Rows, fraction: float = 0.1, seed: int = 0) -> tuple[Rows, Rows]:
    """Parts training rows in two: those to fit on, and a stratified fraction to stop, choose and tune on.

    labels: (n, c) of the whole table. Both parts keep the rows' order.
    Raises DataError where the fraction leaves either part empty.
    """
    size = round(fraction * len(rows))
    if not 0 < size < len(rows):
        raise DataError(f"{len(rows)} training rows cannot be parted at a fraction of {fraction}")
    chosen = stratified(labels[rows], [len(rows) - size, size], np.random.default_rng(seed)) == 1
    return rows[~chosen], rows[chosen]


def stratified(labels: Labels, sizes: Sequence[int] | Rows, rng: np.random.Generator) -> Rows:
    """Folds of exactly these sizes in which every label has its share as nearly as can be: fold index (n,).

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011). As there, the label with the
    fewest unassigned rows is next, and each of its rows goes to the fold that still wants the most of them.
    Here all rows of the label are dealt at once, in the order of their label sets, so that each set, too, is
    spread over the folds; and no fold is dealt more rows than it has room for.
    """
    n = len(labels)
    if sum(sizes) != n:
        raise DataError(f"folds of {sum(sizes)} rows in all cannot hold {n}")
    label_sets = np.unique(np.packbits(labels, axis=1), axis=0, return_inverse=True)[1]
    order = rng.permutation(n)
    order = order[np.argsort(label_sets[order], kind="stable")]
    Y = np.column_stack(
        [labels[order], np.ones(n, dtype=bool)]
    )  # every row has the last label: it comes last
    left = Y.sum(axis=0)  # (c + 1,)
    wanted = np.outer(sizes, left) / n  # (k, c + 1); of the last label, a fold wants what it has room for
    fold = np.full(n, -1)
    while left.any():
        label = np.where(left, left, n + 1).argmin()
        rows = np.flatnonzero((fold < 0) & Y[:, label])
        fold[rows] = _deal(wanted[:, label], wanted[:, -1], len(rows), rng)
        dealt = np.stack([Y[rows[fold[rows] == j]].sum(axis=0) for j in range(len(wanted))])
        wanted -= dealt
        left -= dealt.sum(axis=0)
    return fold[np.argsort(order)]


def _deal(wanted: NDArray[np.float64], room: NDArray[np.float64], m: int, rng: np.random.Generator) -> Rows:
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


def _marked(name: str, values: Sequence[str]) -> Rows:
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
