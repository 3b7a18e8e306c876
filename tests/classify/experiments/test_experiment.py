"""Experiments by a file: what is fitted, once each, and in which order it is reported."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path
from threading import Thread
from unittest.mock import Mock

import pytest
from click.testing import CliRunner

from encode_once import cli
from encode_once.cache import DataError, MissingDataError, UsageError
from encode_once.cache.process import cores
from encode_once.classify import fit, heads, load_run, sweep
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.experiments import leaderboard, processes, trial
from encode_once.classify.experiments.experiment import Experiment
from encode_once.classify.experiments.processes import in_processes
from encode_once.classify.experiments.tasks import Progress, Task, duration
from encode_once.classify.experiments.toml_file import ExperimentFile, load_experiments
from encode_once.classify.experiments.trial import Trial, TrialRunner
from encode_once.classify.runs import head_fitter
from encode_once.classify.spec import ARGMAX, FitSpec
from encode_once.classify.systems.comparison import compare_systems

pytestmark = pytest.mark.usefixtures("fit_once")
ROOT = Path(__file__).parents[3]
LEFT_OUT = "combinations left out, as later ones differ from them in the decision rule only"
FOREST = "[heads.forest]\ntrees = [4]\njobs = [1]\n"


@pytest.fixture
def fits(monkeypatch):
    """The specs that were fitted."""
    specs = []

    def counted(store, spec, **options):
        specs.append(spec)
        return fit(store, spec, **options)

    monkeypatch.setattr(trial, "fit", counted)
    return specs


@pytest.fixture
def run(tmp_path):
    """A function that runs an experiment's file on a store; it returns rows and lines."""

    def of_text(store, text, jobs=1):
        path, lines = tmp_path / "experiment.toml", []
        path.write_text(text)
        (experiment,) = load_experiments(path, ExperimentFile)
        return experiment.run(store, tmp_path / "runs", lines.append, jobs), lines

    return of_text


def test_heads_options_sets_and_splits_are_combined(filled, run, fits):
    rows, _ = run(
        filled(),
        """
        split = ["tail:100", "kfold:3"]
        sets = { alone = "each", both = ["e/image", "e/text"], text = ["e/text"] }
        [heads.knn]
        metric = ["l2", "cosine"]
        sets = "both"
        [heads.near]
        head = "knn"
        ks = [[5]]
        """,
    )
    both = ("e/image", "e/text")
    expected = {("knn", both, json.dumps({"metric": metric})) for metric in ("l2", "cosine")}
    expected |= {("knn", features, '{"ks": [5]}') for features in [*[(name,) for name in both], both]}
    for split in ("tail:100", "kfold:3"):
        specs = [spec for spec in fits if spec.split == split]
        fitted = [(spec.head, tuple(spec.features), json.dumps(spec.options)) for spec in specs]
        assert len(fitted) == len(set(fitted)), "each is fitted once, though e/text is in two sets"
        assert set(fitted) == expected
    assert len(rows) == 10
    assert {(row["eval_rows"], row["measured"].split(";")[0]) for row in rows} == {
        (rows[0]["eval_rows"], "100 rows (tail:100)"),
        (rows[-1]["eval_rows"], "400 rows (kfold:3)"),
    }


def test_no_variant_is_fitted_if_one_names_what_is_not_there(filled, fits, tmp_path):
    store, path, hierarchy = filled(), tmp_path / "v.toml", tmp_path / "h.csv"
    hierarchy.write_text("child,parent\ncat,pet\n")
    variants = {
        'hierarchy = "nofile.csv"': "variant b: --hierarchy: nofile.csv is not there",
        'only_classes = ["cart"]': "variant b: unknown class 'cart': did you mean 'cat'?",
        f"only_classes = ['pets']\nhierarchy = '{hierarchy}'": "variant b: unknown class 'pets': did",
        "hierarchy = [['a', 'b']]": "variant b: no label of ",
        'labels = "mood"': "variant b: ",
        'features = ["e/txt"]': "variant b: ",
    }
    for field, message in variants.items():
        path.write_text(f'head = "linear"\n[variants.a]\n[variants.b]\n{field}\n[variants.c]\nseeds = 2\n')
        words = [
            "experiment",
            "run",
            str(path),
            "--store",
            str(store.path),
            "--folder",
            str(tmp_path / "runs"),
        ]
        result = CliRunner().invoke(cli.main, words)
        assert isinstance(result.exception, DataError | SystemExit)
        assert f"{path}, {message}" in f"{result.exception} {result.stderr}"
    assert fits == []


