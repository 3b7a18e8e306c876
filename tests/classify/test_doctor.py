"""Runs are read, and each that cannot be is named."""

from types import SimpleNamespace

from encode_once.classify import doctor
from encode_once.classify.doctor import checks


def test_a_folder_without_runs(tmp_path):
    (check,) = checks(tmp_path / "runs")
    assert (check.state, check.remedy) == ("PASS", "fit writes one")


def test_a_store_at_a_url_is_not_called_gone(tmp_path, monkeypatch):
    def run_of(store):
        return SimpleNamespace(record=SimpleNamespace(store=store))

    for name, store in {"local": str(tmp_path / "gone"), "remote": "s3://bucket/store"}.items():
        (tmp_path / "sweep" / name).mkdir(parents=True)
        (tmp_path / "sweep" / name / "run.json").write_text(store)
    monkeypatch.setattr(doctor, "load_run", lambda path: run_of((path / "run.json").read_text()))
    findings = [check.finding for check in checks(tmp_path) if check.state == "WARN"]
    assert len(findings) == 1
    assert findings[0].endswith(f"its store {tmp_path / 'gone'} is gone")


def test_many_damaged_runs_get_a_few_lines_and_a_count(tmp_path):
    for number in range(8):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "run.json").write_text("{")
    lines = [check.finding for check in checks(tmp_path)]
    assert len(lines) == 6
    assert lines[-1] == "3 more problems like these"
