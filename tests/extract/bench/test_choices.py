"""`bench extract --choices`: each backend and precision, and how the automatic choice compares."""

import pytest

from encode_once.cache import UsageError
from encode_once.extract.bench.choices import choices, text

TINY = "timm:test_vit"


def test_the_automatic_choice_is_compared_with_the_others(folder):
    (record,) = choices(str(folder(5)), [TINY], weights={TINY: "random"}, images=5)
    assert (record["encoder"], record["inputs"]) == (TINY, "image")
    measured = record["choices"]
    reduced = {"torch, weights in bfloat16", "torch, autocast to bfloat16"}
    assert measured.keys() - {"onnxruntime"} == {"torch"} | reduced
    assert measured["torch"]["cosine"] == 1.0
    assert all(0.9 < measured[choice]["cosine"] < 1 for choice in reduced)
    chosen = measured[record["automatic"]]
    assert record["over_float32"] == pytest.approx(chosen["per_s"] / measured["torch"]["per_s"])
    assert record["over_best"] <= 1
    assert f"{record['automatic']} is chosen" in text([record])


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["minilm", "open_clip:ViT-S-32-alt"])
def test_text_towers_have_the_same_choices(folder, encoder):
    weights = None if encoder == "minilm" else {encoder: "random"}
    records = choices(str(folder(5)), [encoder], weights=weights, images=5)
    (record,) = (record for record in records if record["inputs"] == "caption")
    reduced = {"torch, weights in bfloat16", "torch, autocast to bfloat16"}
    assert record["choices"].keys() == {"torch"} | reduced
    assert all(0.999 < record["choices"][choice]["cosine"] < 1 for choice in reduced)
    assert record["automatic"] in record["choices"]
    assert record["over_best"] <= 1


def test_encoders_without_a_choice_are_an_error(folder):
    with pytest.raises(UsageError, match="several precisions"):
        choices(str(folder(2)), ["glove-50"])
