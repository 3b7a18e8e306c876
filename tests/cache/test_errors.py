"""Names that are nearly right are suggested."""

import pytest

from encode_once.cache.errors import unknown_name

NAMES = ["linear", "mlp", "clip-vit-l", "clip-rn50", "glove-50/mean", "glove-50/tokens"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("MLP", "did you mean 'mlp'?"),
        ("mpl", "did you mean 'mlp'?"),
        ("Liner", "did you mean 'linear'?"),
        ("clip", "did you mean 'clip-vit-l' or 'clip-rn50'?"),
        ("GLOVE-50", "did you mean 'glove-50/mean' or 'glove-50/tokens'?"),
        ("logistic", "did you mean 'linear'?"),
        ("Logistic", "did you mean 'linear'?"),
        ("zzz", "choose from linear, mlp, clip-vit-l, clip-rn50, glove-50/mean, glove-50/tokens"),
        ("l", "choose from linear, mlp, clip-vit-l, clip-rn50, glove-50/mean, glove-50/tokens"),
    ],
)
def test_a_name_by_case_typing_beginning_or_alias(name, hint):
    error = unknown_name("name", name, NAMES, aliases={"logistic": "linear", "gone": "absent"})
    assert str(error) == f"unknown name {name!r}: {hint}"


def test_an_alias_of_a_name_that_is_not_there_is_no_hint():
    assert "choose from" in str(unknown_name("name", "gone", NAMES, aliases={"gone": "absent"}))


def test_of_many_names_that_begin_so_the_first_are_named():
    names = [f"model-{letter}" for letter in "abcdefghijkl"]
    message = str(unknown_name("model", "model", names))
    assert message.endswith("'model-g', 'model-h', …?")
    assert str(unknown_name("model", "x", [])).endswith("there is none yet")
