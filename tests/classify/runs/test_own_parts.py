"""Heads, losses and fusions of the user's own, and classifiers of scikit-learn, through every command."""

import json
import pickle
import shutil
from importlib.metadata import EntryPoint
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC

from encode_once.cache import UntrustedError, UsageError, own_code, trust_code
from encode_once.classify import FitSpec, ablate, fit, heads, load_run
from encode_once.classify.heads import own
from encode_once.classify.heads.torch import losses
from encode_once.classify.heads.wrapped import Wrapped
from encode_once.deploy.predictor import Predictor

CODE = """
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from encode_once.classify.heads.base import Head
from encode_once.classify.heads.estimator import Estimator
from encode_once.classify.heads.mlp import MLP


@dataclass(eq=False, repr=False)
class Centres(Head, Estimator):
    "Products with the mean row of each class."

    STATE = ("centres",)
    sharpness: float = 1.0

    def fit(self, X, Y, X_val=None, Y_val=None):
        rows = X[np.arange(len(X))]
        self.centres_ = np.stack([rows[y].mean(axis=0) - rows[~y].mean(axis=0) for y in Y.T])
        return self

    def predict_proba(self, X):
        return 1 / (1 + np.exp(-np.float32(self.sharpness) * X[np.arange(len(X))] @ self.centres_.T))


class Deep(MLP):
    "A perceptron of another name."


def squared(logits, Y):
    return (logits.sigmoid() - Y).square().sum(dim=1).mean()


def by_class(logits, Y):
    return (logits.sigmoid() - Y).square().mean(dim=0)


class Sum(torch.nn.Module):
    def __init__(self, widths, width):
        super().__init__()
        self.width = width
        self.projections = torch.nn.ModuleList(torch.nn.Linear(w, width) for w in widths)

    def forward(self, vectors, present):
        projected = [project(vector) for project, vector in zip(self.projections, vectors)]
        return sum(vector * present[:, [i]] for i, vector in enumerate(projected))


class NoWidth(torch.nn.Module):
    def __init__(self, widths, width):
        super().__init__()


def scaled(C: float = 1.0):
    return make_pipeline(StandardScaler(), LogisticRegression(C=C))


def regressor():
    from sklearn.linear_model import Ridge

    return Ridge()
"""
DEEP = ["--set", "epochs=2", "--set", "device=cpu", "--set", "progress=false"]
CASES = {
    "head": ["own.py:Centres", "--set", "sharpness=2"],
    "torch": ["own.py:Deep", *DEEP],
    "loss": ["mlp", *DEEP, "--set", "loss=own.py:squared"],
    "fusion": ["gated", *DEEP, "--set", "width=16", "--set", "fusion=own.py:Sum"],
    "function": ["own.py:scaled", "--set", "C=0.5"],
    "linear": ["sklearn.svm:LinearSVC", "--set", "C=0.1"],
    "trees": ["sklearn.ensemble:RandomForestClassifier", "--set", "n_estimators=5"],
}
OWN = ("head", "torch", "loss", "fusion", "function")
MOVED = "other/r"  # as deep as runs/r: a run names its store from its own folder
RESTORED = ("function", "trees")  # by skops
EXPORTED = ("torch", "loss", "fusion", "linear")


@pytest.fixture
def place(filled, run, fit_once, forgotten):
    """A store of two features, and a file of own code, in the working folder; the process trusts no code."""
    forgotten()
    filled(120)
    Path("own.py").write_text(CODE)


@pytest.fixture
def forgotten(monkeypatch):
    """A function after which the process trusts no code, as another process would."""

    def forget():
        for name in ("_trusted", "_meant"):
            monkeypatch.setattr(own_code, name, {})

    return forget


def move_to_another_folder():
    """The run in the folder `MOVED`, and no other file in the working folder."""
    Path("other").mkdir()
    shutil.move("runs/r", MOVED)
    Path("own.py").unlink()


