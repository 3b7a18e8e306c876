"""Recipes: their files, what they run on, and the rows they add."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from encode_once.cache import DataError, UsageError
from encode_once.cache.text_table import markdown_text
from encode_once.classify import heads, load_run
from encode_once.classify.data.text import is_learned, make_vectoriser
from encode_once.classify.experiments import trial
from encode_once.classify.experiments.recipes import ALL, Recipe, all_recipes, find
from encode_once.classify.experiments.recipes import run as recipe_runs
from encode_once.classify.experiments.recipes.run import RecipeRunner, failed
from encode_once.classify.experiments.recipes.tables import listed_cells, run_cells
from encode_once.classify.experiments.toml_file import load_experiments
from encode_once.classify.heads.stack import MEAN
from encode_once.classify.heads.torch.scores import SCORES
from encode_once.classify.heads.torch.training import OPTIMISERS, SCHEDULES

pytestmark = pytest.mark.usefixtures("fit_once")
DETECTORS = ("frcnn", "retinanet", "fcos", "ssd", "onnx:")
SYSTEMS = """tfidf-linear glove-bilstm cnn-linear frcnn-linear frcnn-bilstm-concat frcnn-bilstm-bilinear
    resnext-bigru clip-mlp clip-knn clip-forest clip-image clip-text clip-captions mutan resnet-bilstm
    vgg-bilstm yolo-labels cnn-rnn resnet-bert vit-bert deit-bert swin-bert ours ours-fast
    ours-text ours-contaminated""".split()


def a_recipe(variant="", **other):
    fields = {
        "source": "report 0, table 0",
        "about": "",
        "features": ["e/image"],
        "head": "linear",
        "split": "tail:100",
        "objective": "none",
    }
    return Recipe(path="custom.toml", variant=variant, **{**fields, **other})


class FakeProvider:
    """A provider that encodes nothing, or calls `encode` for each feature."""

    def __init__(self, reasons=None, encode=None):
        self.reasons, self.encode, self.requests = reasons or {}, encode, []

    def offered(self, pattern):
        return []

    def lacks(self, feature):
        return self.reasons.get(feature, f"{feature}: out of reach")

    def make(self, features):
        self.requests.append(list(features))
        for feature in features:
            self.reasons[feature] = f"{feature}: failed"
            if self.encode:
                self.encode(feature)


def run_recipe(store, recipe, place, split=None, **options):
    runner = RecipeRunner(store)
    (row,) = runner.run(runner.prepare([recipe]), place, split, **options)
    return row


@pytest.fixture
def place(tmp_path):
    return tmp_path / "runs"


def test_every_system_has_its_file():
    assert {recipe.file for recipe in all_recipes()} == set(SYSTEMS)


@pytest.mark.parametrize("recipe", all_recipes(), ids=lambda recipe: recipe.name)
def test_a_recipe_names_what_there_is(recipe):
    head = heads.make(recipe.head, **recipe.options)
    for kind, names in (("optimiser", OPTIMISERS), ("schedule", SCHEDULES), ("stop_by", SCORES)):
        assert getattr(head, kind, next(iter(names))) in names
    for name, options in zip(
        recipe.options.get("heads", ()), recipe.options.get("options", ()), strict=False
    ):
        heads.make(name, **options)
    if recipe.head == "stack":
        parts = recipe.options.get("parts", recipe.features)
        assert len(recipe.options["heads"]) == len(parts)
        if recipe.options["combiner"] != MEAN:
            heads.make(recipe.options["combiner"], **recipe.options.get("combiner_options", {}))
    assert recipe.spec.decision.objective == recipe.objective
    for name in filter(is_learned, recipe.possible_features):
        make_vectoriser(name)
    of_file = {
        feature for variant in load_experiments(Path(recipe.path), Recipe) for feature in variant.features
    }
    assert set(recipe.instead) <= of_file
    assert recipe.contaminated == any(name.startswith(DETECTORS) for name in recipe.possible_features)
    assert all(0 < value < 1 for value in recipe.figures.values())
    assert (not recipe.rows) == (recipe.source == "ours")


def test_a_reported_macro_f1_is_converted_to_the_classes_that_occur():
    figures = find(["glove-bilstm-128"])[0].figures
    assert figures["macro_f1"] == pytest.approx(0.723, abs=5e-4)
    assert figures["micro_f1"] == 0.8166


def test_names_of_variants_files_and_all():
    assert [recipe.name for recipe in find(["tfidf-linear"])] == [
        f"tfidf-linear-{n}" for n in (100, 500, 1000)
    ]
    assert [recipe.features for recipe in find(["tfidf-linear-500", "tfidf-linear-500"])] == [["tfidf:500"]]
    assert find([ALL]) == all_recipes()
    with pytest.raises(UsageError, match="did you mean 'clip-mlp'"):
        find(["clip-mpl"])


def test_a_users_file(tmp_path):
    path = tmp_path / "other.toml"
    path.write_text(
        'source = "me"\nabout = ""\nfeatures = ["e/image"]\nhead = "linear"\nsplit = "tail:9"\n'
        'objective = "none"\noptions = {tolerance = 0.1}\n[variants.a]\n[variants.b]\noptions = {seed = 3}\n'
    )
    a, b = find([str(path)])
    assert (a.name, b.name, a.options, b.options["tolerance"]) == (
        "other-a",
        "other-b",
        {"tolerance": 0.1},
        0.1,
    )
    for wrong, error in (("head = ", DataError), ('haed = "mlp"', UsageError), ('head = "mlp"', DataError)):
        path.write_text(wrong)
        with pytest.raises(error):
            load_experiments(path, Recipe)
    path.write_text("[reported]\nmikro_f1 = 0.5")
    with pytest.raises(UsageError, match="micro_f1"):
        load_experiments(path, Recipe)
    with pytest.raises(UsageError, match=r"no such file: .*none\.toml"):
        find([str(tmp_path / "none.toml")])


def test_a_row_has_the_reported_and_the_measured_figures(filled, place):
    recipe = a_recipe(
        reported={"micro_f1": 0.5, "macro_f1_of_20": 0.45, "weighted_swapped": 0.6, "f1": 0.7}, rows=400
    )
    row = run_recipe(filled(), recipe, place)
    run = load_run(row["run"])
    assert json.loads((place / "custom" / "metrics.json").read_text()) == row["metrics"]
    assert row["metrics"]["n"] == 100
    assert row["reported"] == {"micro_f1": 0.5, "macro_f1": 0.5, "weighted_swapped": 0.6, "f1": 0.7}
    assert row["compared"]["micro_f1"]["difference"] == row["metrics"]["micro_f1"] - 0.5
    assert row["compared"]["f1"]["measured"] == row["metrics"]["micro_f1"]
    swapped = f1_score(run.eval.scores >= 0.5, run.eval.labels, average="weighted")
    assert row["compared"]["weighted_swapped"]["measured"] == pytest.approx(swapped)
    assert (row["contaminated"], row["differs"], row["lacks"]) == (False, [], None)
    assert row["seconds"] > 0
    json.dumps(row)


def test_a_row_says_how_it_differs_from_the_report(filled, place):
    recipe = a_recipe(
        features=["f/image", "g*/image"],
        instead={"f/image": ["f/other", "e/image"], "g*/image": ["e/te*"]},
        rows=30000,
        contaminated=True,
    )
    row = run_recipe(filled(), recipe, place, "stratified:0.2")
    assert row["features"] == ["e/image", "e/text"]
    assert row["differs"] == [
        "e/image for f/image",
        "e/text for g*/image",
        "split stratified:0.2, not tail:100",
        "400 rows, not 30,000",
    ]
    assert row["contaminated"]
    assert (place / "custom@stratified-0.2" / "run.json").exists()


def test_a_recipe_that_cannot_run_does_not_stop_the_others(filled, place):
    good = a_recipe("good", reported={"micro_f1": 0.9})
    recipes = [a_recipe("bad", features=["f/image"], contaminated=True), good]
    runner = RecipeRunner(filled(), provider=FakeProvider())
    rows = runner.run(runner.prepare(recipes), place)
    assert rows[0]["lacks"] == "f/image: out of reach"
    assert (rows[0]["metrics"], rows[0]["seconds"], rows[0]["run"]) == (None, None, None)
    assert rows[1]["metrics"]["micro_f1"] > 0.5
    assert failed(["all"], recipes, rows) == failed(["custom"], recipes, rows) == []
    assert failed(["custom-bad"], recipes, rows) == ["recipe custom-bad cannot run: f/image: out of reach"]

    lines = markdown_text([run_cells(row) for row in rows]).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert "cannot run: f/image: out of reach" in lines[2]
    assert "| contaminated |" in lines[2]
    assert f"{rows[1]['metrics']['micro_f1']:.3f}" in lines[3]
    listed = [runner.listed(recipe) for recipe in recipes]
    assert [row["runs"] for row in listed] == [False, True]
    assert "lacks f/image: out of reach" in listed_cells(listed[0])["with"]


def test_a_fit_that_fails_is_a_row_with_its_error(filled, place):
    row = run_recipe(filled(), a_recipe(split="tail:400"), place)
    assert "makes 400 of 400 rows eval rows" in row["lacks"]


def test_missing_features_are_encoded_once_for_all_recipes(filled, place):
    store = filled()

    def copy_image_vectors(name):
        source, copy = store.feature("e/image"), store.declare(name, {"modality": "image"})
        keys = store.tables()[0].image_keys
        with copy.writer(400) as writer:
            writer.append(keys, source.take(source.find(keys)))

    provider = FakeProvider({"f/image": "", "g/image": ""}, copy_image_vectors)
    recipes = [a_recipe(features=["f/image"]), a_recipe(features=["g/image", "f/image"])]
    resolved = RecipeRunner(store, provider=provider).prepare(recipes)
    assert provider.requests == [["f/image", "g/image"]]
    assert not any(recipe.features.to_encode or recipe.lacks for recipe in resolved)

    provider = FakeProvider({"h/image": ""})  # it says that it can, but fails
    (recipe,) = RecipeRunner(store, provider=provider).prepare([a_recipe(features=["h/image"])])
    assert (recipe.lacks, provider.requests) == ("h/image: failed", [["h/image"]])


def test_a_run_of_the_same_identity_is_not_fitted_again(filled, place):
    store = filled()
    recipe = a_recipe("a")

    def run(recipe, **options):
        return run_recipe(store, recipe, place, **options)

    def created(name="custom-a"):
        return (place / name / "weights.safetensors").stat().st_mtime_ns

    first, when = run(recipe), created()
    assert run(recipe) == first
    assert created() == when
    assert run(recipe, refit=True)["metrics"] == first["metrics"]
    assert created() > when
    when = created()
    run(replace(recipe, options={"tolerance": 0.01}))
    assert created() > when

    # Another threshold needs no other fit; a changed label does.
    other = run(replace(recipe, variant="b", objective="at:0.3", options={"tolerance": 0.01}))
    assert other["seconds"] == json.loads((place / "custom-a" / "run.json").read_text())["seconds"]
    assert "0.3 is the threshold" in other["metrics"]["decided"]
    assert load_run(place / "custom-b").decision.spec.objective == "at:0.3"
    assert load_run(place / "custom-a").decision.spec.objective == "none"
    table = store.tables()[0]
    table.labels = [("cat", "dog", "10"), *table.labels[1:]]
    store.save(table)
    when = created()
    run(replace(recipe, options={"tolerance": 0.01}))
    assert created() > when


def test_corpus_features_need_captions(filled, place):
    store, recipe = filled(), a_recipe(features=["tfidf:20"])
    (resolved,) = RecipeRunner(store).prepare([recipe])
    assert resolved.features.used == {"tfidf:20": "tfidf:20"}
    table = store.tables()[0]
    table.captions = [""] * len(table)
    store.save(table)
    (resolved,) = RecipeRunner(store).prepare([recipe])
    assert "no captions" in resolved.lacks


def test_recipe_list_imports_neither_torch_nor_libraries_of_models(folder):
    folder(3)
    code = (
        "import sys; from click.testing import CliRunner; from encode_once.cli import main; "
        "result = CliRunner().invoke(main, ['recipe', 'list']); assert not result.exit_code; "
        "print(*{'torch', 'sklearn', 'open_clip', 'timm', 'torchvision', 'transformers'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_a_figure_with_predictions_for_labels_leaves_unknown_labels_out(monkeypatch):
    rng = np.random.default_rng(0)
    labels, predictions = rng.choice([-1, 0, 1], (40, 3)).astype(np.int8), rng.random((40, 3)) < 0.5
    fitted = SimpleNamespace(eval=SimpleNamespace(labels=labels))
    monkeypatch.setattr(recipe_runs, "load_run", lambda path: fitted)
    monkeypatch.setattr(recipe_runs, "measure_kept", lambda run: ({}, predictions))
    recipe = SimpleNamespace(figures={recipe_runs.SWAPPED: 0.5})
    measured = recipe_runs._compared(recipe, {}, "run")[recipe_runs.SWAPPED]["measured"]
    rows = [labels[:, k] >= 0 for k in range(3)]
    of_classes = [f1_score(predictions[of, k], labels[of, k]) for k, of in enumerate(rows)]
    counts = [predictions[of, k].sum() for k, of in enumerate(rows)]
    assert measured == pytest.approx(np.average(of_classes, weights=counts))


def test_a_recipe_reads_the_table_with_its_label_set(monkeypatch):
    monkeypatch.setattr(trial, "table_to_fit", lambda store, data, split, labels: f"table of {labels!r}")
    runner = RecipeRunner(None)
    for labels in ("", "colour"):
        assert runner.table(a_recipe(labels=labels)) == f"table of {labels!r}"
