"""A view from the command line to a run, and from the run to new pictures."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from encode_once.cache import Store
from encode_once.cache.views import View
from encode_once.cli import main
from encode_once.deploy.predictor import Predictor
from encode_once.extract.options import weights_by_encoder
from tests.conftest import picture, write_data

NAME = "efficientnet-lite0@whole-64-flip"
CLIP = "open_clip:ViT-S-32-alt"
OWN = """
from encode_once.extract.encoders.base import Tower

class Mean(Tower):
    modality = "image"

    def __init__(self, options):
        super().__init__({"mean": {"encoder": "mean"}})

    def load(self, device):
        pass

    def prepare(self, image):
        return image.resize((1, 1)).getpixel((0, 0))

    def encode(self, batch):
        return {"mean": batch}
"""


def invoke(*words, status=0):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == status, result.output
    return result


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """A folder with data, a store of two views, and a run on one of them."""
    root = tmp_path_factory.mktemp("views")
    write_data(root / "input", 36)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr("encode_once.classify.runs.head_fitter.FOLDS_UP_TO", 0)
        invoke(
            "extract", "--encoder", "efficientnet-lite0,glove-50", "--view", "whole-flip,crop", "--size", 64
        )
        invoke("fit", "--head", "linear", "--features", "efficientnet-lite0@flip-64-whole", "--run", "run")
    return root


@pytest.fixture(autouse=True)
def in_its_folder(example, monkeypatch):
    monkeypatch.chdir(example)


def test_options_and_names_are_the_same_views():
    names = ["efficientnet-lite0@64/pooled", f"{NAME}/pooled", "glove-50/mean", "glove-50/tokens"]
    assert Store("store").features() == names
    result = invoke("extract", "--encoder", f"{NAME},efficientnet-lite0@64")
    assert "encoded 0, already there 36" in result.stderr
    for words, message in (
        (["--view", "whol"], "did you mean 'whole'?"),
        (["--view", "whole-64", "--size", 96], "name the size once"),
        (["--view", "whole", "--size", 7], "32<=x<=2048"),
    ):
        assert message in invoke("extract", "--encoder", NAME, *words, status=2).stderr
    assert (
        f"{NAME} is encoded as it is: it has a view"
        in invoke("extract", "--encoder", NAME, "--view", "pad").stderr
    )


def test_all_commands_judge_a_name_alike(tmp_path, monkeypatch):
    for name, message in (
        ("minilm@whole", "minilm has no views"),
        ("efficientnet-lite0@whol", "did you mean 'whole'?"),
        ("efficientnet-lit0@whole", "did you mean 'efficientnet-lite0'"),
    ):
        for words in (
            ["encoders", name],
            [
                "extract",
                "--encoder",
                name,
            ],
        ):
            assert message in invoke(*words, status=2).stderr
    monkeypatch.chdir(tmp_path)
    write_data(Path("input"), 2)
    Path("my.py").write_text(OWN, encoding="utf-8")
    for encoder in ("my.py:Mean", "glove-50"):
        result = invoke("extract", "--encoder", encoder, "--view", "whole")
        assert f"{encoder} is encoded as it is: it has no views" in result.stderr
    for name in ("net@64", "net@whole"):
        Path(name).write_bytes(b"")
        message = f"{name} is named like a view of net: rename it, as to {name}.onnx"
        assert message in invoke("extract", "--encoder", f"onnx:{name}", status=2).stderr


def test_weights_are_of_an_encoder_whatever_its_view_and_outputs():
    names = ["timm:test_vit@whole/regions", "timm:test_efficientnet"]
    by_encoder = {"timm:test_vit": "random", "timm:test_efficientnet": "b.pt"}
    words = [f"{name}={file}" for name, file in by_encoder.items()]
    assert weights_by_encoder(names, words) == by_encoder
    assert weights_by_encoder(names, [f"{names[0]}=random", words[1]]) == by_encoder


@pytest.mark.slow
def test_a_run_on_a_view_and_captions_encodes_no_other_view(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_data(Path("input"), 24)
    weights = ["--weights", "random"]
    invoke("extract", "--encoder", CLIP, "--view", "whole-64", *weights)
    features = [f"{CLIP}+random@whole-64/image", f"{CLIP}+random/text"]
    chosen = [word for name in features for word in ("--features", name)]
    invoke("fit", "--head", "linear", *chosen, "--run", "run")
    invoke("predict", "run", "--data", "input", "--store", "other")
    assert Store("other").features() == sorted(features)


def test_a_run_encodes_new_pictures_in_its_view(example, monkeypatch, capsys):
    image = picture(77, (90, 60))
    image.save(example / "new.png")
    predictor = Predictor("run")
    (runner,) = predictor.runners
    assert (runner.encoder, runner.tower.view) == (NAME, View("whole", 64, flip=True))
    assert predictor.run.record.requested == [NAME]
    assert [*predictor.run.record.encoders] == ["efficientnet-lite0"]  # the weights are those of all views
    invoke("export", "run", "--folder", "out", "--with-encoder")
    monkeypatch.setattr(sys, "argv", ["predict.py", "--json", "new.png"])
    runpy.run_path("out/predict.py", run_name="__main__")
    scores = json.loads(capsys.readouterr().out)["scores"]
    np.testing.assert_allclose(predictor([image]).scores[0], [*scores.values()], atol=1e-4)


def test_the_list_says_what_views_cost():
    lines = invoke("extract", "--list").stderr.splitlines()
    assert any("five-crops" in line and "time × 5" in line for line in lines)
    assert "efficientnet-lite0@whole/pooled" in invoke("encoders", "efficientnet-lite0@whole").output