def test_the_file_of_a_hierarchy_is_read_once(tmp_path):
    path = tmp_path / "h.csv"
    path.write_text("child,parent\ncat,pet\n")
    experiment = Experiment(head="linear", hierarchy=str(path), split=["tail:9", "tail:8"])
    first = [*experiment.specs()]
    path.unlink()
    assert [*experiment.specs()] == first


def test_sweep_names_the_nearest_of_its_arguments_and_the_default_rule_is_that_of_the_task():
    with pytest.raises(
        UsageError, match=r"unknown argument of sweep 'classes': did you mean 'only_classes'\?"
    ):
        sweep("nowhere", classes=["cat"])
    assert Experiment(head="linear", task="single").decision == ARGMAX
    for make in (
        Experiment(head="linear", task="single", decide="expected-f1").check,
        lambda: FitSpec(task="single", decision=DecisionSpec(decide="expected-f1")),
    ):
        with pytest.raises(UsageError, match="the rule expected-f1 does not apply"):
            make()
    assert FitSpec(task="single").decision == replace(FitSpec(), task="single").decision == ARGMAX


def test_a_head_that_seeds_do_not_change_is_fitted_once(filled, run, fits):
    text = f'seeds = [0, 3, 4]\nvalidation = "tenth"\n[heads.linear]\n[heads.knn]\n{FOREST}'
    rows, lines = run(filled(), text)
    assert sorted(row["head"] for row in rows) == ["forest", "forest", "forest", "knn", "linear"]
    assert [spec.options.get("seed", 0) for spec in fits if spec.head == "forest"] == [0, 3, 4]
    assert "linear on e/image + e/text: fitted once, as linear gives the same with every seed" in lines
    assert "/5 forest" in lines[-2]
    assert lines[-1].startswith("5 runs fitted in ")
    assert len({tuple(load_run(row["run"]).eval.ids) for row in rows}) == 1
    again, _ = run(filled(name="store"), text.replace("[0, 3, 4]", "5"))
    assert len(fits) == 5 + 2, "the seeds 1 and 2 are new"
    assert len(again) == 7


def test_folds_of_few_rows_are_chosen_by_a_seed(filled, run, fits):
    """`linear` then sets a tenth aside by its seed, so that each seed is fitted."""
    run(filled(), 'seeds = 2\nvalidation = "folds"\n[heads.linear]')
    assert len(fits) == 2


def test_redraw_draws_the_same_eval_rows_for_all_heads(filled, run):
    rows, _ = run(filled(), f"seeds = 3\nredraw = true\n[heads.linear]\n{FOREST}")
    ids = {}
    for row in rows:
        ids.setdefault(row["settings"].get("seed", 0), set()).add(frozenset(load_run(row["run"]).eval.ids))
    assert [len(sets) for sets in ids.values()] == [1, 1, 1]
    assert len(set.union(*ids.values())) == 3
    assert len({row["eval_rows"] for row in rows}) == 3


def test_redraw_of_a_split_by_column_changes_nothing_for_a_fixed_head(filled, run, fits):
    store = filled()
    table = store.tables()[0]
    table.columns["part"] = [("train", "train", "val", "test")[row % 4] for row in range(400)]
    store.save(table)
    run(store, 'seeds = 3\nredraw = true\nsplit = "part"\n[heads.linear]')
    assert len(fits) == 1


@pytest.mark.parametrize("name", [name for name in heads.HEADS if not heads.class_of(name).SEEDED])
def test_a_seed_changes_nothing_that_a_fixed_head_learns(filled, tmp_path, name):
    store = filled()
    for settings in ({"split": "tail:100", "validation": "tenth"}, {"split": "kfold:3"}):
        scores = [
            fit(store, name, options={"seed": seed}, run=tmp_path / f"{seed}", overwrite=True, **settings)[0]
            for seed in (0, 1)
        ]
        assert (scores[0].eval.scores == scores[1].eval.scores).all()


