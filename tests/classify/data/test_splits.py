import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold, MultilabelStratifiedShuffleSplit
from scipy.stats import kstest

from encode_once.cache import content_key
from encode_once.cache.errors import DataError
from encode_once.cache.keys import pack
from encode_once.classify.data import splits
from encode_once.classify.data.splits import position_draws, row_draws, straddling, stratified
from tests.conftest import examples


def random_labels(seed, n, c):
    """Labels from rare to common, some rows without any."""
    rng = np.random.default_rng(seed)
    return rng.random((n, c)) < rng.beta(0.5, 5, size=c)


def folds(spec, labels, columns=(), seed=0, groups=None):
    """The folds of rows that their position identifies."""
    return splits.folds(spec, labels, dict(columns), position_draws(len(labels), seed), groups)


def validation_split(labels, rows, fraction, seed=0, groups=None):
    return splits.validation_split(labels, rows, fraction, position_draws(len(labels), seed), groups)


def share_deviation(labels, row_sets):
    """The mean absolute difference between the labels' shares in the sets and their shares in all rows."""
    return np.mean([np.abs(labels[rows].mean(axis=0) - labels.mean(axis=0)).mean() for rows in row_sets])


problem = st.tuples(st.integers(0, 10_000), st.integers(20, 300), st.integers(1, 12))