@pytest.mark.parametrize("case", CASES)
def test_a_part_of_others_works_in_every_command(case, place, run, forgotten, capsys):
    if case in RESTORED:
        pytest.importorskip("skops")
    pytest.importorskip("onnxruntime")
    run("fit", "--head", *CASES[case], "--run", "runs/r")
    run("fit", "--head", "linear", "--run", "runs/linear")
    X = np.random.default_rng(0).normal(size=(50, 16)).astype(np.float32)
    expected = load_run("runs/r", trust=True).model.scores(X)
    assert not capsys.readouterr().out
    move_to_another_folder()
    forgotten()

    run("tune", MOVED, "--objective", "micro")
    metrics = json.loads(run("evaluate", MOVED, "--json").stdout)
    assert metrics["micro_f1"] > 0.3
    assert MOVED in run("evaluate", "runs/linear", MOVED).output
    run("report", MOVED)
    if case in (*OWN, *RESTORED):
        with pytest.raises(UntrustedError, match="pass --trust"):
            assert load_run(MOVED).model
    lines = []
    scores = load_run(MOVED, trust=True, log=lines.append).model.scores(X)
    assert np.array_equal(scores, expected)
    assert len(lines) == (case in OWN) + (case in RESTORED)
    forgotten()
    result = run("export", MOVED, "--trust", "-o", "m.onnx", status=0 if case in EXPORTED else 1)
    if case not in EXPORTED:
        (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error")]
        assert f"a run of head {CASES[case][0]} cannot be exported" in line


ENCODER = """
import numpy as np

from encode_once.extract.encoders.base import Tower


class Letters(Tower):
    modality = "caption"

    def __init__(self, options):
        super().__init__({"mean": {"encoder": "letters"}})

    def load(self, device):
        pass

    def prepare(self, caption):
        return [caption.count(letter) / len(caption) for letter in "abcdegiort"]

    def encode(self, batch):
        return {"mean": np.array(batch, np.float32)}
"""


@pytest.fixture
def of_own_encoder(state_after, run, forgotten):
    """A run `runs/r` on features of an own encoder, of which the file is gone."""
    forgotten()
    fit = "fit --head linear --run runs/r"
    state_after("extract --encoder own/tiny.py:Letters", fit, files={"own/tiny.py": ENCODER})
    shutil.rmtree("own")


def test_a_run_on_features_of_an_own_encoder_works_without_its_file(of_own_encoder, run, forgotten):
    (copy,) = Path("runs/r/code").iterdir()
    assert copy.read_text() == ENCODER
    shutil.move("runs/r", "moved")
    (copy,) = Path("moved/code").iterdir()
    new = ("--data", "input", "--store", "new")
    for words in (("predict", *new), ("evaluate", *new), ("monitor", *new)):
        refused = run(words[0], "moved", *words[1:], status=1).stderr
        assert f"moved names code to run: {copy} (recorded as " in refused
        assert "pass --trust" in refused
        assert f"trusted: {copy} (" in run(words[0], "moved", *words[1:], "--trust").stderr
        forgotten()
        shutil.rmtree("new")
    with pytest.raises(UntrustedError, match=r"code/tiny-\w+\.py"):
        Predictor("moved")
    caption = "a dog on a boat"
    (scores,) = Predictor("moved", trust=True)(captions=[caption]).scores
    row = [caption.count(letter) / len(caption) for letter in "abcdegiort"]
    vector = np.array([row], np.float16).astype(np.float32)  # as the store keeps it
    moved = load_run("moved")
    expected = moved.decision.probabilities(moved.model.scores(vector))[0]
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_a_run_that_is_fitted_again_takes_over_the_copy_of_an_encoder(of_own_encoder, run):
    run("rerun", "runs/r", "--run", "runs/again")
    assert [path.read_text() for path in Path("runs/again/code").iterdir()] == [ENCODER]
    result = run("fit", "--head", "linear", "--run", "runs/other")
    assert "own/tiny.py is not here as it was when it encoded" in result.stderr
    assert not Path("runs/other/code").exists()
    Path("own").mkdir()
    Path("own/tiny.py").write_text(ENCODER + "# changed")
    assert "is not here as it was" in run("fit", "--head", "linear", "--run", "runs/third").stderr
    run("fit", "--head", "linear", "--run", "runs/r", "--overwrite")
    assert Path("runs/r/code").exists()
    run("tune", "runs/r", "--objective", "micro")
    assert Path("runs/r/code").exists()


@pytest.mark.slow
def test_update_encodes_by_the_copy_of_an_encoder_and_the_new_version_takes_it_over(of_own_encoder, run):
    run("promote", "runs/r")
    rows = Path("input/train.csv").read_text().splitlines()
    Path("input/train.csv").write_text("\n".join([*rows, *(f"9{row}" for row in rows[1:9])]) + "\n")
    assert "pass --trust" in run("update", "runs@champion", status=1).stderr
    result = run("update", "runs@champion", "--trust", "--tolerance", 1)
    assert "trusted: runs/r/code/tiny-" in result.stderr
    (version,) = (path for path in Path("runs").glob("*/code") if path.parent.name != "r")
    assert [path.read_text() for path in version.iterdir()] == [ENCODER]


def test_forget_names_the_copy_of_an_encoder_that_names_a_row(of_own_encoder, run):
    (copy,) = Path("runs/r/code").iterdir()
    copy.write_text(ENCODER + "# written for 17.png\n")
    result = run("forget", "17.png", status=1)
    assert str(copy) in result.output


def test_a_copy_that_was_changed_is_not_run_even_with_trust(place, run, forgotten):
    run("fit", "--head", "own.py:Centres", "--run", "runs/r")
    (copy,) = Path("runs/r/code").iterdir()
    assert copy.read_text() == CODE
    forgotten()

    def is_refused():
        result = run("export", "runs/r", "--trust", status=1)
        assert str(copy) in result.stderr
        assert "trusted:" not in result.stderr

    copy.write_text(CODE + "raise SystemExit(7)\n")
    is_refused()
    copy.unlink()
    is_refused()
    copy.symlink_to(Path("own.py").resolve())
    is_refused()


def test_a_replaced_run_keeps_no_copies_of_the_old_one(place, run):
    run("fit", "--head", "own.py:Centres", "--run", "runs/r")
    (before,) = Path("runs/r/code").iterdir()
    Path("own.py").write_text(CODE + "\n# other\n")
    run("fit", "--head", "own.py:Centres", "--run", "runs/r", "--overwrite")
    (after,) = Path("runs/r/code").iterdir()
    assert after != before
    run("fit", "--head", "linear", "--run", "runs/r", "--overwrite")
    assert not Path("runs/r/code").exists()


def test_a_link_in_place_of_the_copies_is_not_written_through(place, run, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "precious.py").write_text("")
    run("fit", "--head", "linear", "--run", "runs/r")
    Path("runs/r/code").symlink_to(elsewhere)
    run("fit", "--head", "own.py:Centres", "--run", "runs/r", "--overwrite")
    assert [path.name for path in elsewhere.iterdir()] == ["precious.py"]


@pytest.mark.parametrize(
    "own_file",
    [{"/etc/own.py": "blake2b:" + "0" * 32, "a\0.py": ""}, {"own.py": "../../x"}, {"own": "blake2b:"}],
)
def test_a_crafted_record_of_code_is_refused(place, run, own_file):
    from tests.classify.runs.reseal import reseal

    run("fit", "--head", "linear", "--run", "runs/r")
    content = json.loads(Path("runs/r/run.json").read_text())
    Path("runs/r/run.json").write_text(json.dumps(content | {"own_code": own_file}))
    reseal(Path("runs/r"))
    result = run("evaluate", "runs/r", status=1)
    assert "run.json" in result.stderr


def test_a_sweep_tries_own_parts_and_fits_again_what_was_changed(place, run):
    words = [
        *("sweep", "--head", "own.py:Centres", "--head", "sklearn.svm:LinearSVC", "--head", "mlp"),
        *("--set", "own.py:Centres.sharpness=1,2", "--set", "sklearn.svm:LinearSVC.C=0.1,1"),
        *("--set", "mlp.epochs=1", "--set", "mlp.loss=bce,own.py:squared", "--json"),
    ]
    rows = json.loads(run(*words).stdout)
    settings = sorted(json.dumps([row["head"], row["settings"]]) for row in rows)
    assert len(settings) == 6
    assert not any(row["error"] for row in rows)
    assert any(row["settings"].get("loss") == "own.py:squared" for row in rows)
    assert {row["run"] for row in json.loads(run(*words).stdout)} == {row["run"] for row in rows}
    Path("own.py").write_text(CODE + "\n# thought better of it\n")
    again = {row["run"] for row in json.loads(run(*words).stdout)}
    assert len(again & {row["run"] for row in rows}) == 3  # LinearSVC twice, mlp with bce


def test_ablate_runs_own_code_of_a_run_only_with_trust(place, run, forgotten):
    run("fit", "--head", "own.py:Centres", "--set", "sharpness=2", "--run", "runs/r")
    move_to_another_folder()
    forgotten()
    with pytest.raises(UsageError, match=r"there is no file own\.py"):
        ablate(load_run(MOVED))
    rows = ablate(load_run(MOVED, trust=True))
    assert any(row["changed"] == "sharpness=1, not 2" and not row["error"] for row in rows)


def test_a_spec_takes_the_code_that_is_trusted_to_another_process(place, forgotten):
    trust_code("own.py")
    content = pickle.dumps([FitSpec("own.py:Centres"), FitSpec("absent.py:X")])
    forgotten()
    Path("own.py").write_text("raise ValueError('other code')")
    spec, _ = pickle.loads(content)
    assert heads.make(spec.head, **spec.head_options).sharpness == 1


def test_a_file_of_experiments_may_name_code_with_trust(place, run):
    Path("own.toml").write_text(
        'split = "tail:20"\n[heads."own.py:Centres"]\nsharpness = [1.0, 2.0]\n'
        "[heads.trees]\nhead = 'own.py:Centres'\nsharpness = [3.0]\n"
    )
    refused = run("experiment", "run", "own.toml", status=1).stderr
    assert refused == "Error: own.toml names code to run: own.py; read it, then pass --trust\n"
    result = run("experiment", "run", "own.toml", "--trust", "--json")
    assert f"trusted: own.py ({own_code.read('own.py:Centres').identity})" in result.stderr
    rows = json.loads(result.stdout)
    assert sorted(row["settings"]["sharpness"] for row in rows) == [1, 2, 3]
    assert {row["error"] for row in rows} == {None}


@pytest.mark.slow
def test_a_sweep_in_several_processes_tries_own_heads(place, run):
    words = ("--head", "own.py:Centres", "--set", "own.py:Centres.sharpness=1,2", "--jobs", 2, "--json")
    rows = json.loads(run("sweep", *words).stdout)
    assert [row["error"] for row in rows] == [None, None]


def test_from_python_a_file_is_trusted_by_a_call(place, tmp_path):
    with pytest.raises(UntrustedError, match=r"own\.py:Centres names code to run"):
        fit("store", FitSpec("own.py:Centres"), run="runs/r")
    trust_code("own.py")
    result, metrics = fit("store", "own.py:Centres", run="runs/r")
    assert metrics["micro_f1"] > 0.4
    assert result.record.own_code == {"own.py": own_code.bytes_identity(CODE.encode())}
    assert load_run("runs/r").model  # the process trusts this code


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("own.py:Centers", "did you mean 'Centres'"),
        ("absent.py:Centres", "there is no file absent.py"),
        ("../own.py:Centres", "below this folder"),
        ("broken.py:X", "broken.py cannot be imported: no such thing"),
        ("own.py:regressor", "neither a Head nor a classifier"),
        ("own.py:Centres --set sharpnes=2", "did you mean 'sharpness'"),
        ("own.py:Centres --set sharpness=high", "must be a number"),
        ("mlp --set loss=own.py:by_class", "must return a scalar"),
        ("mlp --set loss=own.py:Centres", "unknown loss of own.py"),
        ("gated --set fusion=own.py:squared", "unknown fusion of own.py"),
        ("sklearn.svm:LinearSVM", "did you mean 'LinearSVC'"),
        ("sklearn.svm:LinearSVR", "unknown classifier of sklearn.svm"),
        ("sklearn.svm:LinearSVC --set C=-1", "'C' parameter of LinearSVC must be"),
        ("sklearn.multiclass:OneVsRestClassifier", "needs estimator: write a function"),
        ("subprocess:Popen", "expected FILE.py:NAME or sklearn.MODULE:CLASS"),
    ],
)
def test_a_part_that_cannot_be_used_is_one_line_before_anything_is_fitted(place, run, words, message):
    Path("broken.py").write_text("raise ValueError('no such thing')")
    result = run("fit", "--head", *words.split(), status=2)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert message in line
    assert not Path("runs").exists()