def test_a_recipes_file_is_an_experiment(filled, tmp_path):
    path = tmp_path / "own.toml"
    path.write_text("""
source = "report 1"
about = "An example"
features = ["f/image", "e/text"]
instead = { "f/image" = ["g/*", "e/im*"] }
head = "knn"
objective = "none"
reported = { micro_f1 = 0.5 }
[options]
ks = [7]
[variants.first]
split = "tail:100"
[variants.second]
split = "tail:50"
options = { metric = "l2" }
""")
    store, lines, rows = filled(), [], []
    for experiment in load_experiments(path, ExperimentFile):
        rows = experiment.run(store, tmp_path / "runs", lines.append)
    assert lines.count(f"e/image replaces f/image, which is not in {store.path}") == 2
    runs = [load_run(row["run"]) for row in rows]
    options = {run.spec.split: (run.spec.options["ks"], run.spec.options.get("metric")) for run in runs}
    assert options == {"tail:100": ([7], None), "tail:50": ([7], "l2")}
    assert {run.decision.spec.objective for run in runs} == {"none"}


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (
            'haeds = ["linear"]',
            UsageError,
            "unknown field of .*experiment.toml 'haeds': did you mean 'heads'",
        ),
        ('heads = ["liner"]', UsageError, "experiment.toml: unknown head 'liner': did you mean 'linear'"),
        ("[heads.linear]\ntolerence = 0.1", UsageError, "did you mean 'tolerance'"),
        ("[heads.linear]\ntolerance = -1", UsageError, "experiment.toml: .*tolerance"),
        ("[heads.mlp]\nhidden = [8]", UsageError, r"experiment.toml: .*hidden.* not 8"),
        ("[heads.linear]\ntolerance = []", DataError, "tolerance of head linear has no values"),
        ('heads = ["linear"]\nsets = ["pears"]', UsageError, "did you mean 'pairs'"),
        ("[heads.linear]\nsets = ['words']", UsageError, "unknown set of features 'words'"),
        ('heads = ["linear"]\nobjective = "macroo"', UsageError, "did you mean 'macro'"),
        ('heads = ["linear"]\nby = "f1"', UsageError, "unknown metric 'f1'"),
        ('heads = ["linear"]\nseeds = 0', DataError, "seeds = 0: use a number from 1 on"),
        ('heads = ["linear"]\nseeds = "3"', DataError, "experiment.toml: seeds is '3'"),
        ('heads = ["linear"]\nredraw = 1', DataError, "experiment.toml: redraw is 1"),
        ('heads = ["linear"]\nsearch = -1', DataError, "search is 0 or the number"),
        ('heads = ["linear"]\nsearch = 2', UsageError, "nothing to search of linear"),
        ('split = "tail:100"', DataError, "name either a head"),
        ('head = "linear"\nheads = ["linear"]', DataError, "name either a head"),
        ("heads = ", DataError, "is not a TOML file"),
        ("variants = 3", DataError, "experiment.toml: variants is 3, which"),
        ("variants = 0", DataError, "experiment.toml: variants is 0, which"),
        ("[variants]\na = 3", DataError, "experiment.toml, variant a: variants is 3, which"),
        ("options = 5", DataError, "experiment.toml: options is 5, which"),
        ("[variants.a]\noptions = 3", DataError, "experiment.toml, variant a: options is 3, which"),
        ("[variants.a]\nseeds = 'x'", DataError, "experiment.toml, variant a: seeds is 'x', which"),
        ("[heads.linear]\nhead = 5", DataError, r"experiment.toml: \[heads.linear\]: head is 5, which"),
        ("[heads.a]\nhead = ['knn']", DataError, r"experiment.toml: \[heads.a\]: head is \['knn'\], which"),
        ("[heads.a]\nhead = 'knn'\nsets = 5", DataError, r"\[heads.a\]: sets is 5, which"),
        ("[heads.knn]\nsets = [5]", DataError, r"\[heads.knn\]: sets is \[5\], which"),
    ],
)
def test_what_is_wrong_in_a_file_is_reported_before_anything_is_fitted(
    filled, run, fits, text, error, message
):
    with pytest.raises(error, match=message) as raised:
        run(filled(), text)
    assert type(raised.value) is error
    assert not fits


