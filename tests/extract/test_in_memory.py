"""Vectors in memory are those of an extraction."""

import numpy as np
import pytest

from encode_once.cache import SpecMismatchError, Store, UsageError
from encode_once.extract import ComputeOptions, encode
from encode_once.extract.batches import DecodedInput
from encode_once.extract.encoders.base import RANDOM
from encode_once.extract.errors import InputError
from encode_once.extract.in_memory import LoadedEncoders
from encode_once.extract.recorded import recorded_towers

ENCODER = "efficientnet-lite0"
POOLED, REGIONS = f"{ENCODER}/pooled", f"{ENCODER}/regions"


class Opened:
    """An image of a file, or an error."""

    def __init__(self, path):
        self.path = path

    def open(self):
        if not self.path:
            raise InputError("missing", "no such file")
        return DecodedInput(content=self.path.read_bytes())


@pytest.fixture
def store(folder, tmp_path):
    folder(9)
    store = Store(tmp_path / "store")
    encode("input", [REGIONS], store, progress=False)
    return store


@pytest.fixture
def run_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_least_cosine_is_refused_as_nothing_is_compared():
    with pytest.raises(UsageError, match=r"^min_cosine is for extractions: nothing is compared here$"):
        LoadedEncoders({}, {}, compute=ComputeOptions(min_cosine=0.9))


@pytest.mark.parametrize("workers", [1, 3])
def test_rows_and_errors_are_in_the_order_of_the_inputs(run_in, store, tmp_path, workers):
    specs = {ENCODER: {name: store.feature(f"{ENCODER}/{name}").spec for name in ("pooled", "regions")}}
    loaded = LoadedEncoders(specs, {}, device="cpu", compute=ComputeOptions(workers=workers, batch_size=2))
    (table,) = store.tables()
    paths = [tmp_path / "input" / "data" / f"{row}.png" for row in range(9)]
    inputs = [Opened(path) for path in [*paths[:4], None, *paths[4:]]]
    encoded = loaded.encode({POOLED, REGIONS}, inputs)
    assert isinstance(encoded[POOLED][4], InputError)
    rows = [i for i in range(10) if i != 4]
    keys = table.keys("image")[[table.ids.index(path.name) for path in paths]]
    stored = store.feature(POOLED).read(keys)
    np.testing.assert_allclose([encoded[POOLED][i] for i in rows], stored, rtol=0.01, atol=0.01)
    assert encoded[POOLED][0].dtype == stored.dtype
    values, offsets = store.feature(REGIONS).read_ragged(keys)
    np.testing.assert_allclose(
        np.concatenate([encoded[REGIONS][i] for i in rows]), values, rtol=0.01, atol=0.01
    )
    assert [len(encoded[REGIONS][i]) for i in rows] == np.diff(offsets).tolist()
    assert loaded.encode({POOLED}, inputs[:1]).keys() == {POOLED}
    assert loaded.encode({POOLED}, []) == {POOLED: []}
    assert loaded.encode(set(), inputs) == {}


def test_an_encoder_that_makes_other_vectors_is_refused(run_in, store):
    spec = store.feature(POOLED).spec
    assert [tower.modality for tower in recorded_towers(ENCODER, {"pooled": spec}, None)] == ["image"]
    for weights, output, recorded, message in (
        (RANDOM, "pooled", spec, r"weights: stored .*, asked for RANDOM\(seed=0\)"),
        (None, "pooled", {**spec, "precision": "float16", "x": 1}, "x: stored 1, asked for –"),
        (None, "tokens", spec, "does not give tokens any more"),
    ):
        with pytest.raises(SpecMismatchError, match=message):
            recorded_towers(ENCODER, {output: recorded}, weights)


def test_the_recorded_precision_bit_depth_and_regions_are_those_of_the_towers(run_in, store):
    spec = dict(store.feature(POOLED).spec)
    (tower,) = recorded_towers(ENCODER, {"pooled": {**spec, "bit_depth": 12}}, None)
    assert tower.bit_depth == 12
    (tower,) = recorded_towers(ENCODER, {"pooled": {**spec, "precision": "bfloat16"}}, None)
    assert tower.options.precision == "bfloat16"
    (tower,) = recorded_towers(ENCODER, {"pooled": {**spec, "precision": "bfloat16 weights"}}, None)
    assert (tower.precision, tower.casts_weights) == ("bfloat16", True)
    assert REGIONS.partition("/")[2] not in tower.specs
