"""Whether a table was read from the data that the user names, as a path or a URL."""

import pytest

from encode_once.cache.places import is_below


@pytest.mark.parametrize(
    "place", ["/x y", "file:///x%20y", "FILE:///x y", "/x y/t.csv", "file:///x%20y/t.csv"]
)
def test_a_table_is_below_its_folder_and_file(place):
    assert is_below("/x y/t.csv", place)


@pytest.mark.parametrize("place", ["s3://bucket/x", "S3://bucket/x/", "s3://bucket/x/t.csv"])
def test_a_table_at_a_url_is_below_its_folder_and_file(place):
    assert is_below("s3://bucket/x/t.csv", place)
    assert not is_below("s3://bucket/xy/t.csv", "s3://bucket/x")
    assert not is_below("/x/t.csv", place)
