"""Names of features are read as they are written."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encode_once.cache.names import FeatureName, captioner, split_regions, with_captioner
from encode_once.cache.views import VIEW

LETTERS = st.characters(exclude_categories=["Cs"])  # those of the default, which takes seconds to compute
WORD = st.from_regex(r"[a-zA-Z0-9_][\w.:+=-]*", fullmatch=True, alphabet=LETTERS)
ANY_WORD = st.from_regex(r"[a-zA-Z0-9_][\w.:+=@-]*", fullmatch=True, alphabet=LETTERS)
ENCODER = st.lists(ANY_WORD, min_size=1, max_size=3).map("/".join)
CAPTIONER = ENCODER.filter(lambda name: not re.match(rf"{VIEW}(/|$)", name))  # such as `whole` or `320`
CAPTIONS = st.one_of(st.just("table"), CAPTIONER, ENCODER.map("table+{}".format))


@given(ANY_WORD, st.lists(WORD, max_size=2), WORD, CAPTIONS)
def test_a_name_is_parsed_as_it_is_written(first, rest, output, captions):
    name = FeatureName("/".join([first, *rest]), output, captions)
    assert FeatureName.parse(str(name)) == name


@given(ENCODER, WORD, CAPTIONS)
def test_with_known_captions_any_encoder_is_parsed(encoder, output, captions):
    name = FeatureName(encoder, output, captions)
    assert FeatureName.parse(str(name), captions) == name


@pytest.mark.parametrize(
    ("text", "stored", "requested", "encoders"),
    [
        ("clip-vit-l/image", "clip-vit-l/image", "clip-vit-l", ["clip-vit-l"]),
        ("clip-vit-l/regions", "clip-vit-l/regions", "clip-vit-l/regions", ["clip-vit-l"]),
        ("a/b/text@coca-b32", "a/b/text", "a/b", ["a/b", "coca-b32"]),
        ("clip/text@table+captioner:a/b", "clip/text", "clip", ["clip", "captioner:a/b"]),
        ("onnx:net@2.onnx/pooled", "onnx:net@2.onnx/pooled", "onnx:net@2.onnx", ["onnx:net@2.onnx"]),
        ("clip", "clip", "clip", ["clip"]),
    ],
)
def test_parts_of_a_name(text, stored, requested, encoders):
    name = FeatureName.parse(text)
    assert (name.stored, name.requested, name.encoders) == (stored, requested, encoders)


def test_captions_name_their_captioner():
    assert list(map(captioner, ["table", "coca", "table+a/b"])) == [None, "coca", "a/b"]
    assert [with_captioner(captions, "git") for captions in ("coca", "table+a/b")] == ["git", "table+git"]
    name = FeatureName.parse("clip/text@table+onnx:a/b.onnx")
    assert str(replace(name, captions=with_captioner(name.captions, "git"))) == "clip/text@table+git"


def test_regions_are_requested_by_the_end_of_an_encoders_name():
    assert list(map(split_regions, ["clip/regions", "clip", "regions"])) == [
        ("clip", True),
        ("clip", False),
        ("regions", False),
    ]
