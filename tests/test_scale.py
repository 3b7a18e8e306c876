"""`bench scale`: the parts of all rooms in one prediction, and whether it holds."""

import json
import re
import time
from types import SimpleNamespace

import pytest

from encode_once.cache.bench import stopwatch, store_cost
from encode_once.classify.bench import race
from encode_once.extract import pipeline
from encode_once.extract.bench import row_cost
from encode_once.extract.bench.row_cost import EncodingCost, TableCost
from tests.doc_pages import ROOT

ROWS = 3600
STORE = {"write": 0.0, "seal": 0.0, "merge": 0.1, "commit": 0.0, "vector_bytes": 84.0}


@pytest.fixture
def measured(monkeypatch):
    """Costs of a row instead of measurements: 12 hours of one machine for `ROWS` rows, 1 of the table."""
    sizes = {}
    encoding = EncodingCost(
        rows=5, read=1, encode=10, image_bytes=1000, width=30, vector_width=20, features=2
    )
    monkeypatch.setattr(row_cost, "encoding_cost", lambda *arguments, **options: encoding)
    monkeypatch.setattr(row_cost, "table_cost", lambda *arguments: TableCost(1, 0.01, 100, 300))
    monkeypatch.setattr(
        store_cost, "store_cost", lambda rows, width, *rest: sizes.update(store=width) or STORE
    )
    monkeypatch.setattr(race, "fit_cost", lambda width, *rest: sizes.update(fit=width) or 0.5)
    return sizes


def test_bench_scale_predicts_from_the_parts(run, measured):
    result = run(
        "bench", "scale", "--rows", ROWS, "--machines", 1, "--machines", 10, "--price-per-hour", 2, "--json"
    )
    content = json.loads(result.stdout)
    alone, ten = content["predictions"]
    assert alone["store_hours"] == pytest.approx(12)
    assert ten["store_hours"] == pytest.approx(1.1 + 1 + 0.1 + 0.1)
    assert ten["cost"] == pytest.approx(2 * (10 * 2.1 + 0.2 + 0.5))
    assert content["cost"]["index_memory"] > 2 * 40  # of both features
    assert measured == {"store": 30, "fit": 20}


def test_bench_scale_finds_the_machines_for_some_hours(run, measured):
    result = run("bench", "scale", "--rows", ROWS, "--hours", 3, "--shared-store")
    (line,) = (line.split() for line in result.stdout.splitlines() if line.startswith(f"{ROWS:,}"))
    assert line[:3] == ["3,600", "6", "2.8"]  # 11 / 6 + 1
    assert "all machines write to one store" in result.stdout
    late = run("bench", "scale", "--rows", ROWS, "--hours", 0.5)
    assert "3,600 rows: no number of machines is enough for 0.5 hours" in late.stderr
    refused = run("bench", "scale", "--hours", 3, "--machines", 4, status=2)
    assert "--machines: without --hours" in refused.stderr


@pytest.mark.scale
def test_9000_rows_take_what_1000_rows_predict(shared, run, tmp_path, monkeypatch):
    """Within 20 %: an extraction of 9,000 photographs, and the size of its store.

    Seconds are those of the processor, which other programs hardly change.
    """
    for module in (stopwatch, pipeline):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=time.process_time))
    data = str(shared / "coco19-9k")
    words = ("--data", data, "--folder", tmp_path, "--rows", 9000, "--machines", 1, "--json")
    (predicted,) = json.loads(run("bench", "scale", *words).stdout)["predictions"]
    predicted_seconds = 3600 * predicted["store_hours"]
    report = pipeline.encode(data, ["efficientnet-lite0"], tmp_path / "store", progress=False)
    assert report.features["efficientnet-lite0/pooled"].encoded > 8900
    seconds = report.seconds - report.loading
    size = sum(path.stat().st_size for path in (tmp_path / "store").rglob("*.h5"))
    print(f"predicted {predicted_seconds:.1f} s and {predicted['storage_bytes'] / 1e6:.1f} MB")
    print(f"took {seconds:.1f} s and {size / 1e6:.1f} MB")
    assert predicted_seconds == pytest.approx(seconds, rel=0.2)
    assert predicted["storage_bytes"] == pytest.approx(size, rel=0.2)


def test_the_tests_that_the_page_names_exist():
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    named = {*re.findall(r"`([\w/]+\.py)`", page)}
    assert len(named) > 10
    assert [name for name in named if not (ROOT / "tests" / name).exists()] == []
