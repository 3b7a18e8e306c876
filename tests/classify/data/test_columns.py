import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import OneHotEncoder

from encode_once.cache import DataError, Store, Table, UsageError
from encode_once.classify.data.blocks import TextBlock
from encode_once.classify.data.columns import ColumnValues, column_of, is_missing, kind_of
from encode_once.classify.data.features import side_by_side
from encode_once.classify.data.learned import is_learned, make_vectoriser, texts_of
from encode_once.extract import encode

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)  # NumPy drops a last \0


def vectors(column, cells):
    return column.transform(cells).take(np.arange(len(cells)))[:, 0]


def restored(column):
    other = ColumnValues(column.name)
    other.load_state(column.state())
    assert other.shape == column.shape
    return other


@given(st.lists(TEXTS, min_size=1, max_size=30), st.lists(TEXTS, max_size=10))
def test_categories_are_those_of_scikit_learn(train, others):
    present = [cell.strip() for cell in train if not is_missing(cell)]
    column = ColumnValues("column:x:category")
    if not present:
        with pytest.raises(DataError, match="all cells of the"):
            column.fit(train)
        return
    column.fit(train)
    oracle = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit([[cell] for cell in present])
    for cell in [*train, *others]:
        expected = oracle.transform([[cell.strip()]])[0]
        if is_missing(cell):
            expected = np.full(len(expected), np.nan)
        np.testing.assert_array_equal(vectors(column, [cell])[0], expected)
    np.testing.assert_array_equal(vectors(restored(column), train), vectors(column, train))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_are_numbers(numbers):
    cells = list(map(repr, numbers))
    column = ColumnValues("column:x").fit(cells)
    np.testing.assert_array_equal(vectors(restored(column), cells)[:, 0], np.array(numbers, np.float32))


@pytest.mark.parametrize(
    ("cell", "number"),
    [("3", 3), (" 3.5 ", 3.5), ("3,5", 3.5), ("-1e3", -1000), ("", None), ("n/a", None), ("NaN", None),
     ("inf", None), ("1e300", None), ("1_2", None), (",5", 0.5), ("5,", 5), ("about 3", None),
     ("1,299.00", None)],
)  # fmt: skip
def test_a_cell_without_a_number_is_missing(cell, number):
    column = ColumnValues("column:x").fit(["1", "2", ""])
    value = vectors(column, [cell])[0, 0]
    assert np.isnan(value) if number is None else value == number
    assert column.missing([cell]).tolist() == [number is None]


@pytest.mark.parametrize(
    ("cells", "kind"), [(["1", "2,5", ""], "number"), (["1", "red"], "category"), (["", "na"], "number")]
)
def test_the_kind_of_a_column(cells, kind):
    assert kind_of(cells) == kind


@pytest.mark.parametrize(
    ("name", "column", "kind"),
    [("column:price", "price", ""), ("column:zip:category", "zip", "category"), ("column:a:b", "a:b", ""),
     ("column:a:b:number", "a:b", "number"), ("column:number", "number", "")],
)  # fmt: skip
def test_names(name, column, kind):
    assert column_of(name) == (column, kind)
    assert is_learned(name)
    assert isinstance(make_vectoriser(name), ColumnValues)


def test_texts_that_do_not_repeat_are_no_categories():
    cells = [f"id {row}" for row in range(200)]
    with pytest.raises(DataError, match="200 different texts in 200 train rows"):
        ColumnValues("column:x").fit(cells)
    assert ColumnValues("column:x:category").fit(cells).shape == (1, 200)


def test_cells_that_should_be_numbers():
    with pytest.raises(DataError, match="1 cells are no numbers, such as 'red'"):
        ColumnValues("column:x:number").fit(["1", "red"])


def test_commas_that_may_be_of_thousands_are_refused():
    with pytest.raises(DataError, match="'1,200' may be thousands or a decimal comma"):
        ColumnValues("column:x").fit(["1,200", "950"])
    column = ColumnValues("column:x").fit(["1,200", "9,5"])
    assert vectors(column, ["1,200"])[0, 0] == np.float32(1.2)


