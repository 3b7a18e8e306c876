"""Runs exported with their encoders: images and captions in, the scores and labels of `predict` out."""

import csv
import json
import runpy
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnxruntime import InferenceSession
from PIL import Image

from encode_once.cache import DamagedError, Store
from encode_once.classify.heads.linear import Linear
from encode_once.classify.runs.loading import load_run
from encode_once.classify.runs.retune import evaluate_kept
from encode_once.deploy import Predictor, predict_script
from encode_once.deploy.folder import write_folder
from encode_once.deploy.predict_script import ExportedModel
from tests.conftest import files_of, picture
from tests.deploy.test_onnx_export import stored
from tests.extract.encoders.test_onnx import embedding

VIT, NET = "timm:test_vit", "timm:test_efficientnet"
RANDOM = ["--weights", f"{VIT}=random", "--weights", f"{NET}=random"]
pytestmark = pytest.mark.usefixtures("fit_once")


@pytest.fixture
def fitted(state_after, run):
    """A function that encodes a data folder with encoders and fits a run on features of theirs."""

    def fit(encoders, features, *words, head="linear"):
        state_after(shlex.join(extraction(encoders)), shlex.join(fitting(head, features, *words)))
        return run

    return fit


def extraction(encoders):
    weights = [f"{name}=random" for name in encoders if name.startswith("timm:")]
    return [
        "extract",
        *(f"--encoder={name}" for name in encoders),
        *(f"--weights={file}" for file in weights),
    ]


def fitting(head, features, *words):
    return ["fit", "--head", head, *(f"--features={name}" for name in features), "--run", "run", *words]


@pytest.fixture
def new(tmp_path):
    """New photos, one of them rotated, and a caption for all."""
    exif = Image.Exif()
    for row in range(4):
        exif[0x0112] = 8 if row == 1 else 1
        picture(row + 500, (400, 310 + row)).save(tmp_path / f"new{row}.jpg", exif=exif)
    return [str(tmp_path / f"new{row}.jpg") for row in range(4)], "a dog and a boat near the sea"


def assert_same_as_predict(run, model, photos, caption):
    result = run("predict", "run", *photos, "--caption", caption, "--scores", "scores.jsonl", "--json")
    rows = json.loads(result.stdout)["predictions"]
    written = [json.loads(line) for line in Path("scores.jsonl").read_text().splitlines()]
    for photo, row, expected in zip(photos, rows, written, strict=True):
        scores, labels = model(photo, caption)
        assert labels == row["labels"]
        classes = model.classes
        np.testing.assert_allclose([scores[n] for n in classes], [expected[n] for n in classes], atol=1e-4)


FEATURES = {
    "one network": ([VIT], [f"{VIT}+random/pooled"], ["pixels"]),
    "two networks with equal images": (
        [VIT, NET],
        [f"{VIT}+random/pooled", f"{NET}+random/pooled"],
        ["pixels"],
    ),
    "different images": pytest.param(
        [VIT, "timm:test_resnet"],
        [f"{VIT}+random/pooled", "timm:test_resnet+random/pooled"],
        ["pixels", "pixels_2"],
        marks=pytest.mark.slow,
    ),
    "image and words": ([VIT], [f"{VIT}+random/pooled", "tfidf:20"], ["pixels", "word_counts"]),
    "words": ([VIT], ["tfidf:20"], ["word_counts"]),
}


@pytest.mark.parametrize(("encoders", "features", "inputs"), FEATURES.values(), ids=FEATURES)
def test_the_file_gives_what_predict_gives(fitted, new, encoders, features, inputs):
    run = fitted(encoders, features)
    result = run("export", "run", "--with-encoder", "-o", "model.onnx", "--json")
    written = json.loads(result.stdout)
    assert written["bytes"] == Path("model.onnx").stat().st_size
    assert (written["rows"], written["compared_on"]) == (32, "of the run's own rows")
    onnx.checker.check_model("model.onnx")
    model = ExportedModel("model.onnx")
    assert [value.name for value in model.session.get_inputs()] == inputs
    assert [name for entry in model.inputs for name in entry["names"]] == inputs
    assert {name for entry in model.inputs for name in entry["features"]} == {*load_run("run").shapes}
    photos, caption = new
    assert_same_as_predict(run, model, photos, caption)
    feeds = [model.prepare(photo, caption) for photo in photos]
    batch = {name: np.concatenate([feed[name] for feed in feeds]) for name in inputs}
    scores, _ = model.session.run(["scores", "labels"], batch)
    alone = np.concatenate([model.session.run(["scores"], feed)[0] for feed in feeds])
    np.testing.assert_allclose(scores, alone, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["single", "hierarchy"])
