import pytest

from encode_once.extract.bench.reading import reading


@pytest.mark.slow
def test_the_ratio_to_pandas_is_that_of_the_seconds():
    results = reading(400, 5)
    assert [(row["reader"], row["quotes"]) for row in results] == [
        ("pandas.read_csv", "no"),
        ("encode-once", "no"),
        ("pandas.read_csv", "captions"),
        ("encode-once", "captions"),
    ]
    for pandas, ours in (results[:2], results[2:]):
        assert ours["times_pandas"] == ours["seconds"] / pandas["seconds"]
        assert ours["MB"] > 0
