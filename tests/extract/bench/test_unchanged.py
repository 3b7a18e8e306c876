import pytest

from encode_once.cache import Store
from encode_once.extract import encode
from encode_once.extract.bench.unchanged import memory, unchanged


def test_an_unchanged_extraction_is_timed_with_the_stores_encoders(folder, tmp_path):
    root, store = folder(5), Store(tmp_path / "store")
    encode(root, ["glove-50"], store)
    result = unchanged(str(root), str(store.path))
    assert (result["rows"], result["encoded"]) == (5, 0)
    assert result["task"].endswith("glove-50")


@pytest.mark.real
def test_the_memory_of_an_extraction_is_measured():
    result = memory(50)
    assert result["rows"] == 50
    assert result["MB"] > 50, "the words' vectors alone take more"
