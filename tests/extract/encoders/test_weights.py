"""Errors in loading weights become a line with a remedy, whatever their type."""

import pytest

from encode_once.extract.encoders.weights import weights_errors
from encode_once.extract.errors import WeightsError


@pytest.mark.parametrize(
    "error", [OSError("no network"), KeyError("no network"), RuntimeError("no network\n")]
)
def test_any_error_becomes_a_line_with_the_remedy(error):
    with pytest.raises(WeightsError) as caught, weights_errors("x: no weights {}", "use --weights PATH"):
        raise error
    message = str(caught.value)
    assert message.startswith("x: no weights {} (")
    assert "no network" in message
    assert message.endswith("); use --weights PATH")
    assert "\n" not in message
    assert caught.value.__cause__ is error


def test_an_error_with_its_own_remedy_passes_unchanged():
    error = WeightsError("x needs: pip install y")
    with pytest.raises(WeightsError) as caught, weights_errors("x: no weights", "use --weights PATH"):
        raise error
    assert caught.value is error


def test_without_an_error_nothing_happens():
    with weights_errors("x: no weights"):
        loaded = True
    assert loaded