def test_names_that_only_the_store_knows_are_checked_first(filled, run, fits):
    for text, message in (
        ('features = ["e/imag"]', "did you mean 'e/image'"),
        ('features = ["e/image"]\nsets = ["pairs"]', "no set of features is left of the kinds pairs"),
        ('data = "elsewhere"', "knows no table with labels in elsewhere"),
    ):
        with pytest.raises(DataError, match=message):
            run(filled(), f"{text}\nheads = ['linear']")
    assert not fits
    with pytest.raises(MissingDataError):
        load_experiments(Path("none.toml"), ExperimentFile)


def test_the_leaderboard_has_all_runs_of_the_folder(filled, tmp_path):
    store, folder = filled(), tmp_path / "runs"
    (first,) = sweep(store, ["linear"], folder=folder, features=["e/image"])
    (folder / "broken").mkdir()
    (folder / "broken" / "run.json").write_text("{}")
    lines = []
    rows = sweep(store, ["knn"], folder=folder, split="tail:100", log=lines.append)
    assert [(row["head"], row["error"]) for row in rows] == [("knn", None), ("linear", None)]
    assert {**rows[1], "settings": {}} == first
    assert json.loads((folder / "leaderboard.json").read_text()) == rows
    table = (folder / "leaderboard.md").read_text()
    assert table.count("| head | features |") == 2, "other eval rows are another table"
    assert lines[-1] == f"{folder}: 1 runs are not in the leaderboard: they cannot be read"


def test_a_run_that_a_newer_one_replaces_is_not_in_the_leaderboard(filled, tmp_path):
    store, folder, lines = filled(), tmp_path / "runs", []
    sweep(store, ["linear", "knn"], folder=folder)
    table = store.tables()[0]
    table.labels = [("cat", "dog", "9"), *table.labels[1:]]
    store.save(table)
    rows = sweep(store, ["linear"], folder=folder, log=lines.append)
    assert sorted(row["head"] for row in rows) == ["knn", "linear"]
    assert len({row["run"] for row in rows}) == 2
    assert lines[-1] == f"{folder}: 1 runs are not in the leaderboard: they have the settings of newer ones"


def test_progress_says_how_much_time_is_left():
    specs = [FitSpec(head) for head in ("linear", "linear", "mlp", "mlp", "knn")]
    lines = []
    progress = Progress([Task([spec]) for spec in specs], lines.append, jobs=2)
    for spec, seconds, kept in ((specs[0], 0.1, True), (specs[1], 10, False), (specs[2], 400, False)):
        progress.report(
            Trial(
                spec, "runs/a", metrics={"micro_f1": 0.5}, kept=kept, seconds=0.8 * seconds, elapsed=seconds
            ),
            Task([]),
        )
    progress.skip([specs[3]])
    progress.report(Trial(specs[4], "runs/b", "it broke"), Task([]))
    progress.end()
    assert lines == [
        "1/5 linear: micro_f1 0.500 (kept)",
        # mlp and knn: the mean of what was fitted
        "2/5 linear: micro_f1 0.500; 15 s left",
        # mlp 400 s, and knn the mean of 10 s and 400 s, in two processes
        "3/5 mlp: micro_f1 0.500; 5 min left",
        "4/4 knn: failed: it broke",
        # two processes at the same time
        "2 runs fitted in 3 min, 20% of it for thresholds, intervals and files",
    ]
    assert [duration(seconds) for seconds in (99, 100, 5000, 7500)] == [
        "99 s",
        "2 min",
        "83 min",
        "2 h 5 min",
    ]


def threads():
    """What a process of `in_processes` does: it sends the number of threads that torch takes."""

    def work(item):
        import torch

        yield item, torch.get_num_threads(), os.environ["LOKY_MAX_CPU_COUNT"]

    return work


