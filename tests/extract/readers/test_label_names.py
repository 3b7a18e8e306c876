"""Class names that look wrong are reported."""

import pytest

from encode_once.extract.readers.label_names import doubts


@pytest.mark.parametrize(
    "names",
    [
        (),
        ("red", "green"),
        ("black and white", "black"),
        ("v1.0", "red"),
        ("R&B", "R", "B"),
        ("rock & roll", "rock", "roll"),
        ("Straße", "Strasse 1"),
        ("-2", "-1", "0", "1", "2"),
        ("-1", "1"),
        ("-3", "1", "2", "4"),
        ("a-3", "-a", "a", "b", "c"),
    ],
)
def test_usual_names_are_in_no_doubt(names):
    assert doubts({*names}) == []


@pytest.mark.parametrize(
    ("names", "doubt"),
    [
        (("Red", "red", "RED", "blue"), "1 (such as 'RED', 'Red', 'red'); they are different classes"),
        (("caf\u00e9", "cafe\u0301"), "differ only in case, blanks or Unicode form: 1"),
        (("hot  dog", "hot dog"), "differ only in case, blanks or Unicode form: 1"),
        (("red", "green", "blue", "red and green", "green and blue"), "made of other class names: 2"),
        (("red:0.9", "green:.1"), "class names end in numbers (such as 'green:.1')"),
        (("1", "2", "3", "-3"), "(such as '-3'); if it means that 3 is unknown, pass --unknown -"),
    ],
)
def test_doubtful_names_are_named_with_what_to_do(names, doubt):
    (line,) = doubts({*names})
    assert doubt in line