def test_a_fusion_without_a_width_is_refused(place, run):
    result = run("fit", "--head", "gated", "--set", "fusion=own.py:NoWidth", status=2)
    assert "has no attribute width" in result.stderr


def test_a_classifier_of_scikit_learn_scores_as_one_for_each_class():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 6)).astype(np.float32)
    Y = X @ rng.normal(size=(6, 3)) > 0
    head = heads.make("sklearn.svm:LinearSVC", C=0.3, seed=4).fit(X, Y)
    oracle = OneVsRestClassifier(LinearSVC(C=0.3, random_state=4)).fit(X, Y)
    expected = 1 / (1 + np.exp(-oracle.decision_function(X)))
    np.testing.assert_allclose(head.predict_proba(X), expected, atol=1e-5)


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("factory", ["chain", "scaled_chain", "outputs"])
def test_a_classifier_of_several_outputs_is_fitted_once(place, factory, classes):
    pytest.importorskip("skops")
    Path("several.py").write_text(
        "from sklearn.linear_model import LogisticRegression\n"
        "from sklearn.multioutput import ClassifierChain, MultiOutputClassifier\n"
        "from sklearn.pipeline import make_pipeline\n"
        "from sklearn.preprocessing import StandardScaler\n\n\n"
        "def chain():\n    return ClassifierChain(LogisticRegression())\n\n\n"
        "def scaled_chain():\n    return make_pipeline(StandardScaler(), chain())\n\n\n"
        "def outputs():\n    return MultiOutputClassifier(LogisticRegression())\n"
    )
    trust_code("several.py")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 4)).astype(np.float32)
    Y = X[:, :1] + rng.normal(size=(90, classes)) > 0.2
    head = heads.make(f"several.py:{factory}").fit(X, Y)
    assert len(head.classifiers_) == 1
    expected = run_path("several.py")[factory]().fit(X, Y.astype(int)).predict_proba(X)
    if factory == "outputs":
        expected = np.stack([of_class[:, 1] for of_class in expected], axis=1)
    np.testing.assert_allclose(head.predict_proba(X), expected, atol=1e-6)
    restored = heads.make(f"several.py:{factory}")
    restored.load_state(head.state())
    np.testing.assert_array_equal(restored.predict_proba(X), head.predict_proba(X))