def failing():
    def work(item):
        os._exit(1)

    return work


@pytest.mark.slow
def test_processes_share_the_cores(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    share = max(cores() // 2, 1)
    messages = [*in_processes(threads, ["a", "b", "c"], 2)]
    assert sorted(message for _, message in messages if message) == [(x, share, str(share)) for x in "abc"]
    assert sorted(number for number, message in messages if message is None) == [0, 1, 2]
    assert os.environ["OMP_NUM_THREADS"] == "7"
    with pytest.raises(DataError, match="a process of --jobs ended"):
        [*in_processes(failing, ["a"], 1)]


EXPERIMENT = """
store = "store"
seeds = 3
split = "tail:100"
sets = ["subsets"]
validation = "tenth"
[heads.forest]
trees = [60]
jobs = [1]
[heads.gbm]
jobs = [1]
"""


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_killed_experiment_continues_and_fits_nothing_twice(filled, tmp_path, jobs):
    filled()
    (tmp_path / "experiment.toml").write_text(EXPERIMENT)
    words = ["experiment", "run", "experiment.toml", "--jobs", str(jobs), "--json"]
    command, folder = [sys.executable, str(ROOT / "cli.py"), *words], tmp_path / "runs/experiment"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def finished():
        return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/run.json")}

    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, **silent)
    while len(finished()) < 3:
        assert process.poll() is None, "the experiment ended before it was killed"
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    time.sleep(1)  # the processes of --jobs end with it
    before = finished()
    assert 3 <= len(before) < 18
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    after = finished()
    assert before.items() <= after.items(), "a run that was whole was fitted again"
    assert ended.stderr.count("(kept)") == len(before)
    assert len(json.loads(ended.stdout)) == len(after) == 18


@pytest.mark.slow
def test_ctrl_c_ends_all_processes_in_one_line(filled, tmp_path):
    filled()
    (tmp_path / "experiment.toml").write_text(EXPERIMENT)
    command = [sys.executable, str(ROOT / "cli.py"), "experiment", "run", "experiment.toml", "--jobs", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        # A shell that starts the tests in the background lets all its processes ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **pipes,
    )
    first = process.stderr.readline()
    assert first.startswith("1/18 ")
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "interrupted: run the same command again"
    assert "Traceback" not in errors


@pytest.mark.slow
def test_processes_give_the_same_rows(filled, tmp_path):
    store = filled()
    # What `fit_once` changes here, processes do not see.
    settings = {
        "seeds": 2,
        "grid": {"forest": {"trees": [4], "jobs": [1]}},
        "split": "tail:100",
        "validation": "tenth",
    }
    rows = [
        sweep(store, ["linear", "forest"], folder=tmp_path / str(jobs), jobs=jobs, **settings)
        for jobs in (1, 2)
    ]
    assert [{**row, "run": 0, "seconds": 0} for row in rows[0]] == [
        {**row, "run": 0, "seconds": 0} for row in rows[1]
    ]


def test_the_command_prints_the_leaderboard(filled, tmp_path, monkeypatch):
    filled()
    monkeypatch.chdir(tmp_path)
    Path("first.toml").write_text('heads = ["knn", "linear"]\nsplit = "tail:100"\n')
    result = CliRunner().invoke(cli.main, ["experiment", "run", "first.toml"])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].split()[:3] == ["head", "features", "settings"]
    assert "compare runs/first" in result.stderr.splitlines()[-1]
    assert len([*Path("runs/first").glob("*/run.json")]) == 2
    Path("first.toml").write_text('haeds = ["knn"]\n')
    assert CliRunner().invoke(cli.main, ["experiment", "run", "first.toml"]).exit_code == 2


