import numpy as np
import pytest
from click.testing import CliRunner

from encode_once.classify.bench.default_rule import RULES, differences, rows_of
from encode_once.classify.bench.validation import AVERAGES, draws_of
from encode_once.cli import main


def test_differences_are_paired_and_losses_are_those_beyond_two_standard_errors():
    values = np.full((4, len(RULES), 3), 0.5)
    values[:, 1, 0] += [0.02, 0.03, 0.02, 0.03]  # 0.5 is better in micro F1
    values[:, 1, 1] += [0.2, -0.19, 0.2, -0.19]  # and by chance in macro F1
    first, half, *others = rows_of("knn", 200, values)
    assert (first["less"], first["micro"]) == (None, 0.5)
    assert (half["less"], half["loses"]) == ("0.5", ["micro"])
    assert half["micro"] == pytest.approx(-0.025)
    assert half["error"][0] == pytest.approx(np.std([0.02, 0.03, 0.02, 0.03], ddof=1) / 2)
    assert not any(row["loses"] for row in others)


def test_the_table_has_a_line_for_each_head_and_size(filled):
    store = filled()
    words = ["bench", "rules", "--head", "knn", "--repeats", "2", "--rows", "60", "--rows", "90"]
    result = CliRunner().invoke(main, [*words, "--store", str(store.path)])
    assert result.exit_code == 0, result.output
    header, *lines = result.stdout.splitlines()
    assert "less one threshold, samples" in header
    assert [line.split()[:2] for line in lines] == [["knn", "60"], ["knn", "90"]]
    assert all(line.count(" ± ") == (len(RULES) - 1) * len(AVERAGES) for line in lines)
    (default, *_) = differences(draws_of(store, ["knn"], [60], 2))
    assert f"{default['micro']:.3f} / {default['macro']:.3f}" in lines[0]
