"""A `Predictor` gives the labels and scores of `predict`, in memory, from any thread."""

import csv
import json
import shutil
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import encode_once
from encode_once.cache import DataError, SpecMismatchError, UsageError, own_code
from encode_once.cache.own_code import UntrustedError
from encode_once.classify.runs.predict import label_rows
from encode_once.classify.runs.prevalence import decided
from encode_once.cli import main
from encode_once.deploy.predictor import PredictionWarning, Predictor
from encode_once.extract import ComputeOptions
from encode_once.extract.encoders.base import Tower
from tests.conftest import WORDS, files_of, picture, shorten_fits, vectors_file
from tests.test_captions import CAPTIONER, CAPTIONS

pytestmark = pytest.mark.usefixtures("fit_once")
LITE0, TOKENS, MEAN, TFIDF = "efficientnet-lite0/pooled", "glove-50/tokens", "glove-50/mean", "tfidf:50"
ORIENTATION = 0x112
CLOSE = 1e-5  # of scores: batches are rounded differently


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """A folder with data, a store, the run `all` on images, captions and tf-idf, and `images` on images."""
    root = tmp_path_factory.mktemp("made")
    (root / "input" / "data").mkdir(parents=True)
    lines = ["ImageID,Labels,Caption"]
    for row in range(60):
        picture(row, (40 + row % 7, 40 + row % 5)).save(root / "input" / "data" / f"{row}.png")
        words = [WORDS[row % 6], WORDS[(row // 6) % 6]]
        lines.append(f"{row}.png,{' '.join(dict.fromkeys(words))},a {words[0]} and a {words[1]} {row}")
    (root / "input" / "train.csv").write_text("\n".join(lines))
    features = [word for name in (LITE0, MEAN, TFIDF) for word in ("--features", name)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        shorten_fits(patch)
        for words in (
            ["extract", "--encoder", "efficientnet-lite0,glove-50"],
            ["fit", "--head", "linear", *features, "--run", "all"],
            ["fit", "--head", "linear", "--features", LITE0, "--run", "images"],
        ):
            assert CliRunner().invoke(main, words).exit_code == 0
    return root


@pytest.fixture(scope="module")
def on_all(example):
    """A predictor of the run on images, captions and tf-idf."""
    return Predictor(example / "all")


@pytest.fixture(scope="module")
def on_images(example):
    """A predictor of the run on images only."""
    return Predictor(example / "images")


@pytest.fixture
def images_only(example, run, tmp_path):
    """A copy of the run on images only, and its store."""
    shutil.copytree(example, tmp_path, dirs_exist_ok=True)
    Path("images").rename("run")
    return run


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """Images of all kinds: name → path."""
    root = tmp_path_factory.mktemp("kinds")
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    large = picture(901, (1500, 1200))
    rgba = picture(902).convert("RGBA")
    rgba.putalpha(Image.linear_gradient("L").resize(rgba.size))
    deep = (np.asarray(picture(903).convert("L")).astype(np.uint16) << 8) + 17
    saved = {
        "grey.png": (picture(904).convert("L"), {}),
        "cmyk.jpg": (picture(905).convert("CMYK"), {}),
        "turned.jpg": (large, {"exif": exif}),  # and read at a reduced size
        "deep.png": (Image.fromarray(deep), {}),
        "palette.png": (picture(906).convert("P", palette=Image.Palette.ADAPTIVE), {}),
        "palette.gif": (picture(907).convert("P"), {"transparency": 0}),
        "alpha.webp": (rgba, {"lossless": True}),
        "rgb.png": (picture(908), {}),
    }
    for name, (image, options) in saved.items():
        image.save(root / name, **options)
    return {name: root / name for name in saved}


def by_command(run, paths, *words):
    """The scores (n, c) and labels that the command gives these images."""
    result = run("predict", "run", *paths, "--json", "--scores", "scores.csv", *words)
    with open("scores.csv") as file:
        _, *rows = csv.reader(file)
    labels = [set(row["labels"]) for row in json.loads(result.stdout)["predictions"]]
    return np.array([row[1:] for row in rows], float), labels


def assert_same(predictions, scores, labels):
    np.testing.assert_allclose(predictions.scores, scores, atol=CLOSE)
    near = np.abs(predictions.scores - 0.5).min() < CLOSE
    assert near or [set(row) for row in predictions.labels] == labels


def quietly(predictor, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PredictionWarning)
        return predictor(*args, **kwargs)


def test_scores_are_those_of_predict_for_images_of_every_kind(images_only, on_images, kinds):
    scores, labels = by_command(images_only, kinds.values(), "--store", "fresh")
    before = files_of(".")
    forms = {
        "paths": [str(path) for path in kinds.values()],
        "bytes": [path.read_bytes() for path in kinds.values()],
        "opened": [Image.open(path) for path in kinds.values()],
    }
    for images in forms.values():
        assert_same(on_images(images), scores, labels)
    assert files_of(".") == before
    one_by_one = np.concatenate([on_images(path).scores for path in kinds.values()])
    np.testing.assert_allclose(one_by_one, scores, atol=CLOSE)


def test_pixels_are_taken_as_the_file_has_them_unless_it_is_read_at_a_reduced_size(on_images, kinds):
    names = [name for name in kinds if name != "turned.jpg"]
    scores = on_images([kinds[name] for name in names]).scores
    read = [Image.open(kinds[name]) for name in names]
    for image in read:
        image.load()
    before = [image.tobytes() for image in read]
    np.testing.assert_allclose(on_images(read).scores, scores, atol=CLOSE)
    assert [image.tobytes() for image in read] == before
    arrays = {name: np.asarray(image) for name, image in zip(names, read, strict=True)}
    chosen = ["grey.png", "rgb.png", "deep.png", "alpha.webp"]
    rows = [names.index(name) for name in chosen]
    np.testing.assert_allclose(on_images([arrays[n] for n in chosen]).scores, scores[rows], atol=CLOSE)
    stack = np.stack([np.asarray(picture(seed)) for seed in range(3)])  # (n, h, w, 3)
    assert len(on_images(stack)) == 3
    turned = Image.open(kinds["turned.jpg"])
    turned.load()
    by_file, by_pixels = on_images(kinds["turned.jpg"]).scores, on_images(turned).scores
    assert 0 < np.abs(by_file - by_pixels).max() < 0.2


def test_rows_with_all_some_and_broken_inputs_are_those_of_predict(example, run, on_all, kinds, tmp_path):
    path, broken = kinds["rgb.png"], tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    lines = [f"{path},a dog and a boat,0", f"{path},,1", ",a cat,2", f"{broken},a cat,3"]
    Path("new.csv").write_text("\n".join(["image,caption,id", *lines]))
    words = (
        "--data",
        "new.csv",
        "--images",
        "/",
        "-o",
        "out.csv",
        "--scores",
        "scores.csv",
        "--store",
        "new",
    )
    run("predict", example / "all", *words)
    with open("scores.csv") as file:
        scores = np.array([row[1:] for row in csv.reader(file)][1:], float)
    with open("out.csv") as file:
        labels = [set(row["Labels"].split()) for row in csv.DictReader(file)]
    captions = ["a dog and a boat", None, "a cat", "a cat"]
    with pytest.warns(PredictionWarning) as caught:
        predictions = on_all([path, path, None, broken], captions)
    assert_same(predictions, scores, labels)
    assert predictions.missing == [[], [MEAN, TFIDF], [LITE0], [LITE0]]
    assert [str(warning.message).partition(" rows have no")[0] for warning in caught] == [
        f"1 of 4 images could not be encoded, such as {broken}: not-an-image "
        "(not one of " + str(caught[0].message).partition("(not one of ")[2],
        f"{LITE0}: 2 of 4", f"{MEAN}: 1 of 4", f"{TFIDF}: 1 of 4",
    ]  # fmt: skip
    assert predictions.warnings == [str(warning.message) for warning in caught]
    assert_same(quietly(on_all, captions="a cat"), scores[2:3], labels[2:3])


def test_captions_that_are_cut_are_reported_when_they_are(on_all, kinds):
    predictor, long = on_all, "a dog " * 3000
    with pytest.warns(PredictionWarning, match=r"1 caption is longer than \d+ tokens and was cut, so far"):
        assert len(predictor(kinds["rgb.png"], long).warnings) == 1
    assert predictor(kinds["rgb.png"], "a dog").warnings == []
    assert "2 captions are longer" in str(quietly(predictor, kinds["rgb.png"], long + "a cat").warnings)


@pytest.mark.slow
def test_sequences_regions_and_several_captions_are_those_of_predict(folder, run, tmp_path):
    root = folder(60)
    rows = [*csv.reader((root / "train.csv").open())]
    with (root / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*rows[0], "Caption 2"])
        writer.writerows(
            [*row, f"one more {row[2].split()[1]}" if i % 2 else ""] for i, row in enumerate(rows[1:])
        )
    run("extract", "--encoder", "efficientnet-lite0/regions", "--encoder", "glove-50")
    names = ("efficientnet-lite0/regions", TOKENS, MEAN, TFIDF)
    words = [word for name in names for word in ("--features", name)]
    run(
        "fit",
        "--head",
        "bilstm",
        *words,
        "--set",
        "epochs=1",
        "--set",
        "hidden=4",
        "--set",
        "device=cpu",
        "--set",
        "progress=false",
        "--run",
        "run",
    )
    run("predict", "run", "-o", "out.csv", "--scores", "scores.csv")
    with open("scores.csv") as file:
        expected = np.array([row[1:] for row in csv.reader(file)][1:], float)
    frame = pd.read_csv(root / "train.csv")
    frame["image"] = [str(root / "data" / name) for name in frame["ImageID"]]
    predictions = Predictor("run")(frame)
    np.testing.assert_allclose(predictions.scores, expected, atol=1e-4)
    assert predictions.ids == [*frame["ImageID"]]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [CAPTIONS, f"table+{CAPTIONS}"])
def test_captions_of_a_captioner_are_those_of_predict(folder, run, tmp_path, kind, monkeypatch):
    (tmp_path / "captioner.py").write_text(CAPTIONER)
    folder(60)
    run("extract", "--encoder", "glove-50", "--captions", kind)
    run("fit", "--head", "linear", "--features", f"{MEAN}@{kind}", "--run", "run")
    (tmp_path / "new").mkdir()
    for row in range(4):  # of one there is no caption
        picture(row, (40 + 13 * row, 40 + 13 * row)).save(tmp_path / "new" / f"{row}.png")
    images = [str(path) for path in sorted(Path("new").iterdir())]
    scores, labels = by_command(run, images, "--caption", "a bird", "--trust")
    monkeypatch.setattr(own_code, "_trusted", {})  # as in a process that has not run it
    with pytest.raises(UntrustedError, match=r"names code to run: run/code/captioner-\w+\.py"):
        Predictor("run")
    predictor = Predictor("run", trust=True)
    assert_same(quietly(predictor, images, ["a bird"] * 4), scores, labels)


def test_only_broken_images_are_an_error(on_all):
    predictor = on_all
    with pytest.raises(DataError, match=r"none of the 2 images can be encoded, such as 0: empty"):
        predictor([b"", b"x"], ["a dog", "a cat"])
    with pytest.raises(DataError, match=r"no row has what .*all is fitted on .*: pass captions and images"):
        predictor([None, None])
    assert len(predictor([])) == 0
    assert predictor([]).scores.shape == (0, 6)


@pytest.mark.parametrize(
    ("images", "captions", "message"),
    [
        (None, None, "nothing to label"),
        (np.zeros((4, 4, 3)), None, r"array \(4, 4, 3\) of float64.* by 255"),
        (np.zeros((3, 40, 40), np.uint8), None, r"array \(3, 40, 40\)"),
        (torch.zeros(3), None, "image 0 is Tensor"),
        ([b"x", 3], None, "image 1 is int: an image is a path"),
        ([b"x"], ["a", "b"], "1 images and 2 captions"),
        (None, [3], "caption 0 is int"),
        (pd.DataFrame({"x": [1]}), None, "the DataFrame has the columns x: name that of the images `image`"),
        (pd.DataFrame({"image": ["a"], "photo": ["b"]}), None, "image and photo may hold the images"),
        (pd.DataFrame({"image": ["a"]}), "a", "pass captions= with images only"),
    ],
)
def test_other_inputs_are_refused(images, captions, message):
    from encode_once.deploy.inputs import input_rows

    with pytest.raises(UsageError, match=message):
        input_rows(images, captions, {})


def test_a_data_frame_has_columns_as_the_run_or_common_ones(on_all, kinds, monkeypatch):
    predictor = on_all
    path = str(kinds["rgb.png"])
    expected = quietly(predictor, [path, None], ["a dog", None])
    frame = pd.DataFrame({"Picture": [path, None], "text": ["a dog", None], "key": [7, 8]})
    predictions = quietly(predictor, frame)
    np.testing.assert_allclose(predictions.scores, expected.scores, atol=CLOSE)
    assert predictions.ids == ["7", "8"]
    assert quietly(predictor, frame.drop(columns="key").set_index(pd.Index(["a", "b"]))).ids == ["a", "b"]
    named = frame.rename(columns={"Picture": "file of it", "text": "said"})
    names = {"image": ["file of it"], "captions": ["said"]}
    monkeypatch.setitem(predictor.run.record.__dict__, "named_columns", names)
    np.testing.assert_allclose(quietly(predictor, named).scores, expected.scores, atol=CLOSE)
    pictures = pd.DataFrame({"ImageID": [path]})
    assert quietly(predictor, pictures)[0].missing == [MEAN, TFIDF]


def test_other_columns_of_a_data_frame_are_those_of_predict(folder, run):
    prices = [str(row % 7) if row % 5 else "" for row in range(60)]
    brands = [["acme", "zeta"][row % 2] for row in range(60)]
    folder(60, extra={"price": prices, "brand": brands})
    run("fit", "--head", "linear", "--features", "column:price", "--features", "column:brand", "--run", "run")
    run("predict", "run", "-o", "out.csv", "--scores", "scores.csv")
    with open("scores.csv") as file:
        expected = np.array([row[1:] for row in csv.reader(file)][1:], float)
    predictor = Predictor("run")
    frame = pd.read_csv("input/train.csv")  # prices are numbers, or NaN
    np.testing.assert_allclose(quietly(predictor, frame).scores, expected, atol=CLOSE)
    assert quietly(predictor, frame[["brand"]])[0].missing == ["column:price"]
    with pytest.warns(PredictionWarning, match="column:brand: 2 of 60 rows have a category that was not"):
        predictor(frame.assign(brand=["new", "old", *frame["brand"][2:]]))
    with pytest.raises(DataError, match="pass a DataFrame with the column brand and a DataFrame with the"):
        predictor(captions="a dog")


def test_results_can_be_read_indexed_and_tabled(on_images, kinds):
    predictions = on_images([*kinds.values()] * 2)
    first, last = predictions[0], predictions[-1]
    assert next(iter(predictions)).id == first.id == str(kinds["grey.png"])
    assert last.scores == dict(zip(predictions.classes, predictions.scores[-1].tolist(), strict=True))
    assert sorted(first.labels, key=lambda name: -first.scores[name]) == first.labels
    assert len(predictions[2:5]) == 3
    with pytest.raises(IndexError):
        predictions[16]
    frame = predictions.frame()
    assert frame.columns.tolist() == ["Labels", *predictions.classes]
    np.testing.assert_array_equal(frame[predictions.classes].to_numpy(), predictions.scores)
    text = repr(predictions)
    assert text.startswith("<Predictions: 16 rows, 6 classes>\n")
    assert "… and 6 more rows" in text
    assert len(text.splitlines()) < 24
    assert "<script>" not in predictions._repr_html_().replace("&lt;", "")
    assert repr(first).startswith(f"<Prediction {first.id}: ")


def test_scores_are_corrected_for_the_prevalence_in_a_call(example, on_images, monkeypatch):
    images = [example / "input" / "data" / f"{row}.png" for row in range(52)]
    with pytest.warns(PredictionWarning, match="prevalence: "):
        predictions = on_images(images, prevalence="em")
    expected = decided(on_images.run, on_images(images).scores, "em")
    np.testing.assert_allclose(predictions.scores, expected.probabilities, atol=CLOSE)
    assert {*predictions.prevalence} == {*predictions.classes}
    for few in (images[:2], []):
        monkeypatch.setattr(on_images, "_encoders", None)  # noticed before anything is encoded
        with pytest.raises(DataError, match=f"^{len(few)} rows do not say how frequent classes are"):
            on_images(few, prevalence="em")


def test_captions_of_a_run_on_images_are_reported_as_not_used(on_images, kinds):
    with pytest.warns(PredictionWarning, match="captions are not used: .*images has no feature of captions"):
        on_images(kinds["rgb.png"], "a dog")


def test_the_command_says_that_a_caption_is_not_used(images_only, kinds):
    words = ("predict", "run", kinds["rgb.png"], "--json")
    line = "the captions are not used: run has no feature of captions"
    result = images_only(*words, "--caption", "a dog")
    assert json.loads(result.stdout)["warnings"] == [line]
    assert f"warning: {line}" in result.stderr
    assert json.loads(images_only(*words).stdout)["warnings"] == []


def test_what_is_so_in_every_call_is_a_warning_once_and_a_note_of_every_result(on_images, kinds, monkeypatch):
    monkeypatch.setattr(on_images, "_reported", set())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        notes = [on_images([kinds["rgb.png"], b""], ["a dog", None]).warnings for _ in range(3)]
    assert notes[0] == notes[1] == notes[2]
    lines = [str(warning.message) for warning in caught]
    assert sum("has no feature of captions" in line for line in lines) == 1
    assert sum("1 of 2 images could not be encoded" in line for line in lines) == 3


def test_a_remark_is_reported_by_one_of_the_threads_that_see_it(on_all, monkeypatch):
    runner = SimpleNamespace(names={0: "x"}, tower=SimpleNamespace(remarks=lambda: ["cut"]))
    monkeypatch.setattr(Predictor, "runners", [runner])
    monkeypatch.setattr(on_all, "_reported", SlowSet())
    with ThreadPoolExecutor(6) as pool:
        remarks = [pool.submit(on_all._remarks) for _ in range(6)]
    assert sorted(call.result() for call in remarks) == [[]] * 5 + [["x: cut, so far"]]


class SlowSet(set):
    """A set that lets other threads run after it is subtracted."""

    def __rsub__(self, other):
        rest = set(other) - set(self)
        time.sleep(0.01)
        return rest

    def __ior__(self, other):
        self.update(other)
        return self


@pytest.mark.slow
@pytest.mark.parametrize("head", ["mlp", "knn", "forest", "gbm", "prototype"])
def test_heads_score_in_several_threads(images_only, head):
    options = ["--set", "epochs=2", "--set", "progress=false"] if head == "mlp" else []
    images_only("fit", "--head", head, "--features", LITE0, *options, "--run", "run", "--overwrite")
    check_threads(Predictor("run", compute=ComputeOptions(workers=2)))


def test_threads_that_call_at_once_get_equal_results(on_images):
    check_threads(on_images)


def test_warning_filters_that_libraries_change_in_several_threads_are_restored(on_images, monkeypatch):
    filters, turns = [*warnings.filters], iter([0, 1])
    encoded, entered, left = Barrier(2), [Event(), Event()], Event()

    def interleaved(*arguments):
        encoded.wait(10)
        turn = next(turns)
        if turn == 1:
            assert entered[0].wait(10)
        with warnings.catch_warnings():
            warnings.simplefilter("error", BytesWarning)
            entered[turn].set()
            assert (left if turn == 1 else entered[1]).wait(10)
        left.set()
        return label_rows(*arguments)

    monkeypatch.setattr("encode_once.deploy.predictor.label_rows", interleaved)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(on_images, picture(seed)) for seed in range(2)]
        assert all(len(call.result()) for call in calls)
    assert [*warnings.filters] == filters


def check_threads(predictor):
    """Calls of several threads give equal results, and leave the state of the process."""
    images = [picture(seed) for seed in range(12)]
    expected = predictor(images).scores
    threads, filters = torch.get_num_threads(), [*warnings.filters]
    torch.set_num_threads(3)
    try:
        with ThreadPoolExecutor(6) as pool:
            calls = [pool.submit(predictor, images[i % 3 :]) for i in range(12)]
            single = [pool.submit(predictor, image) for image in images]
        for i, call in enumerate(calls):
            np.testing.assert_allclose(call.result().scores, expected[i % 3 :], atol=CLOSE)
        scores = np.concatenate([call.result().scores for call in single])
        np.testing.assert_allclose(scores, expected, atol=CLOSE)
        assert torch.get_num_threads() == 3
        with ThreadPoolExecutor(1) as pool:  # a new thread takes the number of the process
            assert pool.submit(torch.get_num_threads).result() == 3
    finally:
        torch.set_num_threads(threads)
    assert [*warnings.filters] == filters


def test_encoders_are_loaded_once(on_images, monkeypatch):
    predictor = on_images
    monkeypatch.setattr(Tower, "load", lambda *_: pytest.fail("loaded twice"))
    monkeypatch.setattr("encode_once.extract.encoders.towers", lambda *_: pytest.fail("made twice"))
    assert len(predictor([picture(1), picture(2)])) == len(predictor([picture(3)])) + 1


def test_other_weights_than_those_of_the_run_are_refused(folder, run, tmp_path):
    folder(60)
    files = [vectors_file(tmp_path / "a.txt"), vectors_file(tmp_path / "b.txt")]
    files[1].write_text(files[1].read_text().replace("dog", "wolf"))
    run("extract", "--encoder", "glove-100", "--weights", files[0])
    run("fit", "--head", "linear", "--features", "glove-100/mean", "--run", "run")
    with pytest.raises(UntrustedError, match="--weights"):
        Predictor("run")
    with pytest.raises(
        SpecMismatchError, match=r"run was fitted on other features: .*weights: stored blake2b"
    ):
        Predictor("run", weights=files[1])
    trusting, naming = Predictor("run", trust=True), Predictor("run", weights={"glove-100": files[0]})
    scores, labels = by_command(run, [], "--caption", "a dog", "--trust")
    for predictor in (trusting, naming):
        assert_same(predictor(captions="a dog"), scores, labels)
    with pytest.raises(UsageError, match="weights of glove-50: the run's encoders are glove-100"):
        Predictor("run", weights={"glove-50": files[0]})


def test_random_weights_are_those_of_the_trial_and_reported(folder, run):
    folder(60)
    run("extract", "--encoder", "timm:test_vit", "--weights", "random")
    run("fit", "--head", "linear", "--features", "timm:test_vit+random/pooled", "--run", "run")
    scores, labels = by_command(run, ["input/data/1.png"])
    with pytest.warns(PredictionWarning, match="has RANDOM weights: its vectors mean nothing"):
        assert_same(Predictor("run")("input/data/1.png"), scores, labels)


@pytest.mark.slow
def test_imported_vectors_are_refused(folder, run):
    folder(60)
    run("extract", "--encoder", "glove-50")
    vectors = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=[*"abc"])
    vectors.insert(0, "ImageID", [f"{row}.png" for row in range(60)])
    vectors.to_csv("vectors.csv", index=False)
    run("store", "import", "ada", "vectors.csv")
    run("fit", "--head", "linear", "--features", "ada/imported", "--run", "run")
    with pytest.raises(UsageError, match=r"imported vectors \(ada/imported\), which no encoder makes"):
        Predictor("run")


def test_the_name_is_imported_when_it_is_used():
    code = (
        "import sys, encode_once; 'Predictor' in dir(encode_once) or 1 / 0; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
    assert encode_once.Predictor is Predictor