@examples(100)
@given(problem=problem, sizes=st.lists(st.integers(0, 60), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_stratified_folds_have_exactly_their_sizes(problem, sizes, seed):
    labels = random_labels(*problem)
    sizes = [*sizes, max(len(labels) - sum(sizes), 0)]
    labels = labels[: sum(sizes)]
    if sum(sizes) > len(labels):
        with pytest.raises(DataError, match="cannot hold"):
            stratified(labels, sizes, position_draws(len(labels), seed))
        return
    fold = stratified(labels, sizes, position_draws(len(labels), seed))
    assert np.bincount(fold, minlength=len(sizes)).tolist() == sizes


@pytest.mark.parametrize("c", [10, 40])
@pytest.mark.parametrize("spec", ["stratified:0.1", "stratified:0.5", "kfold:5"])
def test_label_shares_deviate_no_more_than_those_of_iterative_stratification(spec, c):
    ours, theirs = [], []
    for seed in range(10):
        labels = random_labels(seed, 1_000, c)
        amount = float(spec.split(":")[1])
        if spec.startswith("kfold"):
            peer = MultilabelStratifiedKFold(int(amount), shuffle=True, random_state=seed)
        else:
            peer = MultilabelStratifiedShuffleSplit(1, test_size=amount, random_state=seed)
        ours.append(share_deviation(labels, folds(spec, labels, (), seed)))
        theirs.append(share_deviation(labels, [rows for _, rows in peer.split(labels, labels.astype(int))]))
    assert np.mean(ours) <= np.mean(theirs) + 0.1 / 1_000  # a tenth of a row: ten draws resolve no less


@pytest.mark.parametrize("before", [0, 62, 70])
def test_each_label_set_is_spread_over_the_folds(before):
    """Ten rows of {0, 1} and ten of {2} would balance the single labels just as well."""
    sets = np.array([[1, 1, 0], [0, 0, 1], [1, 0, 1], [0, 0, 0]], dtype=bool)
    labels = np.pad(np.repeat(sets, 100, axis=0), ((0, 0), (before, 0)))  # more labels, which no row has
    (rows,) = folds("stratified:0.1", labels)
    assert np.bincount(rows // 100, minlength=4).tolist() == pytest.approx([10] * 4, abs=1)


@pytest.mark.parametrize("spec", ["stratified:0.13", "random:0.13", "tail:13", "tail:0.13", "kfold:7"])
def test_sizes_are_exact_and_the_same_seed_gives_the_same_rows(spec):
    labels = random_labels(1, 100, 5)
    row_sets = folds(spec, labels, (), seed=3)
    if spec.startswith("kfold"):
        assert sorted(np.concatenate(row_sets)) == list(range(100))
        assert {len(rows) for rows in row_sets} == {14, 15}
    else:
        assert [len(rows) for rows in row_sets] == [13]
    for rows, again in zip(row_sets, folds(spec, labels, (), seed=3), strict=True):
        assert np.array_equal(rows, again)
        assert np.all(np.diff(rows) > 0)
    if not spec.startswith("tail"):
        assert not np.array_equal(row_sets[0], folds(spec, labels, (), seed=4)[0])


def contents(rows):
    """Content keys and ids of rows with these numbers; every third row is a copy of the one before it."""
    return pack(content_key(b"%d" % (row - (row % 3 == 2))) for row in rows), [f"{row:05}" for row in rows]


@examples(50)
@given(
    problem=problem,
    seed=st.integers(0, 99),
    spec=st.sampled_from(["stratified:0.2", "random:0.2", "kfold:4"]),
    together=st.booleans(),
)
def test_a_shuffled_table_has_the_same_split(problem, seed, spec, together):
    labels = random_labels(*problem)
    n = len(labels)
    numbers = np.random.default_rng(seed).permutation(n)
    chosen = []
    for rows in (np.arange(n), numbers):
        groups = np.unique(rows // 4, return_inverse=True)[1] if together else None
        row_sets = splits.folds(spec, labels[rows], {}, row_draws(*contents(rows), seed), groups)
        chosen.append([sorted(rows[part].tolist()) for part in row_sets])
    assert chosen[0] == chosen[1]


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_labels_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    labels = rng.random((40, 6)).argsort(axis=0) < 9  # as many rows of each, so that none is the rarest
    order, groups, draws = rng.permutation(6), rng.integers(0, 30, 40), position_draws(40, seed)
    for together in (None, groups):
        expected = stratified(labels, [10, 10, 20], draws, together)
        np.testing.assert_array_equal(stratified(labels[:, order], [10, 10, 20], draws, together), expected)


@pytest.mark.parametrize(("spec", "least"), [("random:0.1", 0.93), ("stratified:0.1", 0.93)])
def test_appended_rows_leave_others_on_their_side(spec, least):
    """Of 5,000 rows, 500 more leave nearly all that were eval rows among the eval rows."""
    remaining = []
    for seed in range(5):
        labels, numbers = random_labels(seed, 5_500, 10), np.arange(5_500)
        before, after = (
            splits.folds(spec, labels[:n], {}, row_draws(*contents(numbers[:n]), seed))[0]
            for n in (5_000, 5_500)
        )
        remaining.append(np.isin(before, after).mean())
    assert np.mean(remaining) > least


def test_draws_are_uniform_depend_on_the_seed_and_differ_for_copies():
    keys, ids = contents(range(3_000))
    draws = row_draws(keys, ids, 0)
    assert len(set(draws.tolist())) == 3_000
    assert kstest(draws, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(draws, row_draws(keys, ids, 1))[0, 1]) < 0.1


def test_tail_is_the_last_rows():
    (rows,) = folds("tail:3", np.zeros((10, 1), dtype=bool), {})
    assert rows.tolist() == [7, 8, 9]


@pytest.mark.parametrize("word", ["val", "valid", "Validation", " dev", "TEST", "eval", "1", "True"])
def test_a_column_marks_the_rows(word):
    columns = {"part": ["train", word, "", "0", "False", word]}
    (rows,) = folds("part", np.zeros((6, 2), dtype=bool), columns)
    assert rows.tolist() == [1, 5]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("stratifid:0.1", "did you mean 'stratified:0.1'"),
        ("prt", "did you mean 'part'"),
        ("part", "column 'part' has 'maybe' in row 2"),
        ("none", "makes 0 of 10"),
        ("stratified:1.0", "a fraction between 0 and 1"),
        ("random:0", "a fraction between 0 and 1"),
        ("random:nan", "a fraction between 0 and 1"),
        ("stratified", "a fraction between 0 and 1"),
        ("stratified:0.01", "makes 0 of 10"),
        ("tail:ten", "an integer is required"),
        ("tail:0", "makes 0 of 10"),
        ("tail:10", "makes 10 of 10"),
        ("tail:11", "makes 10 of 10"),
        ("kfold:1", "2 to 10 folds"),
        ("kfold:11", "2 to 10 folds"),
        ("kfold:2.5", "an integer is required"),
    ],
)
def test_a_split_that_is_impossible_is_an_error_with_the_reason(spec, message):
    columns = {"part": ["train", "maybe"] * 5, "none": ["train"] * 10}
    with pytest.raises(DataError, match=message):
        folds(spec, np.zeros((10, 2), dtype=bool), columns)


@examples(50)
@given(problem=problem, seed=st.integers(0, 99))
def test_the_validation_split_divides_the_rows(problem, seed):
    labels = random_labels(*problem)
    rows = np.arange(len(labels))[::2]
    train, validation = validation_split(labels, rows, 0.2, seed)
    assert len(validation) == round(0.2 * len(rows))
    assert sorted([*train, *validation]) == rows.tolist()
    assert all(
        np.array_equal(a, b)
        for a, b in zip((train, validation), validation_split(labels, rows, 0.2, seed), strict=True)
    )


def test_the_validation_split_needs_a_row_on_each_side():
    with pytest.raises(DataError, match="can be set aside"):
        validation_split(np.zeros((10, 2), dtype=bool), np.arange(3), 0.1)


def random_groups(seed, n, largest):
    """Groups of 1 to `largest` rows, scattered over the table."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, largest + 1, n)
    return rng.permutation(np.repeat(np.arange(n), sizes)[:n])


@examples(100)
@given(
    problem=problem,
    largest=st.integers(1, 6),
    spec=st.sampled_from(["stratified:0.2", "random:0.2", "kfold:4"]),
)
def test_a_group_is_never_divided(problem, largest, spec):
    labels = random_labels(*problem)
    groups = random_groups(problem[0], len(labels), largest)
    row_sets = folds(spec, labels, (), 0, groups)
    for rows in row_sets:
        assert straddling(rows, groups) == 0
    if spec == "kfold:4":
        assert sorted(np.concatenate(row_sets)) == list(range(len(labels)))
    others = np.setdiff1d(np.arange(len(labels)), row_sets[0])
    train, validation = validation_split(labels, others, 0.2, 0, groups)
    assert not set(groups[train]) & set(groups[validation])
    assert sorted([*train, *validation, *row_sets[0]]) == list(range(len(labels)))


@examples(100)
@given(
    problem=problem,
    seed=st.integers(0, 99),
    spec=st.sampled_from(["stratified:0.2", "random:0.2", "kfold:4"]),
)
def test_groups_of_one_row_change_nothing(problem, seed, spec):
    labels = random_labels(*problem)
    alone = np.random.default_rng(seed).permutation(len(labels))
    for rows, same in zip(folds(spec, labels, (), seed), folds(spec, labels, (), seed, alone), strict=True):
        assert np.array_equal(rows, same)


@pytest.mark.parametrize("spec", ["stratified:0.1", "random:0.1", "kfold:5"])
def test_sizes_are_exact_with_enough_single_rows(spec):
    labels = random_labels(5, 600, 8)
    groups = np.where(np.arange(600) < 200, np.arange(600) // 4, np.arange(600))
    size = 120 if spec == "kfold:5" else 60
    for seed in range(5):
        assert {len(rows) for rows in folds(spec, labels, (), seed, groups)} == {size}


@pytest.mark.parametrize("spec", ["stratified:0.2", "kfold:5"])
def test_labels_and_groups_are_balanced_together(spec):
    """A third of the rows are in groups of four equal rows: shares are within half a row of those without."""
    labels = random_labels(11, 3_000, 20)
    groups = np.where(np.arange(3_000) < 1_000, np.arange(3_000) // 4, np.arange(3_000))
    labels[:1_000] = np.repeat(labels[:1_000:4], 4, axis=0)
    row_sets = folds(spec, labels, (), 0, groups)
    assert share_deviation(labels, row_sets) <= share_deviation(labels, folds(spec, labels)) + 0.5 / 600
    for rows in row_sets:
        assert np.sum(rows < 1_000) == pytest.approx(200, abs=20)


def test_sizes_are_nearly_met_without_single_rows():
    labels = random_labels(2, 1_000, 10)
    groups = np.arange(1_000) // 7
    for rows in folds("kfold:5", labels, (), 0, groups):
        assert len(rows) == pytest.approx(200, abs=7)
    (rows,) = folds("random:0.1", labels, (), 0, groups)
    assert 100 - 7 < len(rows) <= 100


def test_large_groups_are_drawn_as_often_as_small_ones():
    """Drawn row by row, a group of 50 rows would nearly always come first."""
    groups = np.r_[np.zeros(50, int), np.arange(1, 451)]
    drawn = [folds("random:0.2", np.zeros((500, 1), bool), (), seed, groups)[0] for seed in range(200)]
    assert np.mean([0 in rows for rows in drawn]) == pytest.approx(0.2, abs=0.1)


@pytest.mark.parametrize("spec", ["tail:4", "part"])
def test_tail_and_columns_may_divide_groups_and_straddling_rows_are_counted(spec):
    columns = {"part": ["train"] * 6 + ["val"] * 4}
    groups = np.array([0, 1, 2, 3, 4, 5, 0, 6, 6, 1])
    (rows,) = folds(spec, np.zeros((10, 1), dtype=bool), columns, 0, groups)
    assert rows.tolist() == [6, 7, 8, 9]
    assert straddling(rows, groups) == 2


def test_groups_that_leave_no_choice_are_an_error():
    labels, groups = np.zeros((10, 1), dtype=bool), np.zeros(10, int)
    for spec in ("stratified:0.2", "random:0.2", "kfold:2"):
        with pytest.raises(DataError, match="of 10 rows in 1 groups that stay together"):
            folds(spec, labels, (), 0, groups)
    with pytest.raises(DataError, match="10 train rows in 1 groups"):
        validation_split(labels, np.arange(10), 0.2, 0, groups)


def test_a_column_of_train_val_and_test_has_its_own_validation_rows():
    values = ["train", "val", "Test", "training", "dev", "testing", ""]
    labels = np.ones((7, 1), bool)
    draws = np.linspace(0, 0.9, 7)
    (rows,) = splits.folds("part", labels, {"part": values}, draws)
    assert rows.tolist() == [2, 5]
    assert splits.marked_validation("part", {"part": values}).tolist() == [1, 4]


@pytest.mark.parametrize(
    ("values", "marked"),
    [
        (["training", "validation", "training"], [1]),
        (["0.0", "1.0", "0"], [1]),
        (["no", "yes", "NO"], [1]),
        (["train", "test", "train"], [1]),
    ],
)
def test_a_column_of_two_words_marks_only_eval_rows(values, marked):
    (rows,) = splits.folds("part", np.ones((3, 1), bool), {"part": values}, np.linspace(0, 0.9, 3))
    assert rows.tolist() == marked
    assert splits.marked_validation("part", {"part": values}) is None


def test_an_unknown_word_of_a_split_column_is_named_with_those_that_are_known():
    with pytest.raises(DataError, match=r"'perhaps' in row 2: a split column has train, val and test"):
        splits.folds("part", np.ones((2, 1), bool), {"part": ["train", "perhaps"]}, np.linspace(0, 0.5, 2))
