"""The names of views: one grammar for options and names of features."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encode_once.cache.errors import UsageError
from encode_once.cache.names import FeatureName
from encode_once.cache.views import LEAST, MOST, SQUARES, View, canonical, split_view, without_view

VIEWS = st.builds(View, st.sampled_from(["", *SQUARES]), st.none() | st.integers(LEAST, MOST), st.booleans())
ENCODERS = st.sampled_from(["clip-vit-l", "open_clip:ViT-B-32/openai", "onnx:net@2.onnx", "timm:a+random"])


@given(VIEWS)
def test_words_in_any_order_are_the_same_view(view):
    words = [word for word in (view.square, str(view.size or ""), "flip" * view.flip) if word]
    assert all(View.parse("-".join(order)) == view for order in permutations(words) if order)
    assert not words or str(view) == "-".join(words)


@given(ENCODERS, VIEWS, st.sampled_from(["pooled", "regions", "text"]))
def test_a_feature_has_the_encoder_with_its_view(encoder, view, output):
    name = encoder + (f"@{view}" if view else "")
    assert split_view(name) == (encoder, view)
    parsed = FeatureName.parse(f"{name}/{output}")
    assert (parsed.encoder, parsed.output, parsed.captions) == (name, output, "table")
    assert str(parsed) == f"{name}/{output}"
    assert parsed.encoders == [encoder]
    assert parsed.requested == (f"{name}/regions" if output == "regions" else name)


def test_captions_and_views_both_follow_an_at():
    captions = FeatureName.parse("clip-vit-l/text@table+coca-b32")
    assert (captions.encoder, captions.captioner) == ("clip-vit-l", "coca-b32")
    assert FeatureName.parse("clip-vit-l@flip-whole/image").encoder == "clip-vit-l@whole-flip"
    assert FeatureName.parse("clip-vit-l@whole").encoder == "clip-vit-l@whole"


def test_what_is_no_view_belongs_to_the_name():
    for name in ("onnx:net@2.onnx", "file@7.py:Encoder", "net@whole.onnx", "net@12", "net@whole-pad"):
        assert without_view(name) == canonical(name) == name
    assert canonical("net@320-crop") == "net@320"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("whol", "unknown view 'whol': did you mean 'whole'?"),
        ("five-crop", "did you mean 'five-crops'?"),
        ("whole-mirror", "unknown view 'mirror'"),
        ("whole-pad", "view 'whole-pad': name one of crop, whole, pad, five-crops, a size and flip"),
        ("320-288", "each at most once"),
        ("whole-", "each at most once"),
        ("", "each at most once"),
        ("12", "the size is 12 pixels; use 32 to 2,048"),
        ("whole-9000", "the size is 9000 pixels; use 32 to 2,048"),
        ("7" * 5000, "7 pixels; use 32 to 2,048"),  # `int` reads no more than 4,300 digits
    ],
)
def test_a_bad_view_is_an_error_of_one_line(text, message):
    with pytest.raises(UsageError) as error:
        View.parse(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
