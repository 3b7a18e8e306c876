"""What objects look like at the prompt and in a notebook: never longer than a screen."""

import html.parser
import json
import shutil

import numpy as np
import pytest

import encode_once
from encode_once import classify
from encode_once.cache import Store, Table
from encode_once.classify.data.samples import load_samples
from encode_once.classify.heads import HEADS, make
from encode_once.classify.runs.retune import evaluate_kept
from encode_once.extract import encode
from encode_once.extract.readers import understand

pytestmark = pytest.mark.xdist_group("representations")  # one worker makes the objects
SCREEN = 24 * 100  # characters
VOID = {"img", "br", "meta", "link", "input", "hr"}


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """By name, objects of a run with 300 classes, of which a name would run a script in a page."""
    root = tmp_path_factory.mktemp("wide")
    rng = np.random.default_rng(0)
    names = [f"a class with a long name {number}" for number in range(299)] + ["<script>alert(1)</script>"]
    (root / "input").mkdir()
    with (root / "input" / "train.csv").open("w") as file:
        file.write("ID,Caption,Labels\n")
        for row in range(600):
            labels = "|".join(names[label] for label in rng.choice(300, 4, replace=False))
            file.write(f"{row},a dog and a cat and {row},{labels}\n")
    report = encode(root / "input", ["glove-50"], root / "store", progress=False)
    store = Store(root / "store")
    decision = classify.DecisionSpec("macro", shrink=False)  # to shrink 300 thresholds takes seconds
    spec = classify.FitSpec("linear", split="kfold:2", decision=decision, validation="tenth")
    run, metrics = classify.fit(store, spec, run=root / "run")
    table = store.table()
    return {
        "store": store,
        "no store": Store(root / "other", base=store),
        "feature": store.feature("glove-50/mean"),
        "sequences": store.feature("glove-50/tokens"),
        "table": table,
        "report": report,
        "reading": understand(root / "input"),
        "samples": load_samples(store, (), table),
        "run": run,
        "loaded run": classify.load_run(root / "run"),
        "metrics": metrics,
        "evaluation": evaluate_kept(run),
        "comparison": classify.compare([run]),
        "rule": run.decision,
        "calibrated rule": classify.DecisionSpec(decide="expected-mean", shrink=False).fit(
            run.eval.scores, run.eval.labels
        ),
        "fit spec": classify.FitSpec("prototype", options={"prompts": np.zeros((300, 64))}),
        "decision spec": classify.DecisionSpec(),
        "model": run.model,
        "record": run.record,
        "rows": run.eval,
        "prompts": make("prototype", prompts=np.zeros((300, 64)), classes=names),
        "thresholded": classify.ThresholdedClassifier(make("linear")),
        "transformer": encode_once.EncoderTransformer("glove-50/mean", store),
        "columns": encode_once.Columns(),
        **{f"head {name}": make(name) for name in HEADS},
    }


def test_every_public_object_fits_on_a_screen(objects):
    long = {name: len(repr(item)) for name, item in objects.items() if len(repr(item)) > SCREEN}
    assert long == {}


def test_a_run_says_what_it_is(objects):
    for name in ("run", "loaded run"):
        text = repr(objects[name])
        assert "linear on glove-50/mean, 300 classes; 600 eval rows of" in text
        assert text.endswith("; thresholds maximise macro, exactly>")
    assert repr(objects["feature"]) == "<Feature glove-50/mean: 600 rows of 50 float16>"
    assert repr(objects["sequences"]).startswith("<Feature glove-50/tokens: 600 sequences of 50 float16")
    assert "scores=<600 × 300 float32>" in repr(objects["rows"])


def test_metrics_are_still_a_dictionary(objects):
    metrics = objects["metrics"]
    assert isinstance(metrics, dict)
    assert json.loads(json.dumps(metrics)) == metrics
    assert f"micro_f1={metrics['micro_f1']:.3f}" in repr(metrics)
    assert "600 rows and 300 classes" in repr(metrics)


class Balance(html.parser.HTMLParser):
    """Checks that tags are closed in order, and collects the text of cells."""

    def __init__(self):
        super().__init__()
        self.open, self.texts = [], []

    def handle_starttag(self, tag, attrs):
        assert tag not in {"script", "style"}
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("store", ["glove-50/mean", "glove-50/tokens", "600"]),
        ("no store", ["glove-50/mean"]),
        ("table", ["ID", "a dog and a cat and 0", "… and 580 more rows"]),
        ("report", ["600 samples in", "glove-50/mean"]),
        ("run", ["linear on glove-50/mean, 300 classes", "micro_f1", "a class with a long name 1"]),
        ("metrics", ["micro_f1", "… and 280 more rows"]),
        ("evaluation", ["micro_f1", "thresholds maximise macro"]),
        ("samples", ["glove-50/mean", "… and 280 more rows"]),
        ("comparison", ["macro_f1", "linear on glove-50/mean"]),
    ],
)
def test_notebooks_show_short_valid_tables(objects, name, expected):
    page = objects[name]._repr_html_()
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    text = "\n".join(parser.texts)
    for part in expected:
        assert any(part in cell for cell in parser.texts), (part, text)
    assert page.count("<tr>") < 60


def test_names_of_others_are_text_in_a_notebook():
    table = Table("a<b>", ["<i>1"], [""], ["<script>alert(1)</script>"], [("<u>",)])
    parser = Balance()
    parser.feed(table._repr_html_())
    assert {"<i>1", "<script>alert(1)</script>", "<u>"} <= set(parser.texts)


def test_a_damaged_feature_is_a_line(objects, tmp_path):
    shutil.copytree(objects["store"].path, tmp_path / "copy")
    (tmp_path / "copy" / "features" / "glove-50" / "mean" / "spec.json").write_text("{")
    page = Store(tmp_path / "copy")._repr_html_()
    assert "problem" in page
    assert "glove-50/tokens" in page
