from encode_once.classify.data.labels import class_names, label_matrix


def test_classes_are_in_natural_order():
    assert class_names([("10", "9"), ("b2", "b10", "a")]) == ["9", "10", "a", "b2", "b10"]


def test_labels_that_are_not_classes_are_ignored():
    Y = label_matrix([("a", "x"), (), ("b", "a")], ["a", "b"])
    assert Y.tolist() == [[True, False], [False, False], [True, True]]
