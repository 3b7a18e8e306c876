import itertools

import numpy as np
import pytest

from encode_once.classify.bench.grid_search import brute_force, counted, looped, looped_together, worth
from encode_once.classify.bench.synthetic import scored
from encode_once.classify.bench.thresholds import OBJECTIVES, SHRUNK, gaps, speed
from encode_once.classify.decisions.exact import NEVER, Objective, tune

CUTS = np.array([0.2, 0.5, 0.7], np.float32)
OF_F = [name for name in OBJECTIVES if ":" not in name]


def problem(seed, rows=8, classes=3):
    """Scores, some of them just at a cut, and labels; a class may have no positives."""
    rng = np.random.default_rng(seed)
    scores = rng.choice([0.1, 0.2, 0.4, 0.5, 0.6, 0.7, 0.9], (rows, classes)).astype(np.float32)
    return scores, rng.random((rows, classes)) < 0.3


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", sorted(set(OF_F) - {"samples"}))
def test_the_grid_reaches_what_all_combinations_of_its_cuts_reach(name, seed):
    scores, labels = problem(seed)
    asked, options = Objective.of(name), [*CUTS, NEVER]
    choices = [[one] * 3 for one in options] if asked.one_cut else itertools.product(options, repeat=3)
    best = max(worth(asked, labels, scores >= np.array(choice, np.float32)) for choice in choices)
    assert worth(asked, labels, scores >= counted(scores, labels, name, CUTS)) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(20))
def test_no_other_cut_of_one_class_improves_samples_f1_of_the_grid(seed):
    scores, labels = problem(seed)
    asked, found = Objective.of("samples"), counted(scores, labels, "samples", CUTS)
    reached = worth(asked, labels, scores >= found)
    for name in ("micro", "macro", "global-samples"):
        assert reached >= worth(asked, labels, scores >= counted(scores, labels, name, CUTS)) - 1e-12
    for k, cut in itertools.product(range(3), [*CUTS, NEVER]):
        changed = found.copy()
        changed[k] = cut
        assert worth(asked, labels, scores >= changed) <= reached + 1e-9


def test_the_grid_finds_what_the_loops_of_scikit_learn_find():
    scores, labels = scored(500, 4)
    ours, macro = counted(scores, labels, "macro", CUTS), Objective.of("macro")
    theirs = looped(scores, labels, CUTS)
    assert worth(macro, labels, scores >= ours) == pytest.approx(worth(macro, labels, scores >= theirs))
    for average in ("macro", "micro", "samples"):
        single = counted(scores, labels, f"global-{average}", CUTS)
        assert single == pytest.approx(looped_together(scores, labels, average, CUTS))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_exact_cuts_reach_at_least_what_the_grid_does(name):
    asked = Objective.of(name)
    for seed in range(5):
        scores, labels = scored(300, 4, seed)
        ours, grids = (worth(asked, labels, scores >= way(scores, labels, name)) for way in (tune, counted))
        assert ours >= grids - 1e-12


def test_brute_force_is_the_best_of_all_cuts():
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.2, 0.3]])
    labels = np.array([[True, False], [False, True], [True, False]])
    # The third row's first label shares the second row's score: to have it costs a false one there.
    assert brute_force(scores, labels, "samples") == pytest.approx((1 + 2 / 3 + 1) / 3)
    assert brute_force(scores, labels, "macro") == pytest.approx((4 / 5 + 1) / 2)


def test_made_up_scores_are_what_they_say():
    scores, labels = scored(50_000, 5)
    np.testing.assert_allclose(labels.mean(axis=0), np.geomspace(0.5, 0.005, 5), rtol=0.2)
    for low, high in itertools.pairwise(np.linspace(0, 1, 6)):
        these = (scores >= low) & (scores < high)
        assert labels[these].mean() == pytest.approx(scores[these].mean(), abs=0.02)


def test_every_objective_has_its_peers_and_never_reaches_less():
    rows = list(speed(400, 3, repeats=1))
    assert all(row.keys() == rows[0].keys() and row["seconds"] > 0 for row in rows)
    for name in OBJECTIVES:
        mine = {row["way"]: row for row in rows if row["for"] == name}
        assert mine["tune"]["reaches"] >= mine["NumPy grid of 200 cuts"]["reaches"] - 1e-12
        assert ("tune, shrunk" in mine) == (name in SHRUNK)
        loop = mine.get("f1_score at 200 cuts a class") or mine.get("f1_score at 200 cuts (4 of them timed)")
        if loop:
            assert mine["tune"]["× loop"] == pytest.approx(loop["seconds"] / mine["tune"]["seconds"])
        assert mine["tune"]["above grid"] >= -1e-8
    passes = [row for row in rows if row["way"].startswith("the same in each class")]
    single = next(row for row in rows if row["for"] == "global-samples")
    assert passes[0]["seconds"] == pytest.approx(3 * single["seconds"])
    reaches = {row["way"]: row["reaches"] for row in rows if row["for"] == "macro"}
    assert reaches["tune, torch tensors on cpu"] == pytest.approx(reaches["tune"])
    assert rows[-1]["way"] == "expected-f1"
    assert rows[-1]["reaches"] > 0


def test_of_many_classes_the_loop_times_some_and_says_so():
    rows = list(speed(30, 21, repeats=1))
    assert rows[0]["way"] == "f1_score at 200 cuts a class (4 of 21 classes timed)"
    assert rows[-1]["rows"] == 30


def test_gaps_are_told_of_each_way():
    ours, grid = gaps(20)
    assert (ours["samples by"], grid["samples by"]) == ("tune", "NumPy grid of 200 cuts")
    assert 0.9 <= ours["solved"] <= 1
    assert 0 <= ours["mean gap"] <= ours["largest gap"] <= grid["largest gap"]
