"""The options of reading and computing are checked when they are made."""

import pytest

from encode_once.cache.errors import UsageError
from encode_once.extract import ComputeOptions, ReadOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "bfloat"}, "did you mean 'bfloat16'"),
        ({"backend": "onnx"}, "did you mean 'onnxruntime'"),
        ({"min_cosine": 1.5}, "min_cosine=1.5: it is between -1 and 1"),
        ({"bit_depth": 7}, "bit_depth=7: it is between 8 and 32"),
        ({"batch_size": 0}, "batch_size=0: it is 1 or more"),
        ({"workers": -1}, "workers=-1: it is 1 or more"),
    ],
)
def test_values_that_no_encoder_takes_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        ComputeOptions(**options)


@pytest.mark.parametrize("options", [{"precision": "fast"}, {"bit_depth": 12}])
def test_what_decides_values_is_refused_for_recorded_features(options):
    ComputeOptions("auto", 0.9, None, "torch", True, 5, 2).check_recorded()
    with pytest.raises(UsageError, match=f"^{next(iter(options))} is that of the features"):
        ComputeOptions(**options).check_recorded()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unknown": "NA"}, "unknown is the text 'NA': pass a list"),
        ({"classes": "a,b"}, "classes is the text 'a,b'"),
        ({"unknown": ["NA", " "]}, "--unknown blank"),
        ({"uncertain": "negativ"}, "did you mean 'negative'"),
    ],
)
def test_options_of_reading_are_checked(options, message):
    with pytest.raises(UsageError, match=message):
        ReadOptions(**options)
