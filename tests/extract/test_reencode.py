import numpy as np
import pytest

from encode_once.cache import DataError, SpecMismatchError, Store
from encode_once.extract import ComputeOptions, encode
from encode_once.extract.reencode import TOLERANCE, recompute
from tests.conftest import picture

ARCH = "open_clip:ViT-S-32-alt"
TRIAL = f"{ARCH}+random"


@pytest.fixture
def store(folder, tmp_path):
    encode(
        folder(6),
        [ARCH, "glove-50"],
        tmp_path / "store",
        weights={ARCH: "random"},
        compute=ComputeOptions(workers=1),
    )
    return Store(tmp_path / "store")


def test_rows_encoded_again_agree(store):
    comparisons = recompute(store, 4)
    assert {comparison.feature for comparison in comparisons} == set(store.features())
    for comparison in comparisons:
        assert comparison.rows == 4
        assert comparison.agrees
        assert comparison.worst < TOLERANCE / 4


def test_altered_rows_do_not_agree(store):
    spec = store.feature("glove-50/mean").record
    keys, values, _ = store.feature("glove-50/mean").block(np.arange(6))
    other = Store(store.path.with_name("other"))
    for table in store.tables():
        other.save(table)
    with other.declare("glove-50/mean", spec.spec, spec.provenance).writer(6) as writer:
        writer.append(keys, values * np.float16(1.1))
    (comparison,) = recompute(other, 6)
    assert not comparison.agrees
    assert comparison.worst == pytest.approx(1 / 11, rel=0.01)


def test_changed_inputs_are_skipped(store, tmp_path):
    for row in range(5):
        picture(100 + row).save(tmp_path / "input" / "data" / f"{row}.png")
    (comparison,) = recompute(store, 6, [f"{TRIAL}/image"])
    assert comparison.rows == 1
    (tmp_path / "input" / "data" / "5.png").unlink()
    with pytest.raises(DataError, match="no input is left"):
        recompute(store, 6, [f"{TRIAL}/image"])


def test_an_encoder_with_another_spec_is_an_error(store, monkeypatch):
    monkeypatch.setattr("encode_once.extract.encoders.glove.TOKENIZING", "split at spaces")
    with pytest.raises(SpecMismatchError, match="tokenizer: stored"):
        recompute(store, 2, ["glove-50/mean"])
