"""Parameter types of the commands of stage 2."""

import click
import pytest

from encode_once.classify.options import HeadValues, by_head


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
