"""Values of options are checked by type and limits, in words, and every default passes."""

import inspect
import typing

import numpy as np
import pytest

from encode_once.cache import UsageError
from encode_once.classify import heads
from encode_once.classify.heads import catalogue, option_values
from encode_once.classify.heads.search_space import Range


@pytest.mark.parametrize("name", heads.HEADS)
def test_defaults_and_searched_values_are_valid(name):
    heads.check_options(name, heads.defaults_of(name))
    for option, space in heads.class_of(name).SPACE.items():
        values = (space.low, space.high) if isinstance(space, Range) else space
        for value in values:
            heads.check_options(name, {option: value})


def numbers_in(annotation):
    parts = typing.get_args(annotation)
    return annotation in (int, float) or any(map(numbers_in, parts))


@pytest.mark.parametrize("name", heads.HEADS)
def test_every_option_of_numbers_has_limits(name):
    types = heads.types_of(name)
    assert types.keys() == {*inspect.signature(heads.class_of(name)).parameters}
    numeric = {option for option in types if numbers_in(types[option])} - {*heads.FILLED_IN}
    assert numeric <= option_values.LIMITS.keys()


@pytest.mark.parametrize(
    ("head", "options", "message"),
    [
        (
            "mlp",
            {"dropout": "abc"},
            "dropout of head mlp must be a number ≥ 0 and < 1, not 'abc' (default: 0.5)",
        ),
        ("mlp", {"dropout": 1.5}, "a number ≥ 0 and < 1, not 1.5"),
        ("mlp", {"dropout": float("nan")}, "a number ≥ 0 and < 1, not nan"),
        ("mlp", {"dropout": False}, "not False"),
        ("mlp", {"epochs": True}, "not True"),
        ("mlp", {"hidden": 512}, "a list, each a whole number ≥ 1, not 512 (default: [1024])"),
        ("mlp", {"hidden": [512, 0]}, "not [512, 0]"),
        ("mlp", {"epochs": 0}, "a whole number ≥ 1, not 0"),
        ("mlp", {"epochs": 1.5}, "a whole number ≥ 1, not 1.5"),
        ("mlp", {"learning_rate": 10}, "not 10"),
        ("mlp", {"learning_rate": [0.1, 10]}, "not [0.1, 10]"),
        ("mlp", {"batch_norm": "yes"}, "true or false, not 'yes'"),
        ("mlp", {"optimiser": "Adam"}, "did you mean 'adam'?"),
        ("mlp", {"drop": 0.3}, "did you mean 'dropout'?"),
        ("linear", {"Cs": []}, "a list, each a number > 0, not []"),
        ("linear", {"Cs": [0]}, "not [0]"),
        ("knn", {"ks": "5"}, "a list, each a whole number ≥ 1, not '5'"),
        ("bigru", {"reader": "gru"}, "unknown reader 'gru'"),
        ("logistic", {}, "did you mean 'linear'?"),
    ],
)
def test_wrong_values_are_one_clear_line(head, options, message):
    with pytest.raises(UsageError) as error:
        heads.make(head, **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("head", "options"),
    [
        ("mlp", {"hidden": []}),
        ("mlp", {"hidden": np.array([4, 5]), "dropout": np.float32(0.5), "epochs": np.int64(3)}),
        ("mlp", {"input_dropout": None, "batch_norm": np.bool_(True), "dropout": 0}),
        ("knn", {"temperatures": [1, float("inf")]}),
        ("prototype", {"prompts": np.zeros((2, 3)), "shots": 0}),
        ("stack", {"heads": ("linear", "knn"), "parts": [[0], [1]], "options": [{}, {"ks": [3]}]}),
    ],
)
def test_right_values_of_all_kinds_pass(head, options):
    fresh = heads.make(head, **options)
    for name, value in options.items():
        np.testing.assert_equal(getattr(fresh, name), value)


def test_a_heads_page_has_all_its_options_with_default_and_values():
    record = catalogue.described("mlp")
    rows = {row["option"]: row for row in record["options"]}
    assert rows.keys() == heads.defaults_of("mlp").keys() - heads.FILLED_IN.keys()
    assert rows["hidden"] == {
        "option": "hidden",
        "default": "[1024]",
        "values": "a list, each a whole number ≥ 1",
        "search": "[512], [1024], [2048], [1024, 512]",
    }
    assert rows["loss"]["values"].startswith("bce, ")
    assert rows["input_dropout"]["values"] == "a number ≥ 0 and < 1 or null"
    assert "hidden" in record["documentation"]
    assert "hidden  " in catalogue.text(record)


def test_what_a_head_sets_and_what_fit_fills_in():
    listed = {record["head"]: record for record in catalogue.listed()}
    assert listed.keys() == heads.HEADS.keys()
    assert all(record["description"].endswith(".") for record in listed.values())
    assert listed["bigru"]["sets"] == {"reader": "bigru"}
    shown = {row["option"]: row["default"] for row in catalogue.described("bigru")["options"]}
    assert shown["reader"] == "bigru"
    assert "shapes" not in shown