def test_runs_of_every_kind_of_labels_give_what_predict_gives(folder, run, new, kind):
    """With the encoder, without it, and by `Predictor`."""
    folder(60)
    words, rows = ["--task", "single"], Path("input/train.csv").read_text().splitlines()
    if kind == "single":  # the first of the labels, of a row
        header, *lines = csv.reader(rows)
        column = header.index("Labels")
        for line in lines:
            line[column] = line[column].split()[0]
        with open("input/train.csv", "w", newline="") as file:
            csv.writer(file).writerows([header, *lines])
    else:
        Path("h.csv").write_text("child,parent\ndog,pet\ncat,pet\npet,thing\nboat,thing\n")
        words = ["--hierarchy", "h.csv"]
    feature = f"{VIT}+random/pooled"
    run(*extraction([VIT]))
    run(*fitting("linear", [feature], *words))
    run("export", "run", "--with-encoder", "-o", "model.onnx")
    run("export", "run", "-o", "vectors.onnx")
    photos, caption = new
    assert_same_as_predict(run, ExportedModel("model.onnx"), photos, caption)
    predictions = Predictor("run")(photos)
    result = run("predict", "run", *photos, "--json")
    expected = [row["labels"] for row in json.loads(result.stdout)["predictions"]]
    assert [[*row] for row in predictions.labels] == expected
    for labels in expected:
        assert len(labels) == 1 if kind == "single" else not {"dog", "cat"} & {*labels} or "thing" in labels

    loaded, table = load_run("run"), Store("store").table()
    evaluation = evaluate_kept(loaded)
    X = stored(Store("store"), [feature], 1)[[table.ids.index(name) for name in loaded.eval.ids]]
    scores, chosen = InferenceSession("vectors.onnx").run(["scores", "labels"], {"features": X})
    np.testing.assert_array_equal(chosen, evaluation.predictions)
    np.testing.assert_allclose(scores, evaluation.probabilities, atol=1e-5)


@pytest.mark.slow
def test_images_and_captions_of_a_language_model(fitted, new):
    run = fitted([VIT, "minilm"], [f"{VIT}+random/pooled", "minilm/pooled"], "--set", "epochs=3", head="mlp")
    run("export", "run", "--folder", "model")
    assert Path("model/requirements.txt").read_text().split() == [
        "onnxruntime",
        "numpy",
        "pillow",
        "tokenizers",
    ]
    model = ExportedModel("model/model.onnx")
    assert_same_as_predict(run, model, *new)
    assert_same_as_predict(run, model, new[0], "")


@pytest.mark.slow
def test_clip_with_both_towers(folder, new, run):
    folder(60)
    clip = "open_clip:ViT-S-32-alt"
    run("extract", "--encoder", clip, "--weights", f"{clip}=random")
    run("fit", "--head", "linear", "--features", f"{clip}+random", "--run", "run")
    run("export", "run", "--with-encoder", "-o", "model.onnx")
    assert_same_as_predict(run, ExportedModel("model.onnx"), *new)


def test_the_network_of_an_onnx_file_becomes_a_part(fitted, new, tmp_path):
    path = f"onnx:{embedding(tmp_path / 'net.onnx')}"
    run = fitted([path], ["onnx:net.onnx/pooled"])
    refused = run("export", "run", "--with-encoder", status=1)
    assert "--weights onnx:net.onnx=" in refused.output
    run("export", "run", "--with-encoder", "--weights", tmp_path / "net.onnx")
    model = ExportedModel("model.onnx")
    photos, _ = new
    result = run("predict", "run", *photos, "--trust", "--json")
    for photo, row in zip(photos, json.loads(result.stdout)["predictions"], strict=True):
        scores, labels = model(photo)
        assert labels == row["labels"]
        np.testing.assert_allclose([scores[n] for n in row["scores"]], [*row["scores"].values()], atol=1e-4)


