"""Runs are read, and each that cannot be is named."""

from encode_once.classify.doctor import checks


def test_a_folder_without_runs(tmp_path):
    (check,) = checks(tmp_path / "runs")
    assert (check.state, check.remedy) == ("PASS", "fit writes one")


def test_many_damaged_runs_get_a_few_lines_and_a_count(tmp_path):
    for number in range(8):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "run.json").write_text("{")
    lines = [check.finding for check in checks(tmp_path)]
    assert len(lines) == 6
    assert lines[-1] == "3 more problems like these"
