"""The options of reading and computing are checked when they are made."""

import math

import pytest

from encode_once.cache.errors import UsageError
from encode_once.extract import Columns, ComputeOptions, ReadOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "bfloat"}, "did you mean 'bfloat16'"),
        ({"backend": "onnx"}, "did you mean 'onnxruntime'"),
        ({"min_cosine": 1.5}, "min_cosine=1.5: it is between -1 and 1"),
        ({"min_cosine": math.nan}, "min_cosine=nan: it is between -1 and 1"),
        ({"bit_depth": 7}, "bit_depth=7: it is a whole number, between 8 and 32"),
        ({"batch_size": 0}, "batch_size=0: it is a whole number, 1 or more"),
        ({"workers": -1}, "workers=-1: it is a whole number, 1 or more"),
        ({"workers": 2.5}, "workers=2.5: it is a whole number"),
        ({"workers": "2"}, "workers='2': it is a whole number"),
        ({"precision": None}, "precision 'None'"),
        ({"backend": None}, "backend 'None'"),
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
        ({"unknown": None}, "unknown is None: pass a list"),
        ({"unknown": ["NA", " "]}, "unknown has an empty mark: blank cells are marked by the word blank"),
        ({"columns": None}, r"columns is None: pass Columns\("),
        ({"columns": {"labels": ["tags"]}}, r"pass Columns\("),
        ({"uncertain": "negativ"}, "did you mean 'negative'"),
    ],
)
def test_options_of_reading_are_checked(options, message):
    with pytest.raises(UsageError, match=message):
        ReadOptions(**options)


@pytest.mark.parametrize("options", [{"captions": "Caption"}, {"labels": "tags"}, {"labels": None}])
def test_a_text_is_no_list_of_columns(options):
    with pytest.raises(UsageError, match=r"^(captions|labels) is .*: pass a list of texts$"):
        Columns(**options)