@pytest.mark.parametrize(
    ("feature", "reason"),
    [
        (f"{VIT}+random/regions", "it is a sequence"),
        ("glove-50/mean", "its encoder is not a network of open_clip, timm,"),
        ("glove-50/tokens", "it is a sequence"),
        pytest.param("word2vec:8/mean", "its word vectors are looked up by text", marks=pytest.mark.slow),
    ],
)
def test_other_features_are_refused_with_the_alternative(fitted, feature, reason):
    encoder = f"{VIT}/regions" if "regions" in feature else "glove-50"
    run = fitted([encoder], [feature], "--set", "epochs=1", head="concat")
    result = run("export", "run", "--with-encoder", status=1)
    line = result.stderr.strip()
    assert line.count("\n") == 0
    assert line.startswith(f"Error: {feature} cannot be computed by the graph: {reason}")
    assert line.endswith("without --with-encoder and --folder, export takes its vectors as input")
    assert not Path("model.onnx").exists()
    run("export", "run")


def test_a_network_that_torch_cannot_export_is_refused_with_the_alternative(fitted):
    network = "timm:test_vit4"  # its RMS norm has no operator in this version of ONNX
    run = fitted([network], [f"{network}+random/pooled"])
    line = run("export", "run", "--with-encoder", status=1).stderr.strip()
    assert line.startswith(f"Error: torch cannot export the network of {network}+random/pooled: ")
    assert line.endswith("export takes its vectors as input")
    assert line.count("\n") == 0


def test_without_the_images_of_its_rows_generated_ones_are_compared_on(fitted):
    run = fitted([VIT], [f"{VIT}+random/pooled"])
    for path in Path("input/data").iterdir():
        path.unlink()
    result = run("export", "run", "--with-encoder", "--json")
    assert "16 generated images, as those of the run's rows are gone" in result.stderr
    assert json.loads(result.stdout)["compared_on"].startswith("generated images")


def test_without_the_store_generated_images_are_encoded_again(fitted, tmp_path):
    run = fitted([VIT], [f"{VIT}+random/pooled"])
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    lines = run("export", "run", "--with-encoder").stderr
    assert "the run's rows are not compared: " in lines
    assert "scores of 16 generated images differ" in lines
    assert not (tmp_path / "store").exists()


def test_rows_whose_image_cannot_be_decoded_are_left_out_and_counted(fitted, run):
    fitted([VIT], [f"{VIT}+random/pooled"])
    Path("input/data/7.png").write_bytes(b"no image")
    Path("input/data/9.png").write_bytes(b"no image either")
    run(*extraction([VIT]), status=1)
    run(*fitting("linear", [f"{VIT}+random/pooled"], "--overwrite"))
    result = run("export", "run", "--with-encoder", "--check", 60, "--json")
    assert "not compared: 2 rows, whose images cannot be decoded" in result.stderr
    assert json.loads(result.stdout)["rows"] == 58


def test_a_run_on_reduced_precision_is_refused_with_the_cause_and_the_remedy(run, folder):
    folder(60)
    run(*extraction([VIT]), "--precision", "bfloat16", "--min-cosine", "0.5")
    run(*fitting("linear", [f"{VIT}+random/pooled"]))
    line = run("export", "run", "--with-encoder", status=1).output
    assert f"computes in float32, and the run has {VIT}+random/pooled in bfloat16: " in line
    assert "extract --precision float32" in line


def test_a_graph_that_gives_other_scores_is_not_written(fitted, monkeypatch):
    run = fitted([VIT], [f"{VIT}+random/pooled"])
    run("export", "run", "--folder", "model")
    before = files_of("model")
    original = Linear.predict_proba
    monkeypatch.setattr(Linear, "predict_proba", lambda head, X: original(head, X) + np.float32(1e-3))
    for words in (("--folder", "model"), ("--with-encoder", "-o", "model.onnx")):
        assert "its scores differ from the run's by 1.0e-03" in run("export", "run", *words, status=1).output
    assert files_of("model") == before
    assert not Path("model.onnx").exists()


def test_pixels_that_are_prepared_otherwise_are_noticed(fitted, monkeypatch):
    run = fitted([VIT], [f"{VIT}+random/pooled"])
    original = predict_script.pixels
    monkeypatch.setattr(predict_script, "pixels", lambda *args: original(*args)[:, ::-1])
    assert "its scores differ" in run("export", "run", "--with-encoder", status=1).output


def test_labels_that_do_not_follow_from_the_scores_are_noticed(fitted, monkeypatch):
    run = fitted([VIT], [f"{VIT}+random/pooled"])
    monkeypatch.setattr("encode_once.deploy.decision_graph.ROUNDING", 0.3)
    assert "its labels do not follow" in run("export", "run", "--with-encoder", status=1).output


