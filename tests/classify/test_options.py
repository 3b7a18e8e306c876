"""Parameter types of the commands of stage 2."""

import click
import pytest
from click.testing import CliRunner

from encode_once.classify.options import HeadValues, by_head, decision_options


def test_values_are_a_list_or_json():
    settings = [
        "mlp.dropout=0.3,0.5",
        "mlp.hidden=[[512], [1024, 512]]",
        "mlp.loss=bce,focal",
        "knn.metric=l2",
    ]
    assert by_head([HeadValues().convert(setting, None, None) for setting in settings]) == {
        "mlp": {"dropout": [0.3, 0.5], "hidden": [[512], [1024, 512]], "loss": ["bce", "focal"]},
        "knn": {"metric": ["l2"]},
    }


@pytest.mark.parametrize("setting", ["dropout=1", "mlp.dropout"])
def test_a_setting_without_a_head_or_a_value_is_refused(setting):
    with pytest.raises(click.BadParameter, match=setting):
        HeadValues().convert(setting, None, None)


@pytest.mark.parametrize(
    ("words", "explicit"),
    [
        ([], {}),
        (["--tune", "macro"], {"objective": "macro", "decide": "thresholds"}),
        (["--no-shrink"], {"shrink": False, "decide": "thresholds"}),
        (["--tune", "macro", "--decide", "expected-f1"], {"objective": "macro", "decide": "expected-f1"}),
        (["--shrink", "--at-most", "0"], {"shrink": True, "at_most": None}),
        (["--decide", "cuts"], {"decide": "thresholds"}),
    ],
)
def test_an_objective_asks_for_thresholds(words, explicit):
    @click.command()
    @decision_options
    def command(decision):
        assert decision == explicit

    result = CliRunner().invoke(command, words)
    assert result.exception is None, result.exception
