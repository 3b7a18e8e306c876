from encode_once.cache.text_table import markdown_text, table_text

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
