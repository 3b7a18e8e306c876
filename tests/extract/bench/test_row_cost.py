import pytest

from encode_once.cache import UsageError
from encode_once.extract.bench.row_cost import encoding_cost, table_cost

TINY = "timm:test_vit"


def test_a_row_costs_its_image_and_its_vectors(folder):
    root = folder(4)
    images = [*(root / "data").iterdir()]
    cost = encoding_cost(str(root), TINY, weights={TINY: "random"}, device="cpu", rows=3, repeats=1)
    assert (cost.rows, cost.features, cost.width, cost.vector_width) == (3, 1, 64, 64)
    sizes = sorted(path.stat().st_size for path in images)
    assert sum(sizes[:3]) <= 3 * cost.image_bytes <= sum(sizes[1:])
    assert cost.read > 0
    assert cost.encode > 0


def test_sequences_take_space_and_heads_do_not_learn_from_them(folder):
    root = folder(2)
    cost = encoding_cost(str(root), "glove-50", rows=2, repeats=1)
    # The captions "a dog and a dog, 0" and "a cat and a dog, 1": a mean of 50, and a vector for each word.
    assert (cost.features, cost.vector_width) == (2, 50)
    assert cost.width == 50 + 6 * 50


def test_data_without_anything_to_encode_is_refused(tmp_path):
    (tmp_path / "train.csv").write_text("ImageID,Labels,Caption\n1,a,a dog\n2,b,a cat\n")
    with pytest.raises(UsageError, match="nothing that timm:test_vit encodes"):
        encoding_cost(str(tmp_path), TINY, weights={TINY: "random"}, device="cpu")


def test_a_row_of_a_table_costs_memory_and_space():
    cost = table_cost(200, 1200, repeats=1)
    assert 60 < cost.bytes < 400
    assert 100 < cost.memory < 3000
