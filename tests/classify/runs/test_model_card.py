"""The model card of a run: valid metadata, figures of the run's files, no markup and no path of others."""

import html
import json
import re
import shutil
from dataclasses import replace

import huggingface_hub
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from encode_once.cache import Store, Table, content_key
from encode_once.cache.csv_file import write_csv
from encode_once.cache.keys import pack
from encode_once.cache.terminal import one_line
from encode_once.cache.text_table import markdown_text
from encode_once.classify import fit, load_run, retune
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.evaluation.intervals import ALL
from encode_once.classify.runs import model_card as cards
from encode_once.classify.runs.model_card import escaped, model_card
from encode_once.classify.runs.retune import evaluate_kept
from tests.classify.runs.reseal import reseal

pytestmark = pytest.mark.usefixtures("fit_once")
MARKDOWN = MarkdownIt("commonmark").enable("table")


@pytest.fixture
def fitted(filled, tmp_path):
    return fit(filled(), "linear", decision=DecisionSpec("macro"), run=tmp_path / "run")


def cells(card, title):
    """The cells of the first table below a heading, without its header."""
    section = card.split(f"## {title}\n")[1]
    lines = re.search(r"(\|.*\n)+", section)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_metadata_is_that_of_hugging_faces_cards(fitted):
    run, metrics = fitted
    data = huggingface_hub.ModelCard((run.path / "README.md").read_text()).data
    assert (data.library_name, data.pipeline_tag, data.license) == (
        "encode-once", "image-classification", "unknown",
    )  # fmt: skip
    assert data.tags == ["encode-once", "multi-label-classification", "linear"]
    assert data.model_name == "run"
    values = {result.metric_name: result.metric_value for result in data.eval_results}
    assert values["micro F1"] == round(metrics["micro_f1"], 4)
    assert values["mAP"] == round(metrics["mAP"], 4)


def test_figures_intervals_and_thresholds_are_those_of_the_runs_files(fitted):
    run, metrics = fitted
    card = (run.path / "README.md").read_text()
    ends = evaluate_kept(run).with_intervals()["intervals"]
    assert set(ends) == set(ALL) - {"accuracy", "balanced_accuracy"}
    averages = {name: rest for name, *rest in cells(card, "Evaluation")}
    low, high = ends["macro_f1"]
    assert averages["macro F1"] == [f"{metrics['macro_f1']:.3f}", f"{low:.3f} … {high:.3f}"]
    thresholds = json.loads((run.path / "thresholds.json").read_text())["thresholds"]
    rows = cells(card, "Classes")
    assert [row[0] for row in rows] == run.record.classes
    for (label, threshold, _, _, f1, _, support), row in zip(rows, metrics["per_class"], strict=True):
        assert float(threshold) == pytest.approx(thresholds[label], abs=5e-4)
        assert float(f1) == pytest.approx(row["f1"], abs=5e-4)
        assert int(support) == row["support"]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "Labels do not come from thresholds."),
        ({"split": "kfold:3", "decision": DecisionSpec("macro")}, "each fold of the eval rows had its own"),
    ],
)
def test_no_threshold_stands_next_to_an_f1_that_it_did_not_give(filled, tmp_path, fields, sentence):
    run, _ = fit(filled(), "linear", run=tmp_path / "run", **fields)
    card = model_card(run)
    assert all(len(row) == 6 for row in cells(card, "Classes"))
    below = cells(card.split(sentence)[1].join(["## Thresholds\n", ""]), "Thresholds")
    assert [float(value) for _, value in below] == pytest.approx(run.decision.thresholds.tolist(), abs=5e-4)


@pytest.mark.parametrize(
    ("features", "inputs", "task"),
    [
        (["e/image"], "images", "image-classification"),
        (["e/text"], "captions", "text-classification"),
        (["e/image", "e/text"], "images and captions", "image-classification"),
    ],
)
def test_the_task_follows_from_the_features(filled, tmp_path, features, inputs, task):
    run, _ = fit(filled(), "linear", features=features, run=tmp_path / "run")
    card = (run.path / "README.md").read_text()
    assert f"of 5 classes apply to {inputs}." in card
    assert huggingface_hub.ModelCard(card).data.pipeline_tag == task


