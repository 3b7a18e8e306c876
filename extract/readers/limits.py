"""How much memory a table may take."""

FEW_CELLS = 10_000_000  # 80 MB
SPARSE = 100  # cells for each value; a table of captions has less than two


def is_too_sparse(rows: int, columns: int, values: int) -> bool:
    """Whether a table would take far more memory than the file it comes from."""
    return rows * columns > max(FEW_CELLS, SPARSE * values)
