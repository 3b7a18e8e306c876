from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encode_once.cache import DataError, MissingDataError, Table
from encode_once.classify.data.hierarchy import Hierarchy, levels, raised, read_hierarchy
from encode_once.classify.runs.asked import hierarchy_of
from tests.conftest import examples

PETS = Hierarchy((("puppy", "dog"), ("dog", "animal"), ("dog", "pet"), ("cat", "pet"), ("pet", "thing")))


@st.composite
def hierarchies(draw):
    """Edges among classes 0 .. c - 1, from a higher number to a lower one, so that there is no circle."""
    c = draw(st.integers(1, 7))
    edges = [
        (str(child), str(parent)) for child in range(c) for parent in range(child) if draw(st.booleans())
    ]
    return c, draw(st.permutations(edges))


def reachable(edges, name):
    """All that can be reached, by following one edge after the other."""
    above, size = {name}, 0
    while len(above) > size:
        size = len(above)
        above |= {parent for child, parent in edges if child in above}
    return above


@examples(60)
@given(hierarchies(), st.data())
def test_labels_are_closed_upward_and_scores_are_the_highest_of_those_below(hierarchy, data):
    c, edges = hierarchy
    classes = data.draw(st.permutations([*map(str, range(c))]))
    closing = Hierarchy(tuple(edges))
    pairs = closing.pairs(classes)
    scores = np.random.default_rng(0).random((4, c)).round(1)
    labels = scores > 0.5
    closed, highest = raised(labels, pairs), raised(scores, pairs)
    above = {name: reachable(edges, name) for name in classes}
    for row in range(4):
        names = [name for name, is_label in zip(classes, labels[row], strict=True) if is_label]
        assert {*closing.closed(names)} == set().union(*(above[name] for name in names))
        assert {classes[k] for k in np.flatnonzero(closed[row])} == {*closing.closed(names)}
        for k, name in enumerate(classes):
            assert highest[row, k] == max(scores[row, j] for j in range(c) if name in above[classes[j]])
    np.testing.assert_array_equal(raised(closed, pairs), closed)  # once is enough
    np.testing.assert_array_equal(raised(highest, pairs) > 0.5, closed)
    if pairs is not None:
        level = dict(zip(classes, levels(pairs, c), strict=True))
        for name in classes:
            parents = [level[parent] for child, parent in edges if child == name]
            assert level[name] == 1 + max(parents, default=0)


def test_a_class_may_have_several_parents_and_one_left_out_between():
    assert PETS.closed(["puppy"]) == ["puppy", "animal", "dog", "pet", "thing"]
    assert PETS.closed(["boat", "dog", "pet"]) == ["boat", "dog", "pet", "animal", "thing"]
    classes = ["thing", "puppy", "cat"]
    assert PETS.pairs(classes).tolist() == [[1, 0], [2, 0]]
    assert PETS.pairs(["puppy", "cat"]) is None


@pytest.mark.parametrize("edges", [[("a", "b"), ("b", "c"), ("c", "a")], [("a", "a")]])
def test_a_circle_is_refused_with_its_names(edges):
    with pytest.raises(DataError, match=r"is above itself: a → .*leave out one pair"):
        Hierarchy(tuple(edges))


def test_a_class_above_an_unknown_label_is_unknown_unless_it_is_a_label():
    rows = [("cat",), (), ("boat",)]
    table = Table("photos", ["0", "1", "2"], [""] * 3, [""] * 3, rows, unknown=[("puppy",), ("dog",), ()])
    closed = PETS.close(table)
    assert closed.labels == [("cat", "pet", "thing"), (), ("boat",)]
    assert closed.unknown == [("puppy", "animal", "dog"), ("dog", "animal", "pet", "thing"), ()]
    assert PETS.close(replace(table, unknown=[])).unknown == []
    (line,) = PETS.unknown_above(table, closed)
    assert line.startswith("5 label entries of photos are unknown as a class below is")
    assert "animal (2)" in line
    assert PETS.unknown_above(closed, PETS.close(closed)) == []
    assert Hierarchy().close(table) is table


def test_names_that_are_no_labels_are_counted_with_the_nearest_label():
    assert PETS.check(["puppy", "cat"], "photos") == []
    assert PETS.check(["puppy", "cats"], "photos") == [
        "1 of 6 names of the hierarchy are neither labels of photos nor above one, and are not used: "
        "cat (near: cats)"
    ]
    with pytest.raises(
        DataError, match=r"no label of photos is a child in the hierarchy, .*cat \(near: Cat\)"
    ):
        PETS.check(["Cat", "boat"], "photos")


def test_a_file_has_the_columns_child_and_parent_in_any_order(tmp_path):
    path = tmp_path / "h.csv"
    path.write_text('\ufeffparent,child\nanimal, dog\nanimal,dog\n"a, b",cat\n', encoding="utf-8")
    assert read_hierarchy(path) == [("dog", "animal"), ("cat", "a, b")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"h.csv has the columns \(none\): call its two columns child and parent"),
        ("a,b\nc,d\n", r"has the columns a, b: call"),
        ("child,parent\n", "has no rows"),
        ("child,parent\ndog,animal\ncat\n", "line 3: expected a child and a parent"),
        ("child,parent\ndog, \n", "line 2: expected"),
        ("child,parent\ndog,animal,pet\n", "line 2: expected"),
        ("child,parent\na,b\nb,a\n", r"h.csv: a class of the hierarchy is above itself: . → . → ."),
        (b"child,parent\n\xff,a\n", "is not a CSV file"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "h.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        read_hierarchy(path)


def test_a_path_that_is_no_hierarchy_is_refused_with_the_option(tmp_path):
    with pytest.raises(MissingDataError, match=r"--hierarchy: .*none.csv is not there"):
        read_hierarchy(tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"--hierarchy: .* cannot be read: "):
        read_hierarchy(tmp_path)
    with pytest.raises(
        DataError, match=r"--hierarchy: .* is no run with a hierarchy: name such a run, or a CSV"
    ):
        hierarchy_of(tmp_path)
