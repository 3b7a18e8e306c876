"""Words for a missing value: those that pandas takes for one, empty lists, and what people write."""

EMPTY_LISTS = ("[]", "{}", "()", "set()")
MISSING = frozenset(
    {
        *"#N/A #NA -1.#IND -1.#QNAN -NaN -nan 1.#IND 1.#QNAN <NA> N/A NA NULL NaN None n/a nan null".split(),
        "#N/A N/A",
        *"none NONE nil - -- – — Unlabeled unlabeled Unlabelled unlabelled".split(),
        *("no label", "No label", "No Label", "no labels", "No labels", "No Labels"),
        *EMPTY_LISTS,
    }
)


def is_missing(cell: object) -> bool:
    """Whether a cell is such a word, None, NaN or blank."""
    if isinstance(cell, str):
        return not (text := cell.strip()) or text in MISSING
    return cell is None or cell != cell