def test_imported_vectors_are_neither_images_nor_captions(filled, tmp_path):
    store = filled()
    (table,) = store.tables()
    feature = store.declare("own/imported", {"modality": "row", "encoder": "import"})
    with feature.writer(len(table)) as writer:
        vectors = store.feature("e/text").read(table.keys("caption"))
        writer.append(table.keys("row"), vectors)
    run, _ = fit(store, "linear", features=["own/imported"], run=tmp_path / "run")
    card = (run.path / "README.md").read_text()
    assert "of 5 classes apply to imported vectors." in card
    assert huggingface_hub.ModelCard(card).data.pipeline_tag == "tabular-classification"
    assert cells(card, "Features") == [["own/imported", "8", "imported vectors", "not recorded"]]


def test_licences_and_training_data_come_from_the_features_provenance(filled, tmp_path):
    store = filled()
    store.feature("e/image").add_provenance({"licence": "PDDL", "trained_on": "COCO_2017"})
    run, _ = fit(store, "linear", run=tmp_path / "run")
    card = (run.path / "README.md").read_text()
    licences = {row[0]: row[3] for row in cells(card, "Features")}
    assert licences == {"e/image": "PDDL", "e/text": "not recorded"}
    assert "e/image: its weights were trained on COCO\\_2017. If the eval rows are among these data" in card
    assert load_run(run.path).record.features["e/image"].licence == "PDDL"


@given(st.text(max_size=30))
def test_texts_of_strangers_are_no_markup(text):
    def shown(markdown):
        page = MARKDOWN.render(markdown)
        return html.unescape(re.search(r"<td>(.*?)</td>", page, re.DOTALL)[1])

    assert shown(markdown_text([{"class": escaped(text)}])) == one_line(text).strip()


@pytest.mark.parametrize(
    "text",
    ["<script>", "[a](http://b)", "![a](b)", "**a**", "`a`", "a | b", "a\nb", "# a", "http://a.b", "&lt;"],
)
def test_usual_markup_is_shown_as_it_is(text):
    page = MarkdownIt("gfm-like", {"linkify": False}).render(markdown_text([{"class": escaped(text)}]))
    assert html.unescape(re.search(r"<td>(.*?)</td>", page)[1]) == one_line(text)


def test_class_names_of_any_kind_give_a_card_of_one_line_each(tmp_path):
    names = ["a|b", "---\nlicense: mit", "<b>x</b>", "\u202egpj", "ok"]
    run = crafted(tmp_path, names)
    card = (run.path / "README.md").read_text()
    assert huggingface_hub.ModelCard(card).data.license == "unknown"
    page = MARKDOWN.render(card.split("---\n", 2)[2])
    shown = [html.unescape(row) for row in re.findall(r"<tr>\n<td>(.*?)</td>", page)]
    assert [name for name in shown if name in map(one_line, names)][:5] == [
        one_line(name) for name in run.record.classes
    ]


def crafted(tmp_path, classes, folder="Jane Doe/photos of mine"):
    """A run on a table of these classes, in folders with blanks."""
    rng = np.random.default_rng(0)
    n = 40 * len(classes)
    keys = pack(content_key(str(row).encode()) for row in range(n))
    home = tmp_path / folder
    home.mkdir(parents=True)
    write_csv(home / "fixes.csv", ["split"], [])
    (home / "train.csv").touch()
    texts = [str(row) for row in range(n)]
    labels = [(classes[row % len(classes)],) for row in range(n)]
    table = Table(
        str(home / "train.csv"), texts, texts, texts, labels, image_keys=keys, caption_keys=keys,
        corrections=str(home / "fixes.csv"),
    )  # fmt: skip
    store = Store(home / "store")
    spec = {"modality": "image", "weights": f"{home}/net.bin"}
    feature = store.declare("e/image", spec, {"weights_file": f"{home}/net.bin"})
    with feature.writer(n) as writer:
        X = rng.normal(size=(n, 8)) + np.eye(len(classes), 8)[np.arange(n) % len(classes)] * 3
        writer.append(keys, X.astype(np.float16))
    store.save(table)
    return fit(store, "linear", run=home / "runs" / "mine")[0]