def test_a_column_that_is_not_there():
    table = Table("/t.csv", ["1"], [""], [""], None, columns={"price": ["3"]})
    assert texts_of("column:price", table) == ["3"]
    with pytest.raises(UsageError, match="prise"):
        texts_of("column:prise", table)


# ------------------------------------------------------------------------------------------ in a run


@pytest.fixture
def products(run):
    """A table whose labels follow from its columns; the captions say nothing."""
    rng = np.random.default_rng(0)
    n = 300
    price, brand = rng.random(n) * 100, rng.choice(["acme", "zeta", "koala"], n)
    has = {"dear": price > 60, "native": brand == "koala"}
    frame = pd.DataFrame({"id": range(n), "price": [f"{number:.2f}" for number in price], "brand": brand})
    frame["caption"] = [f"product {row}" for row in range(n)]
    frame["labels"] = [" ".join(name for name in has if has[name][row]) for row in range(n)]
    frame.loc[3, "price"], frame.loc[4, "brand"] = "n/a", ""
    frame.to_csv("products.csv", index=False)
    encode("products.csv", [], "store")
    return run


@pytest.mark.slow
def test_columns_are_features_alone_and_beside_others(products):
    products("fit", "--head", "linear", "--features", "tfidf:20", "--run", "text")
    result = products(
        "fit", "--head", "linear", "--features", "tfidf:20,column:price,column:brand", "--run", "both"
    )
    assert "column:price is read as numbers; column:price:category reads it otherwise" in result.stderr
    assert "column:price: 1 of 300 rows have no vector" in result.stderr
    text, both = (json.loads(products("evaluate", r, "--json").stdout)["macro_f1"] for r in ("text", "both"))
    assert both > 0.9 > text
    products(
        "fit", "--head", "mlp", "--features", "column:price:number,column:brand:category", "--run", "alone"
    )
    assert json.loads(products("evaluate", "alone", "--json").stdout)["macro_f1"] > 0.9


def test_a_run_predicts_from_the_columns_of_another_table(products):
    products("fit", "--head", "linear", "--features", "column:price,column:brand", "--run", "r")
    brands, prices = ["koala", "new", "acme", "koala"], ["1", "99", "oops", "99"]
    frame = pd.DataFrame({"id": [*"abcd"], "caption": "x", "brand": brands, "price": prices})
    frame.to_csv("new.csv", index=False)
    warnings = products("predict", "r", "--data", "new.csv", "-o", "out.csv").stderr
    assert "column:brand: 1 of 4 rows have a category that was not learned, such as new" in warnings
    out = pd.read_csv("out.csv", keep_default_na=False)
    assert out["Labels"].tolist()[:2] == ["native", "dear"]
    assert sorted(out["Labels"][3].split()) == ["dear", "native"]
    assert out["Missing"].tolist() == ["", "", "column:price", ""]
    frame.drop(columns="brand").to_csv("less.csv", index=False)
    error = products("predict", "r", "--data", "less.csv", status=2).stderr
    assert "column" in error
    assert "'brand'" in error


def test_the_store_is_not_asked_for_vectors(products):
    products("fit", "--head", "linear", "--features", "column:brand", "--run", "r")
    assert Store("store").features() == []


def test_categories_that_were_not_learned_are_counted():
    block = TextBlock("column:brand", ["acme", "zeta", "acme", ""]).fitted(np.arange(4))
    assert block.remarks == ()
    new = replace(block, texts=["zeta ", "new", "", "other", "acme"])
    assert side_by_side([new]).warnings == [
        "column:brand: 2 of 5 rows have a category that was not learned, such as new",
        "column:brand: 1 of 5 rows have no vector, which the mean of the train rows replaces",
    ]
    prices = TextBlock("column:price", ["1", "2"]).fitted(np.arange(2))
    assert replace(prices, texts=["3", "4"]).remarks == ()
