import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage

from encode_once.cache import content_key
from encode_once.cache.keys import NO_KEY, pack
from encode_once.classify import fit, heads
from encode_once.classify.audit.audit import audit
from encode_once.classify.data import duplicates
from encode_once.classify.data.duplicates import exact, join, near, pairs
from encode_once.classify.device import choose_device
from tests.conftest import examples


def same_partition(first, second):
    """Whether two numberings of rows form the same groups."""
    return len(set(zip(first, second, strict=True))) == len(set(first)) == len(set(second))


def vectors(seed, n, d, copies):
    """Vectors of random directions and lengths, of which `copies` are noisy copies of others."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)).astype(np.float32)
    of, to = rng.integers(n, size=(2, copies))
    X[to] = X[of] + 0.1 * rng.normal(size=(copies, d))
    return (X * rng.uniform(0.1, 10, (n, 1))).astype(np.float32)


def test_vectors_are_compared_on_the_requested_device(filled, tmp_path, monkeypatch):
    heads.class_of("linear")  # the head's module must not import the replaced function
    asked = []
    monkeypatch.setattr(
        "encode_once.classify.device.choose_device",
        lambda name: asked.append(name) or choose_device("cpu"),
    )
    run, _ = fit(filled(60), "linear", groups="e/image:0.99", run=tmp_path / "run", options={"device": "cpu"})
    assert asked == ["cpu"]
    audit(run, device="cuda:7")
    assert asked[1:] == ["cuda:7"]
    list(pairs(vectors(0, 5, 3, 0), 0.5))
    assert asked[2:] == ["auto"]


def test_rows_of_equal_content_are_a_group_and_rows_without_content_are_alone():
    keys = pack([content_key(b"a"), NO_KEY, content_key(b"b"), content_key(b"a"), NO_KEY])
    assert exact(keys).tolist() == [0, 1, 2, 0, 4]


@examples(60)
@given(
    seed=st.integers(0, 9_999),
    n=st.integers(1, 60),
    similarity=st.floats(0.3, 0.99),
    block=st.integers(1, 70),
)
def test_pairs_are_those_of_the_whole_matrix_of_cosines(seed, n, similarity, block):
    X = vectors(seed, n, 5, n // 3).astype(np.float64)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    cosines = np.triu(unit @ unit.T, k=1)
    expected = {(i, j) for i, j in zip(*np.nonzero(cosines >= similarity), strict=True)}
    doubtful = {(i, j) for i, j in zip(*np.nonzero(np.abs(cosines - similarity) < 1e-5), strict=True)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "BLOCK", block)
        yielded = [
            (i, j, c)
            for rows, others, values in pairs(X.astype(np.float32), similarity)
            for i, j, c in zip(rows.tolist(), others.tolist(), values.tolist(), strict=True)
        ]
    assert len({(i, j) for i, j, _ in yielded}) == len(yielded)
    assert {(i, j) for i, j, _ in yielded} ^ expected <= doubtful
    for i, j, cosine in yielded:
        assert cosine == pytest.approx(cosines[i, j], abs=1e-5)


@examples(60)
@given(seed=st.integers(0, 9_999), n=st.integers(2, 60), block=st.integers(1, 70))
def test_near_rows_are_the_single_linkage_clusters(seed, n, block):
    X = vectors(seed, n, 6, n // 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "BLOCK", block)
        groups = near(X, 0.9)
    assert same_partition(groups, fcluster(linkage(X.astype(float), "single", "cosine"), 0.1, "distance"))


class CountedRows:
    """Rows of a matrix, and which of them are read."""

    def __init__(self, X):
        self.X, self.reads = X, []

    def __len__(self):
        return len(self.X)

    def __getitem__(self, rows):
        self.reads.append(rows.start)
        return self.X[rows]


def test_each_block_of_a_large_matrix_is_read_once_to_be_compared_with_all_others(monkeypatch):
    monkeypatch.setattr(duplicates, "BLOCK", 4)
    monkeypatch.setattr(duplicates, "is_large", lambda X: True)
    X = vectors(0, 12, 5, 4)
    rows, others = CountedRows(X), CountedRows(X)
    near(rows, 0.9)
    assert rows.reads == [0, 4, 8, 4, 8, 8]  # each, then the blocks after it
    rows.reads.clear()
    list(pairs(rows, 0.9, others))
    assert rows.reads == [0, 4, 8]
    assert others.reads == [0, 4, 8] * 3


def test_rows_of_two_sets_are_paired_across():
    X = np.eye(3, dtype=np.float32)
    blocks = [*pairs(X, 0.9, np.array([[0, 2, 0], [0, 0, 0], [0, 0, 1], [3, 0, 0]], np.float32))]
    assert [(rows.tolist(), others.tolist()) for rows, others, _ in blocks] == [([0, 1, 2], [3, 0, 2])]


def test_a_row_without_a_vector_is_in_no_pair():
    X = np.ones((5, 4), np.float32)
    X[1], X[3, 2] = 0, np.nan
    assert same_partition(near(X, 0.5), [0, 1, 0, 2, 0])
    assert np.isnan(X[3, 2])
    assert not X[1].any()  # the argument is unchanged


def test_equal_directions_are_together_at_a_cosine_of_1():
    X = np.random.default_rng(0).normal(size=(50, 768)).astype(np.float32)
    assert same_partition(near(np.r_[X, 3 * X], 1.0), np.r_[np.arange(50), np.arange(50)])


@examples(60)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30))
def test_joined_groups_are_those_that_chains_of_both_connect(rows):
    first, second = np.array(rows).T
    expected = np.arange(len(rows))
    for _ in rows:  # each row takes the least number of all that share a group with it
        for groups in (first, second):
            expected = np.array([expected[groups == group].min() for group in groups])
    assert same_partition(join(first, second), expected)
