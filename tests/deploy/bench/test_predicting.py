import json
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from encode_once.cache import Table, UsageError
from encode_once.deploy.bench import predicting
from encode_once.deploy.bench.predicting import rates, text
from tests.conftest import files_of, vectors_file

pytestmark = pytest.mark.usefixtures("fit_once")
TINY = "timm:test_vit"
TRIAL = f"{TINY}+random/pooled"


@pytest.fixture
def trial(folder, run, tmp_path):
    """A run on images, by a network of random weights, and captions."""
    folder(60)
    weights = (
        "--weights",
        f"{TINY}=random",
        "--weights",
        f"glove-100={vectors_file(tmp_path / 'vectors.txt')}",
    )
    run("extract", "--encoder", TINY, "--encoder", "glove-100", *weights)
    run("fit", "--head", "linear", "--features", TRIAL, "--features", "glove-100/mean", "--run", "run")
    return run


@pytest.mark.slow
def test_figures_are_positive_and_nothing_is_written(trial):
    before = files_of(".")
    result = json.loads(
        trial("bench", "predict", "run", "--rows", 9, "--repeats", 1, "--trust", "--json").stdout
    )
    assert files_of(".") == before
    assert (result["rows"], result["device"]) == (9, "cpu")
    assert result["features"] == [TRIAL, "glove-100/mean"]
    figures = [value for name, value in result.items() if name.endswith(("_per_s", "_ms"))]
    assert len(figures) == 5
    assert min(figures) > 0
    assert f"{result['single_over_networks']:.2f} of the networks" in text(result)


def test_figures_are_medians_of_the_rounds(monkeypatch):
    """Three rounds by a clock that the timed calls move: of an extraction 3, 1 and 2 s, and so on."""
    clock = Clock()
    seconds = {"extract": iter([3, 1, 2]), "batch": iter([4, 8, 6])}
    singles = iter({"single": ms / 1000, "prepare": 0.002, "networks": 0.005} for ms in (20, 10, 90))
    rows = [str(row) for row in range(12)]
    table = Table("input", rows, rows, [""] * 12, None)
    tower = SimpleNamespace(modality="image", provenance=dict)
    predictor = MagicMock(runners=[SimpleNamespace(encoder="e", tower=tower)], device="cpu")
    predictor.run.record.captioners = {}
    predictor.side_effect = lambda images, _: clock.move(seconds["batch"]) if len(images) == 12 else None
    monkeypatch.setattr(predicting, "time", clock)
    monkeypatch.setattr(predicting, "Predictor", lambda *_, **__: predictor)
    monkeypatch.setattr(predicting, "read", lambda _: ({"train": table}, None))
    monkeypatch.setattr(predicting, "_extract", lambda *_: clock.move(seconds["extract"]))
    monkeypatch.setattr(predicting, "_single", lambda *_: next(singles))
    result = rates("run", "input")
    assert (result["extract_per_s"], result["batch_per_s"]) == (12 / 2, 12 / 6)
    assert result["batch_over_extract"] == pytest.approx(2 / 6)
    assert (result["single_ms"], result["networks_ms"], result["prepare_ms"]) == (20, 5, 2)
    assert result["single_over_networks"] == pytest.approx(4)


class Clock:
    """Stands for the module `time`."""

    now = 0.0

    def perf_counter(self):
        return self.now

    def move(self, seconds):
        self.now += next(seconds)


def test_a_run_without_encoders_is_refused(folder, run):
    folder(60)
    run("fit", "--head", "linear", "--features", "tfidf:20", "--run", "run")
    with pytest.raises(UsageError, match="run has no encoders"):
        rates("run", "input")