def test_a_card_has_no_path_of_its_authors_machine(tmp_path):
    run = crafted(tmp_path, ["cat", "dog"])
    home = tmp_path / "Jane Doe/photos of mine"
    run.record.warnings[:] = [f"{home}/store/x.h5 and /srv/secret/images/1.jpg differ: see '{home}'"]
    run.spec.options["prompts"] = f"{home}/prompts.txt"
    saved = (run.path / "README.md").read_text()
    for card in (saved, model_card(run, [f"EO010: {run.path}/store is gone"])):
        assert not re.search(r"Jane|secret|srv|photos of mine/", card)
        assert tmp_path.name not in card
        assert "net.bin (local file net.bin)" in card
        assert "fixes.csv" in card
        assert "train.csv" in card
    assert "- store/x.h5 and 1.jpg differ: see 'photos of mine'" in card
    assert "prompts.txt" in card
    assert "- EO010: mine/store is gone" in card


def test_of_lists_of_ids_the_card_has_the_names(filled, tmp_path):
    store, folder = filled(), tmp_path / "secret place"
    ids = store.table().ids
    folder.mkdir()
    for name, part in (("train", ids[:200]), ("test", ids[200:300])):
        (folder / f"{name}.txt").write_text("\n".join(part))
    split = f"lists:{folder}/train.txt,{folder}/test.txt"
    run, metrics = fit(store, "linear", split=split, run=tmp_path / "run")
    assert "100 eval rows (split lists:train.txt,test.txt)" in model_card(run)
    for text in (model_card(run), json.dumps(metrics)):
        assert "lists:train.txt,test.txt does not use them" in text
        assert "secret" not in text


def test_of_a_head_of_the_users_own_the_card_has_the_file_without_its_folder(fitted):
    run, _ = fitted
    own = replace(run, spec=replace(run.spec, head="../Jane Doe/heads.py:Mine"))
    card = model_card(own)
    assert "Jane" not in card
    assert huggingface_hub.ModelCard(card).data.tags[-1] == "heads.py:Mine"


def test_many_classes_are_shortened_with_a_pointer(tmp_path, monkeypatch):
    monkeypatch.setattr(cards, "MAX_CLASSES", 3)
    card = model_card(crafted(tmp_path, ["a", "b", "c", "d"]))
    assert [row[0] for row in cells(card, "Classes")] == ["a", "b", "c"]
    assert "the first 3 of 4 classes; `metrics.json` and `thresholds.json` have all" in card


def test_long_values_and_lists_are_shortened(fitted):
    run, _ = fitted
    run.spec.options["prompts"] = [[number, 0.5] for number in range(1000)]
    run.record.untrained[:] = [f"class {number}" for number in range(900)]
    card = model_card(run)
    assert max(map(len, card.splitlines())) < 500
    assert "class 9 and 890 more" in card
    (prompts,) = (value for name, value in cells(card, "Head") if name == "prompts")
    assert prompts.startswith("\\[\\[0, 0.5\\], ")
    assert prompts.endswith("… (all of it is in run.json)")


def test_intervals_that_would_take_long_are_left_to_evaluate(fitted, monkeypatch):
    monkeypatch.setattr(cards, "MAX_CELLS", 100)
    card = model_card(fitted[0])
    assert {row[2] for row in cells(card, "Evaluation")} == {"–"}
    assert "`encode-once evaluate RUN` computes the intervals" in card