def test_options_that_have_no_effect_are_refused(fitted, tmp_path):
    run = fitted([VIT], [f"{VIT}+random/pooled"])
    assert "--check: for --with-encoder and --folder" in run("export", "run", "--check", 5, status=2).output
    assert "-o: --folder names" in run("export", "run", "--folder", "x", "-o", "y", status=2).output
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").touch()
    for place in ("mine", "mine/notes.txt", "run"):
        result = run("export", "run", "--folder", place, status=1)
        assert f"{place} exists and is not an exported folder" in result.output
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_a_folder_holds_the_model_the_script_and_what_it_needs(fitted, new, monkeypatch, capsys):
    run = fitted([VIT], [f"{VIT}+random/pooled", "tfidf:20"])
    for _ in range(2):  # an earlier export is replaced
        result = run("export", "run", "--folder", "model", "--check", 4, "--json")
    names = {"model.onnx", "predict.py", "labels.txt", "thresholds.json", "requirements.txt", "README.md"}
    assert {path.name for path in Path("model").iterdir()} == names
    assert json.loads(result.stdout)["bytes"] == sum(map(len, files_of("model").values()))
    assert Path("model/labels.txt").read_text().split() == load_run("run").record.classes
    assert Path("model/requirements.txt").read_text().split() == ["onnxruntime", "numpy", "pillow"]
    assert json.loads(Path("model/thresholds.json").read_text())["decide"] == "expected-mean"
    readme = Path("model/README.md").read_text()
    assert "python predict.py --caption 'a dog in the snow' photo.jpg" in readme
    assert 'model("photo.jpg", caption="a dog in the snow")' in readme

    photos, caption = new
    monkeypatch.setattr(sys, "argv", ["predict.py", "--json", "--caption", caption, *photos])
    runpy.run_path("model/predict.py", run_name="__main__")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    model = ExportedModel("model/model.onnx")
    assert [line["photo"] for line in lines] == photos
    for photo, line in zip(photos, lines, strict=True):
        assert (line["scores"], line["labels"]) == model(photo, caption)
    Path("broken.jpg").write_bytes(b"no photo")
    monkeypatch.setattr(sys, "argv", ["predict.py", "broken.jpg", photos[0]])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path("model/predict.py", run_name="__main__")
    assert stopped.value.code == 1
    printed = capsys.readouterr()
    assert printed.out == f"{photos[0]}: {', '.join(model(photos[0])[1])}\n"
    assert printed.err.startswith("broken.jpg: not a photo that can be read: ")


def test_options_for_tables_are_refused_with_named_images(run):
    Path("run").mkdir()
    Path("run/run.json").touch()
    for option in ("--data", "--table"):
        line = run("predict", "run", "photo.jpg", option, "test", status=2).stderr
        assert f"{option}: for the rows of a table, not for images that are named" in line


def test_a_card_behind_a_link_is_not_published(tmp_path):
    (tmp_path / "id_rsa").write_text("secret")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/README.md").symlink_to(tmp_path / "id_rsa")
    stranger = SimpleNamespace(path=tmp_path / "run", record=SimpleNamespace(classes=["dog"]))
    with pytest.raises(DamagedError, match=r"README\.md is a symbolic link"):
        write_folder(stranger, tmp_path / "model", b"", [])
    assert not (tmp_path / "model").exists()


def test_the_script_of_a_model_of_captions_takes_no_photo(fitted, monkeypatch, capsys):
    run = fitted([VIT], ["tfidf:20"])
    run("export", "run", "--folder", "model")
    readme = Path("model/README.md").read_text()
    assert "python predict.py --caption 'a dog in the snow'\n" in readme
    monkeypatch.setattr(sys, "argv", ["predict.py", "--caption", "a dog and a boat"])
    runpy.run_path("model/predict.py", run_name="__main__")
    assert {*capsys.readouterr().out.rstrip("\n").split(", ")} == {"dog", "boat"}
    monkeypatch.setattr(sys, "argv", ["predict.py", "photo.jpg"])
    with pytest.raises(SystemExit):
        runpy.run_path("model/predict.py", run_name="__main__")
    assert "the model takes captions only" in capsys.readouterr().err


def test_the_script_imports_nothing_of_this_package():
    text = Path(predict_script.__file__).read_text()
    assert "encode_once" not in text
    assert "import torch" not in text
