import pytest

from encode_once.cache.text_table import LEAST_WIDTH, markdown_text, table_text

ROWS = [
    {"name": "a|b", "n": 1, "MB": "1,234.5", "F1": 0.5, "interval": [0.25, 0.75]},
    {"name": "longer", "n": 12, "MB": "9.0", "F1": None, "interval": None},
]


def test_text_is_flush_left_and_numbers_are_flush_right():
    assert table_text(ROWS).splitlines() == [
        "name     n       MB     F1       interval",
        "a|b      1  1,234.5  0.500  0.250 … 0.750",
        "longer  12      9.0      –              –",
    ]


def test_a_table_without_header_is_as_wide_as_its_cells():
    assert (
        table_text([{"a long name": "x", "n": 1}, {"a long name": "yy", "n": 2}], header=False)
        == "x   1\nyy  2"
    )


def test_markdown_has_the_same_cells_with_bars_escaped():
    assert markdown_text(ROWS).splitlines() == [
        "| name | n | MB | F1 | interval |",
        "| --- | --- | --- | --- | --- |",
        "| a\\|b | 1 | 1,234.5 | 0.500 | 0.250 … 0.750 |",
        "| longer | 12 | 9.0 | – | – |",
    ]


WIDE = [
    {"run": "runs/linear-on-everything", "features": "a" * 40 + "z" * 40, "micro_f1": 0.5},
    {"run": "runs/mlp", "features": "short", "micro_f1": 0.25},
]


@pytest.mark.parametrize("columns", [80, 50])
def test_on_a_terminal_the_widest_columns_of_text_are_shortened(monkeypatch, columns):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = table_text(WIDE).splitlines()
    assert max(map(len, lines)) == columns
    assert lines[1].endswith("0.500")
    run, features = lines[1].split()[:2]
    assert features.startswith("aaa")
    assert features.endswith("zzz")
    assert "…" in features
    assert (run == "runs/linear-on-everything") is (columns == 80)


def test_columns_of_text_stay_readable_on_a_narrow_terminal_and_files_get_all(monkeypatch):
    whole = table_text(WIDE)
    assert "…" not in whole
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "10")
    assert len(table_text(WIDE).splitlines()[1].split()[1]) == LEAST_WIDTH