def test_classes_that_were_not_measured_and_random_weights_are_named(fitted):
    run, _ = fitted
    labels = run.eval.labels.copy()
    labels[:, run.record.classes.index("cat")] = False
    run.eval = replace(run.eval, labels=labels)
    feature = run.record.features["e/image"]
    random = replace(feature, weights_file="random", spec=feature.spec | {"weights": "RANDOM(seed=0)"})
    run.record.features["e/image"] = random
    card = model_card(run)
    assert "leave out 1 of 5 classes, without a positive row to measure on: cat" in card
    assert cells(card, "Features")[0] == ["e/image", "8", "RANDOM(seed=0)", "not recorded"]


def test_findings_are_listed_or_the_card_says_who_makes_the_checks(fitted):
    run, _ = fitted
    assert "`encode-once report RUN` checks the run" in model_card(run)
    assert "None of the checks" in model_card(run, [])
    assert "\n- EO001: 3 \\*\n" in model_card(run, ["EO001: 3 *"])


def test_a_new_rule_replaces_the_card_and_without_one_it_is_removed(fitted):
    run, _ = fitted
    path = run.path / "README.md"
    before = path.read_text()
    run.save_decision(*retune(run, DecisionSpec("micro")), model_card(run))
    assert "thresholds maximise micro" in path.read_text() != before
    run.save_decision(*retune(run, DecisionSpec("samples")))
    assert not path.exists()
    assert load_run(run.path).decision.spec.objective == "samples"
    run.save_card(model_card(run))
    assert "thresholds maximise samples" in path.read_text()


def test_a_readme_of_the_users_is_kept(fitted, run):
    saved, _ = fitted
    path = saved.path / "README.md"
    edited = path.read_text().replace("license: unknown", "license: mit")
    for text, is_recorded in ((edited, True), ("# My own", True), ("# My own", False)):
        path.write_text(text)
        if not is_recorded:  # as in a run of version 7
            checksums = json.loads((saved.path / "checksums.json").read_text())
            checksums.pop("README.md", None)
            (saved.path / "checksums.json").write_text(json.dumps(checksums))
        result = run("tune", saved.path, "--objective", "micro")
        assert result.stderr.count(f"warning: {path} was written or edited by hand: it is kept") == 1
        saved.save_decision(*retune(saved, DecisionSpec("samples")))
        assert path.read_text() == text
        words = ["--store", saved.record.store, "--run", saved.path, "--overwrite"]
        result = run("fit", "--head", "linear", *words)
        assert result.stderr.count(f"warning: {path} was written or edited by hand") == 1
        assert path.read_text() == text
    path.unlink()
    assert "by hand" not in run("tune", saved.path).stderr
    assert path.read_text().startswith("---\nlibrary_name")
    assert "by hand" not in run("tune", saved.path).stderr


def test_a_run_without_a_card_or_with_another_one_loads(fitted, tmp_path):
    run, _ = fitted
    (run.path / "README.md").write_text("# My own words")
    assert load_run(run.path).record == run.record
    copy = shutil.copytree(run.path, tmp_path / "copy")
    (copy / "README.md").unlink()
    content = json.loads((copy / "run.json").read_text())
    for feature in content["features"].values():  # as programs before wrote it
        del feature["licence"], feature["trained_on"]
    (copy / "run.json").write_text(json.dumps(content))
    reseal(copy)
    assert load_run(copy).model is not None
    assert "not recorded" in model_card(load_run(copy))


@pytest.mark.parametrize(
    ("features", "inputs", "predict", "python"),
    [
        (["tfidf:5"], "captions", "--data FOLDER", 'predictor(None, "a caption")'),
        (["column:part"], "other columns of a table", "--data FOLDER", None),
        (["e/image", "column:part"], "images and other columns of a table", "--data FOLDER", None),
        (["e/image"], "images", "photo.jpg 'photos/*.jpg'", 'predictor("photo.jpg")'),
    ],
)
def test_the_example_fits_what_the_run_needs(filled, tmp_path, features, inputs, predict, python):
    card = model_card(fit(filled(), "linear", features=features, run=tmp_path / "run")[0])
    assert f"of 5 classes apply to {inputs}." in card
    assert f"encode-once predict RUN {predict}" in card
    assert (python in card) if python else "```python" not in card
