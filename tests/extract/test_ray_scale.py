"""9,000 real images on a Ray cluster, in spite of a killed driver, a killed node and one that joins."""

import pytest

from tests import ray_scale

pytestmark = pytest.mark.scale


def test_every_row_is_encoded_and_the_pace_is_that_of_the_local_engine(shared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    figures = ray_scale.measure(9000)
    print(figures)
    assert figures["rows"] == figures["equal"] == figures["images"] > 8900
    assert (
        figures["processes"] >= 3 + 3 + 1
    )  # those of the first driver, of the second, and of the added node
    batches = 2 * 16
    second = 2 * figures["ray_rate"]  # a commit each second, of rows that are encoded by then
    assert figures["again_driver"] <= 3 * (second + batches)
    assert figures["again_node"] <= second + batches
    assert figures["share"] >= 0.85
