"""An order of rows and classes that depends on their contents alone.

Random draws, sums of floats and searches that visit classes in turn depend on an order. Where rows and
classes are first put in this one, results do not depend on the order or the names that they came with.
"""

from collections.abc import Iterator

from array_api_compat import array_namespace

from encode_once.classify.decisions.ranking import Array

BLOCK = 2**22  # cells mixed at a time
ROUNDS = 2
FIRST, SECOND = -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15  # of SplitMix64 (Steele et al., 2014), as int64


def canonical_order(scores: Array, labels: Array) -> tuple[Array, Array]:
    """The order of rows (n,) and of classes (c,) of scores and labels (n, c), of NumPy or torch.

    Rows and classes are ordered by hashes: a class's of its scores and labels with the hashes of their rows,
    a row's likewise (Weisfeiler and Leman, 1968). Integers add up to the same in any order. Rows with equal
    scores and labels keep the order that they came in, as do classes.
    """
    xp = array_namespace(scores)
    n, c = scores.shape
    step = max(BLOCK // c, 1)
    blocks = [slice(start, min(start + step, n)) for start in range(0, n, step)]
    kept = [_cells(scores, labels, blocks[0])] if len(blocks) == 1 else []

    def cells() -> Iterator[Array]:
        yield from kept or (_cells(scores, labels, block) for block in blocks)

    rows = xp.zeros_like(labels[:, 0], dtype=xp.int64)
    for _ in range(ROUNDS):
        by_block = (
            xp.sum(_mixed(hashes + rows[block][:, None]), axis=0)
            for hashes, block in zip(cells(), blocks, strict=True)
        )
        classes = sum(by_block, xp.zeros_like(labels[0, :], dtype=xp.int64))
        rows = xp.concat([xp.sum(_mixed(hashes + classes), axis=1) for hashes in cells()])
    return xp.argsort(rows, stable=True), xp.argsort(classes, stable=True)


def _cells(scores: Array, labels: Array, rows: slice) -> Array:
    """A hash of each score and label in these rows."""
    xp = array_namespace(scores)
    bits = (xp.astype(scores[rows, :], xp.float64) + 0.0).view(xp.int64)  # -0 becomes 0
    return _mixed(bits + (2 * xp.astype(labels[rows, :], xp.int64) + 1) * FIRST)


def _mixed(values: Array) -> Array:
    """The values (int64) with their bits mixed; products overflow, as they should."""
    values = (values ^ (values >> 30)) * FIRST
    values = (values ^ (values >> 27)) * SECOND
    return values ^ (values >> 31)
