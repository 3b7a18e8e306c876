import numpy as np
import pytest
from sklearn.metrics import f1_score

from encode_once.cache.text_table import table_text
from encode_once.classify import fit
from encode_once.classify.bench.rules import AVERAGES, EXACT, RULES, SINGLE, text, unseen_f1


@pytest.fixture
def run(filled, tmp_path):
    return fit(filled().path, "linear", split="kfold:3", run=tmp_path / "run", options={"Cs": [0.01]})[0]


def test_each_rule_is_measured_on_the_rows_it_was_not_tuned_on(run):
    rows = list(unseen_f1(run, repeats=2, few=40, seed=5))
    assert [(row["tuned on"], row["rule"]) for row in rows] == [
        (count, rule) for count in (200, 40) for rule in RULES
    ]
    scores, labels = run.eval.scores, run.eval.labels
    rng = np.random.default_rng(5)
    halves = [np.split(rng.permutation(400), [200]) for _ in range(2)]
    for row in rows:
        for average in AVERAGES:
            spec = RULES[row["rule"]](average)
            reached = []
            for tuned, unseen in halves:
                tuned = tuned[: row["tuned on"]]
                predictions = spec.fit(scores[tuned], labels[tuned])(scores[unseen])
                reached.append(f1_score(labels[unseen], predictions, average=average, zero_division=0))
            assert row[average]["mean"] == pytest.approx(np.mean(reached)), (row["rule"], average)


def test_differences_are_paired_and_have_their_standard_errors(run):
    rows = {row["rule"]: row["macro"] for row in unseen_f1(run, repeats=4, few=400)}
    single, exact, ours = rows[SINGLE], rows[EXACT], rows["shrunk thresholds"]
    assert ours[f"less {SINGLE}"] == pytest.approx(ours["mean"] - single["mean"])
    assert ours[f"less {EXACT}"] == pytest.approx(ours["mean"] - exact["mean"])
    assert single[f"less {SINGLE}"] is None
    assert single[f"less {EXACT}"] == pytest.approx(-exact[f"less {SINGLE}"])
    assert single[f"error, less {EXACT}"] == pytest.approx(exact[f"error, less {SINGLE}"])


def test_a_half_smaller_than_the_few_is_tuned_on_once(run):
    assert {row["tuned on"] for row in unseen_f1(run, repeats=2, few=1000)} == {200}


def test_the_tables_have_a_line_per_rule_and_explain_the_brackets(run):
    rows = list(unseen_f1(run, repeats=2, few=40))
    output = text(rows, table_text)
    assert output.count(f"{run.path}, tuned on") == 2
    assert all(output.count(f"\n{rule}  ") == 2 for rule in RULES)
    assert f"{rows[0]['micro']['mean']:.4f}" in output
    assert "In brackets" in output