def test_each_variant_has_its_own_folder(filled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = filled()
    (tmp_path / "e.toml").write_text(
        f'store = "{store.path}"\nfeatures = ["e/text"]\nhead = "knn"\n'
        '[variants.a]\nfolder = "runs/a"\n[variants.b]\nfolder = "runs/b"\nsplit = "random:0.2"\n'
    )
    result = CliRunner().invoke(cli.main, ["experiment", "run", "e.toml", "--json"])
    folders = {str(Path(row["run"]).parent) for row in json.loads(result.stdout)}
    assert folders == {"runs/a", "runs/b"}
    assert "compare runs/a runs/b" in result.stderr


def test_variants_are_one_list_of_fits_and_a_run_has_one_decision_rule(filled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e.toml").write_text(
        f'store = "{filled().path}"\nfeatures = ["e/text"]\nhead = "knn"\n'
        '[variants.a]\n[variants.b]\nobjective = "macro"\n[variants.c]\nsplit = "tail:100"\n'
    )
    result = CliRunner().invoke(cli.main, ["experiment", "run", "e.toml", "--json"])
    lines = result.stderr.splitlines()
    assert lines[0] == f"{LEFT_OUT}: 1"
    assert [line.split()[0] for line in lines[1:3]] == ["1/2", "2/2"]
    rules = {run.spec.split: run.decision.spec for run in map(load_run, Path("runs/e").glob("[!.]*/"))}
    assert rules == {"stratified:0.1": DecisionSpec("macro"), "tail:100": DecisionSpec()}
    assert len(json.loads(result.stdout)) == 2


def rules_of(folder):
    """Seed of the runs of a folder → the objective of their decision rules."""
    runs = [load_run(path.parent) for path in folder.glob("*/run.json")]
    return {run.spec.options.get("seed", 0): run.decision.spec.objective for run in runs}


FIXED = "validation = 'tenth'\n"
VARIANTS = """
features = ["e/text"]
split = "tail:100"
[variants.x]
objective = "macro"
{x}
[variants.y]
objective = "micro"
{y}
"""


@pytest.mark.parametrize(
    ("x", "y", "left_out", "rules", "fitted"),
    [
        # One fit stands for all seeds of both variants.
        (f"{FIXED}seeds = 2", f"{FIXED}seeds = 3", 2, {0: "micro"}, 1),
        (f"{FIXED}seeds = 3", f"{FIXED}seeds = 2", 2, {0: "micro"}, 1),
        (f"{FIXED}seeds = [5]", FIXED, 0, {5: "macro", 0: "micro"}, 2),
        # Here a seed draws the validation rows, so that each is fitted.
        ("seeds = 1", "seeds = 2", 1, {0: "micro", 1: "micro"}, 2),
        ("seeds = 2", "seeds = 1", 1, {0: "micro", 1: "macro"}, 2),
        # A seed draws the eval rows of x, so that one fit does not stand for all.
        (
            f"{FIXED}redraw = true\nsplit = 'random:0.25'\nseeds = 2",
            f"{FIXED}split = 'random:0.25'",
            1,
            {0: "micro", 1: "macro"},
            2,
        ),
        # The store has one table, so that naming it is asking for the same run.
        ("data = '{data}'", "", 1, {0: "micro"}, 1),
    ],
)
def test_the_last_rule_of_a_run_is_that_of_all_variants(
    filled, fits, monkeypatch, tmp_path, x, y, left_out, rules, fitted
):
    """Each run is fitted once, whichever of the other seeds the variants have."""
    monkeypatch.setattr(head_fitter, "FOLDS_UP_TO", 400)
    store, path, lines = filled(), tmp_path / "r.toml", []
    text = "head = 'knn'" + VARIANTS.format(x=x, y=y)
    path.write_text(text.replace("{data}", store.tables()[0].source))
    runner = TrialRunner(store, tmp_path / "runs")
    experiments = load_experiments(path, ExperimentFile)
    tasks = [task for experiment in experiments for task in experiment.tasks(runner, lines.append)]
    rows = leaderboard.fit_all(runner, tasks, lines.append)
    assert (len(fits), rules_of(runner.folder)) == (fitted, rules)
    assert [line for line in lines if LEFT_OUT in line] == [f"{LEFT_OUT}: {left_out}"] * bool(left_out)
    assert not any("(kept)" in line for line in lines)
    for row in rows:
        rule = load_run(row["run"]).decision.spec.objective
        assert f"; thresholds maximise {rule};" in row["measured"]


FORESTS = [
    FitSpec("forest", ["e/text"], {"trees": 4, "jobs": 1}, split="tail:100", decision=rule)
    for rule in ("macro", "micro")
]
CHOSEN_AGAIN = "runs that a later search also chose, by another decision rule, which they have: 1"


def test_searches_of_other_rules_that_choose_the_same_say_which_rule_the_run_has(filled, fits, tmp_path):
    runner, lines = TrialRunner(filled(), tmp_path / "runs"), []
    tasks = [Task([spec], trials=1) for spec in FORESTS]
    (row,) = leaderboard.fit_all(runner, [*tasks, tasks[1]], lines.append)
    assert len(fits) == 1, "the first setting of both searches"
    assert rules_of(runner.folder) == {0: "micro"}
    assert "thresholds maximise micro" in row["measured"]
    assert CHOSEN_AGAIN in lines
    assert sum("trial 1/1" in line for line in lines) == 2, "the same search again is left out"


def test_items_that_need_the_same_are_not_worked_on_at_once_and_keep_their_order(monkeypatch):
    """With threads in place of processes: a message when work on an item begins, and one when it ends."""

    def started(setup, jobs):
        pipes = [Pipe() for _ in range(jobs)]
        for _, theirs in pipes:
            Thread(target=worked, args=(theirs,), daemon=True).start()
        return {ours: Mock() for ours, _ in pipes}

    def worked(pipe):
        with suppress(EOFError):
            while item := pipe.recv():
                for message in (("begins", item), ("ends", item), None):
                    pipe.send(message)
                    time.sleep(0.01)

    monkeypatch.setattr(processes, "_started", started)
    items, needs = ["a1", "a2", "b", "a3", "c"], [{"a"}, {"a"}, set(), {"a", "c"}, {"c"}]
    messages = [message for _, message in processes.in_processes(Mock(), items, 3, needs) if message]
    for need in "ac":
        of_need = [item for item, needed in zip(items, needs, strict=True) if need in needed]
        if need == "c":  # it need not wait for what the earlier one still waits for
            of_need.reverse()
        expected = [(what, item) for item in of_need for what in ("begins", "ends")]
        assert [message for message in messages if message[1] in of_need] == expected
    assert sorted(item for what, item in messages if what == "ends") == sorted(items)


@pytest.mark.slow
def test_processes_fit_each_run_and_each_setting_of_searches_once(filled, tmp_path):
    runner, lines = TrialRunner(filled(), tmp_path / "runs"), []
    tasks = [Task([spec], trials=1) for spec in FORESTS]
    tasks += [Task([replace(spec, head="knn", options={"seed": 1})]) for spec in FORESTS]
    rows = leaderboard.fit_all(runner, tasks, lines.append, jobs=2)
    assert rules_of(runner.folder) == {0: "micro", 1: "micro"}
    assert all("thresholds maximise micro" in row["measured"] for row in rows)
    assert lines[0] == f"{LEFT_OUT}: 1"
    assert CHOSEN_AGAIN in lines
    tried = [load_run(path.parent) for path in runner.folder.glob("search/*/run.json")]
    assert [run.decision.spec.objective for run in tried] == ["micro"], (
        "retuned, as the second search is last"
    )


def test_repeated_folds_are_drawn_again_for_all_heads(filled, run):
    """`kfold:3x2` is `kfold:3` with two draws of the folds, as `redraw` with two seeds makes."""
    store = filled()
    rows, _ = run(store, 'split = "kfold:3x2"\nheads = ["linear", "knn"]')
    again, lines = run(store, 'split = "kfold:3"\nseeds = 2\nredraw = true\nheads = ["linear", "knn"]')
    assert rows == again
    assert sum("(kept)" in line for line in lines) == 4
    runs = [load_run(row["run"]) for row in rows]
    assert sorted((run.spec.head, run.spec.seed) for run in runs) == [
        ("knn", 0), ("knn", 1), ("linear", 0), ("linear", 1),
    ]  # fmt: skip
    tables = compare_systems(runs, ["macro_f1"])
    assert [(table["sets"], len(table["systems"])) for table in tables["tables"]] == [(6, 2)]
