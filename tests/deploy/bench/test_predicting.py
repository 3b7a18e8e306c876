import json

import pytest

from encode_once.cache import UsageError
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


def test_ratios_are_those_of_the_rates_and_nothing_is_written(trial):
    before = files_of(".")
    result = json.loads(
        trial("bench", "predict", "run", "--rows", 9, "--repeats", 1, "--trust", "--json").stdout
    )
    assert files_of(".") == before
    assert (result["rows"], result["device"]) == (9, "cpu")
    assert result["features"] == [TRIAL, "glove-100/mean"]
    assert result["batch_over_extract"] == pytest.approx(result["batch_per_s"] / result["extract_per_s"])
    ratio = result["single_ms"] / result["networks_ms"]
    assert result["single_over_networks"] == pytest.approx(ratio)
    assert ratio > 1
    assert f"{ratio:.2f} of the networks" in text(result)


def test_a_run_without_encoders_is_refused(folder, run):
    folder(60)
    run("fit", "--head", "linear", "--features", "tfidf:20", "--run", "run")
    with pytest.raises(UsageError, match="run has no encoders"):
        rates("run", "input")
