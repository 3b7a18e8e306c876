import numpy as np

from encode_once.classify.runs.predict import Predicted
from encode_once.classify.runs.shown import shown_rows, text

PREDICTED = Predicted(
    np.array([[0.25, 0.875, 0.5], [0.125, 0.25, 0.125]]),
    np.array([[True, True, False], [False, False, False]]),
    np.zeros((2, 1), bool),
    [],
)


def test_labels_come_with_their_scores_the_highest_first():
    rows = shown_rows(["a.jpg", "longer.jpg"], ["cat", "dog", "bus"], PREDICTED)
    assert rows == [
        {"id": "a.jpg", "labels": ["dog", "cat"], "scores": {"dog": 0.875, "cat": 0.25}},
        {"id": "longer.jpg", "labels": [], "scores": {}},
    ]
    assert text(rows) == "a.jpg       dog 0.875, cat 0.250\nlonger.jpg  no label"


def test_the_classes_of_the_highest_scores_are_in_brackets_if_they_are_no_labels():
    rows = shown_rows(["a.jpg", "b\n.jpg"], ["cat", "dog", "bus"], PREDICTED, top=2)
    assert text(rows).splitlines() == [
        "a.jpg    dog 0.875, (bus 0.500)",
        r"b\n.jpg  (dog 0.250), (cat 0.125)",
    ]