def test_classes_that_all_rows_or_none_have_get_their_frequency():
    X = np.random.default_rng(0).normal(size=(99, 3)).astype(np.float32)
    Y = np.stack([X[:, 0] > 0, np.zeros(99, bool), np.ones(99, bool)], axis=1)
    scores = heads.make("sklearn.linear_model:LogisticRegression").fit(X, Y).predict_proba(X)
    np.testing.assert_allclose(scores[:, 1:], np.tile([0.005, 0.995], (99, 1)), atol=1e-6)


def test_without_skops_a_classifier_that_is_not_linear_is_refused(monkeypatch):
    monkeypatch.setattr("encode_once.classify.heads.wrapped.find_spec", lambda name: None)
    X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    with pytest.raises(ValueError, match=r"encode-once\[skops\]"):
        heads.make("sklearn.svm:SVC").fit(X, X > 0)


def test_a_classifier_of_an_own_class_cannot_be_saved(place):
    pytest.importorskip("skops")
    Path("mine.py").write_text(
        "from sklearn.svm import SVC\n\n\nclass Mine(SVC):\n    def __init__(self, C=1.0):\n"
        "        super().__init__(C=C)\n"
    )
    trust_code("mine.py")
    X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    with pytest.raises(ValueError, match=r"cannot be saved without pickle: mine_\w+\.Mine"):
        heads.make("mine.py:Mine").fit(X, X > 0)


def test_packages_add_heads_and_losses_by_entry_points(monkeypatch):
    def points(group):
        named = {own.GROUP: ("theirs", "sklearn.svm:LinearSVC"), losses.GROUP: ("theirs", "torch.nn:Module")}
        return [EntryPoint(*named[group], group)]

    monkeypatch.setattr(own, "entry_points", points)
    monkeypatch.setattr(losses, "entry_points", points)
    assert isinstance(heads.make("theirs", C=0.5), Wrapped)
    with pytest.raises(UsageError, match="did you mean 'theirs'"):
        heads.make("their")
    with pytest.raises(UsageError, match="loss theirs fails on logits"):
        heads.make("mlp", loss="theirs")
    monkeypatch.setattr(EntryPoint, "load", lambda _: lambda logits, Y: (logits - Y).square().mean())
    assert heads.make("mlp", loss="theirs").loss == "theirs"
