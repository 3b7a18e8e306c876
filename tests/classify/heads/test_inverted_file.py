"""k nearest neighbours by an index: near the exact ones, and what is missed is stated."""

import re

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from encode_once.cache.errors import UsageError
from encode_once.classify.heads import inverted_file, knn, make
from encode_once.classify.heads.inverted_file import InvertedFile
from encode_once.classify.heads.nearest import ExactSearch

DIM = 16


def clustered(seed, n):
    """Rows about 40 centres, with two labels that depend on the centre and on the place."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(40, DIM)) * 2
    cluster = rng.integers(40, size=n)
    X = (centres[cluster] + rng.normal(size=(n, DIM))).astype(np.float32)
    return X, np.stack([cluster % 3 == 0, X[:, 0] + rng.normal(size=n) > 0], axis=1)


@pytest.fixture(scope="module")
def rows():
    return clustered(0, 4000)


@pytest.fixture(scope="module")
def validation():
    return clustered(1, 300)


@pytest.fixture(scope="module", params=["cosine", "l2"])
def metric(request):
    return request.param


@pytest.fixture(scope="module")
def fitted(rows, validation, metric):
    """The same head without and with an index."""
    options = {"metric": metric, "ks": (5, 20), "device": "cpu"}
    return [make("knn", index=index, **options).fit(*rows, *validation) for index in ("exact", "faiss")]


def test_the_index_finds_the_neighbours_and_nearly_the_same_scores(fitted, rows, metric):
    exact, indexed = fitted
    queries, _ = clustered(2, 400)
    _, expected = (
        NearestNeighbors(
            n_neighbors=20, algorithm="brute", metric="cosine" if metric == "cosine" else "euclidean"
        )
        .fit(rows[0])
        .kneighbors(queries)
    )
    indices = np.concatenate([near.numpy() for _, near in indexed._neighbours(queries, 20)])
    same = np.mean([len({*a} & {*b}) / 20 for a, b in zip(indices, expected, strict=True)])
    assert 0.9 <= same < 1
    differences = np.abs(exact.predict_proba(queries) - indexed.predict_proba(queries))
    assert differences.mean() < 0.005
    assert differences.max() < 0.2


def test_the_notes_state_how_many_neighbours_are_found(fitted, rows, validation):
    exact, indexed = fitted
    assert exact.notes == []
    pattern = (
        r"head knn searches (\d+) of 100 cells of an index, and finds ([\d.]+)% of the 20 nearest of 4,000 "
    )
    cells, percent = re.match(pattern, indexed.notes[0]).groups()
    assert int(cells) <= 25
    queries = validation[0]
    expected = np.concatenate([near.numpy() for _, near in exact._neighbours(queries, 20)])
    indices = np.concatenate([near.numpy() for _, near in indexed._neighbours(queries, 20)])
    same = np.mean([len({*a} & {*b}) / 20 for a, b in zip(indices, expected, strict=True)])
    assert float(percent) / 100 == pytest.approx(same, abs=0.01)  # 256 of the 300 rows are compared


def test_a_loaded_head_has_the_same_scores_and_notes(fitted, validation, monkeypatch):
    _, indexed = fitted
    state = indexed.state()
    loaded = make("knn", metric=indexed.metric, device="cpu")
    loaded.load_state(state)
    np.testing.assert_array_equal(loaded.predict_proba(validation[0]), indexed.predict_proba(validation[0]))
    assert loaded.notes == indexed.notes
    monkeypatch.setattr(inverted_file, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"searched by faiss, which is missing: pip install 'encode-once\[f"):
        loaded.load_state(state)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("cells", lambda cells: np.where(np.arange(len(cells)) == 7, 100, cells)),
        ("cells", lambda cells: cells - 1),
        ("cells", lambda cells: cells[:-1]),
        ("cells", lambda cells: cells.astype(np.int32)),
        ("centroids", lambda centroids: centroids[:, 1:]),
        ("centroids", lambda centroids: centroids.astype(np.float64)),
        ("probes", lambda probes: probes + 100),
        ("probes", lambda probes: probes * 0),
    ],
)
def test_a_state_that_would_lead_out_of_bounds_is_refused(fitted, name, change):
    state = fitted[1].state()
    with pytest.raises(ValueError, match="cells"):
        make("knn").load_state(state | {name: change(state[name])})


def test_too_few_rows_in_the_cells_are_searched_exactly(rows, validation):
    stored, queries = rows[0].astype(np.float16), knn.torch.as_tensor(validation[0])
    index = InvertedFile.learned(stored)
    values, indices = index.nearest(queries, 600)
    expected = ExactSearch(stored, knn.torch.device("cpu")).nearest(queries, 600)
    np.testing.assert_array_equal(indices, expected.indices)
    np.testing.assert_array_equal(values, expected.values)


def test_without_validation_rows_all_rows_are_in_the_cells(rows):
    X, Y = rows
    head = make("knn", index="faiss", ks=(5,), device="cpu").fit(X[:1000], Y[:1000])
    assert len(head.state()["cells"]) == len(head.state()["rows"]) == 1000
    assert head.predict_proba(X[:50]).shape == (50, 2)


def test_rows_without_clusters_are_warned_about():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(2000, 64)).astype(np.float32)
    head = make("knn", index="faiss", device="cpu").fit(X, X[:, :2] > 0, X[:200], X[:200, :2] > 0)
    (warning,) = head.warnings_
    assert re.fullmatch(
        r"head knn searches 12 of 50 cells .* finds \d\d.\d% .* no more: --set index=exact .*", warning
    )


def test_auto_takes_the_index_where_comparing_all_rows_is_long(rows, validation, monkeypatch, capsys):
    head = make("knn", device="cpu")
    assert head.fit(*rows, *validation).notes == []
    monkeypatch.setattr(knn, "EXACT", 4000 * 300 * DIM - 1)
    assert head.fit(*rows, *validation).notes != []
    assert head.warnings_ == []
    monkeypatch.setattr(inverted_file, "find_spec", lambda name: None)
    assert head.fit(*rows, *validation).notes == []
    (warning,) = head.warnings_
    assert re.fullmatch(
        r"head knn compares 300 validation rows with 4,000 others, which takes about 0 minutes: pip install "
        r"'encode-once\[faiss\]' adds an index, --set rows=200000 takes a sample",
        warning,
    )
    assert warning in capsys.readouterr().err
    with pytest.raises(UsageError, match="faiss, which is missing"):
        make("knn", index="faiss").check()
    monkeypatch.setattr(knn, "EXACT", 4000 * 300 * DIM)
    assert head.fit(*rows, *validation).warnings_ == []
