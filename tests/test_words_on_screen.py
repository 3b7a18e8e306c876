"""What commands print besides their results: the next command, less with --quiet, and names for the shell."""

import json
import re
import shlex
import subprocess
import sys

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from encode_once.cache.options import Verb
from encode_once.cli import main
from encode_once.extract.encoders import catalogue, listed
from tests.conftest import files_of
from tests.test_docs import COMMANDS, parse

NEXT = re.compile(r"^next: encode-once (.+)$", re.MULTILINE)


@pytest.fixture
def fitted(state_after, monkeypatch, fit_once):
    """Data, a store and two runs; no network."""
    monkeypatch.setattr(catalogue, "answers", lambda site: False)
    monkeypatch.setattr("encode_once.cache.doctor.machine.TRIAL", 1 << 20)
    commands = ("extract --encoder glove-50", "fit --head linear", "fit --head knn")
    return state_after(*commands, n=30, test_rows=3)


# A command, and the words of the next one.
STEPS = [
    ("extract --encoder glove-50", "fit --head mlp"),
    ("extract --dry-run", "extract --encoder efficientnet-lite0 --data input"),
    ("extract --list", "encoders efficientnet-lite0"),
    ("encoders", "encoders efficientnet-lite0"),
    ("encoders glove-50", "extract --encoder glove-50"),
    ("heads", "heads mlp"),
    ("heads mlp", "fit --head mlp --set learning_rate=0.001"),
    ("heads knn", "fit --head knn"),
    ("fit --head linear --run 'my runs/a'", "report 'my runs/a'"),
    ("tune runs/linear --objective micro", "evaluate runs/linear"),
    ("evaluate runs/linear", "audit runs/linear"),
    ("evaluate runs/linear runs/knn", "report runs/linear runs/knn"),
    ("report runs/linear runs/knn", "evaluate runs/linear runs/knn"),
    ("predict runs/linear", "evaluate runs/linear"),
    ("audit runs/linear", "audit runs/linear -o audit.html"),
    ("audit runs/linear -o audit.html", "extract --corrections corrections.csv"),
    ("monitor runs/linear --data input --table train", "evaluate runs/linear"),
    ("export runs/linear", "evaluate runs/linear"),
    ("recipe list", "recipe run "),
    ("recipe show tfidf-linear", "recipe run tfidf-linear"),
    ("doctor", "fit --head mlp"),
    ("doctor --store other --data input", "extract --encoder efficientnet-lite0 --data input --store other"),
    ("store list", "store info glove-50/mean"),
    ("store info glove-50/mean", "store verify glove-50/mean"),
    ("store verify", "fit --head mlp"),
    ("store compact", "store verify"),
    ("store gc", "store compact"),
    ("store export glove-50/mean --to npy --table {train}", "store info glove-50/mean"),
    ("store forget {test}", "store gc"),
    ("store gc", "store gc --delete"),
    ("store gc --delete", "store compact"),
    ("store drop glove-50/tokens", "store list"),
    ("forget 7.png", "store verify --absent 7.png"),
]


def test_every_command_ends_with_a_next_one_that_exists(fitted, run):
    tables = {path.stem.split("-")[1]: path.stem for path in (fitted.parent / "store/tables").glob("*.h5")}
    for command, following in STEPS:
        result = run(*shlex.split(command.format(**tables)))
        *_, words = NEXT.findall(result.stderr)
        assert result.stderr.endswith(f"next: encode-once {words}\n"), command
        assert words.startswith(following), command
        parse(shlex.split(words))


@pytest.mark.parametrize(
    ("name", "argument", "program"),
    [
        ("encode-once", "/usr/bin/encode-once", "encode-once"),
        ("cli.py", "cli.py", "python cli.py"),
        ("cli.py", "../my code/cli.py", "python '../my code/cli.py'"),
        ("python -m encode_once.cli", "/x/cli.py", "python -m encode_once.cli"),
        ("main", "/usr/bin/pytest", "encode-once"),
    ],
)
def test_the_next_command_is_called_as_this_one_was(monkeypatch, name, argument, program):
    monkeypatch.setattr("sys.argv", [argument])
    result = CliRunner().invoke(main, ["heads", "mlp"], prog_name=name)
    assert result.stderr.splitlines()[-1].startswith(f"next: {program} fit --head mlp")


def test_sweep_and_ablate_lead_to_a_comparison_of_their_best_runs(fitted, run):
    run("fit", "--head", "knn", "--set", "ks=[3]", "--run", "runs/three")
    for words in (("sweep", "--head", "linear", "--head", "knn"), ("ablate", "runs/three")):
        *_, following = NEXT.findall(run(*words).stderr)
        verb, *runs = shlex.split(following)
        assert (verb, len(runs)) == ("evaluate", 2)
        run(verb, *runs)


def test_commands_name_their_store_in_the_next_one(folder, run):
    folder(30)
    result = run("extract", "--encoder", "glove-50", "--store", "my store")
    assert NEXT.findall(result.stderr) == ["fit --head mlp --store 'my store'"]


def test_an_audit_leads_to_an_extraction_into_the_runs_store_with_its_columns(folder, run, fit_once):
    folder(30)
    run("extract", "--encoder", "glove-50", "--store", "my store", "--caption-column", "Caption")
    run("fit", "--head", "linear", "--store", "my store")
    (words,) = NEXT.findall(run("audit", "runs/linear", "-o", "audit.html").stderr)
    assert words == "extract --caption-column Caption --store 'my store' --corrections corrections.csv"


QUIET = [
    "fit --head knn --run runs/q",
    "predict runs/linear --json",
    "evaluate runs/linear --json",
    "store list",
    "heads",
]


@pytest.mark.parametrize("command", QUIET)
def test_quiet_leaves_results_and_checks_alone(fitted, run, command):
    lines = run("--quiet", *shlex.split(command)).stderr.splitlines()
    assert all(re.match(r"EO\d{3}: ", line) for line in lines)


def test_quiet_keeps_warnings_failures_and_errors(folder, run):
    root = folder(4)
    (root / "data" / "2.png").write_bytes(b"")
    encode = ("extract", "--encoder", "efficientnet-lite0")
    loud = run(*encode, status=1).stderr.splitlines()
    quiet = run("-q", *encode, status=1).stderr.splitlines()
    assert quiet
    assert {*quiet} < {*loud}
    assert quiet[0].startswith("failed: ")
    assert quiet[-1].startswith("Error: 1 inputs have no vector")
    (root / "data" / "3.png").unlink()
    assert any(line.startswith("warning: ") for line in run("-q", *encode, status=1).stderr.splitlines())


def completions(*words):
    *arguments, incomplete = words
    complete = ShellComplete(main, {}, "encode-once", "_ENCODE_ONCE_COMPLETE")
    return [item.value for item in complete.get_completions(arguments, incomplete)]


def test_the_shell_completes_heads_encoders_features_tables_and_runs(fitted, run):
    assert completions("fit", "--head", "bi") == ["bilstm", "bigru", "bilinear"]
    assert completions("heads", "k") == ["knn"]
    assert completions("extract", "--encoder", "glove-") == [n for n, _ in listed() if n.startswith("glove-")]
    assert completions("extract", "--encoder", "minilm,glove-5") == ["minilm,glove-50"]
    assert completions("fit", "--features", "gl") == ["glove-50/mean", "glove-50/tokens"]
    assert completions("store", "drop", "") == ["glove-50/mean", "glove-50/tokens"]
    assert completions("fit", "--store", "elsewhere", "--features", "") == []
    assert [*map(len, (completions("store", "forget", "input-t"), completions("store", "forget", "x")))] == [
        2,
        0,
    ]
    for verb in ("tune", "evaluate", "report", "predict", "audit", "ablate", "export"):
        assert completions(verb, "") == ["runs/knn", "runs/linear"]
    assert completions("evaluate", "runs/linear", "runs/k") == ["runs/knn"]


def test_names_are_listed_without_the_libraries_that_compute():
    code = (
        "import sys; from click.shell_completion import ShellComplete; from encode_once.cli import main\n"
        "complete = ShellComplete(main, {}, 'encode-once', 'X')\n"
        "assert complete.get_completions(['fit', '--head'], 'm')\n"
        "assert complete.get_completions(['extract', '--encoder'], 'glove')\n"
        "complete.get_completions(['fit', '--features'], ''), complete.get_completions(['report'], '')\n"
        "main(['heads'], standalone_mode=False)\n"
        "sys.exit(' '.join({'torch', 'sklearn', 'h5py', 'pandas', 'scipy'} & {*sys.modules}) or 0)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_prints_json_and_names_itself_in_errors(name):
    command = COMMANDS[name]
    assert isinstance(command, Verb)
    assert any("--json" in param.opts for param in command.params)


def test_the_same_option_has_the_same_name_everywhere():
    for name in ("fit", "sweep", "tune"):
        (option,) = (param for param in COMMANDS[name].params if param.name == "objective")
        assert option.opts == ["--objective", "--tune"]


@pytest.mark.parametrize(
    ("words", "status", "usage", "message"),
    [
        (["fit", "--head", "MLP"], 2, "fit [OPTIONS]", "did you mean 'mlp'?"),
        (["fit", "--head", "logistic"], 2, "fit [OPTIONS]", "did you mean 'linear'?"),
        (["extract", "--encoder", "clip"], 2, "extract [OPTIONS]", "did you mean 'clip-vit-b32', "),
        (["fit", "--split", "0.2"], 2, "fit [OPTIONS]", "did you mean 'stratified:0.2'?"),
        (["fit", "--objective", "precision:2"], 2, "fit [OPTIONS]", "from 0 to 1, as in precision:0.9"),
        (["evaluate", "runs"], 1, None, "it holds the runs runs/knn, runs/linear"),
        (["fit", "--set", "device=cuda:99"], 2, "fit [OPTIONS]", "use auto or cpu, or run doctor"),
        (["fit", "--set", "device=gpu"], 2, "fit [OPTIONS]", "unknown device 'gpu'"),
        (["extract", "--encoder", "glove-50", "--device", "cuda:99"], 2, "extract [OPTIONS]", "run doctor"),
        (["fit", "--set", "dropout=abc"], 2, "fit [OPTIONS]", "not 'abc' (default: 0.5)"),
        (["fit", "--set", "dropout=1.5"], 2, "fit [OPTIONS]", "not 1.5 (default: 0.5)"),
        (["fit", "--set", "hidden=512"], 2, "fit [OPTIONS]", "not 512 (default: [1024])"),
        (["fit", "--set", "epochs=0"], 2, "fit [OPTIONS]", "not 0 (default: 12)"),
        (["fit", "--set", "learning_rate=10"], 2, "fit [OPTIONS]", "not 10 (default: 0.001)"),
        (["store", "drop", "glove-50/men"], 2, "store drop [OPTIONS] FEATURE...", "mean 'glove-50/mean'?"),
        (["encoders", "Glove-50"], 2, "encoders [OPTIONS] [NAME]", "did you mean 'glove-50'?"),
        (["heads", "forrest"], 2, "heads [OPTIONS] [NAME]", "did you mean 'forest'?"),
    ],
)  # fmt: skip
def test_mistakes_get_one_line_and_the_usage_of_their_command(fitted, run, words, status, usage, message):
    before = files_of(fitted.parent)
    result = run(*words, status=status)
    *first, error = (line for line in result.stderr.splitlines() if line)
    assert message in error
    assert error.startswith("Error: ")
    if usage:
        assert f"Usage: main {usage}" in first
    assert files_of(fitted.parent) == before


def test_a_library_that_is_missing_is_one_line(run, monkeypatch, folder):
    folder(3)
    monkeypatch.setitem(sys.modules, "h5py", None)
    monkeypatch.delitem(sys.modules, "encode_once.cache.format.hdf5", raising=False)

    @main.command("broken")
    def broken():
        import h5py  # noqa: F401

    try:
        assert run("broken", status=1).stderr.endswith(": run doctor\n")
    finally:
        main.commands.pop("broken")


def test_encoders_are_shown_with_the_features_they_make(run, monkeypatch):
    monkeypatch.setattr(catalogue, "answers", lambda site: False)
    record = json.loads(run("encoders", "clip-vit-l", "--json").stdout)
    assert record["features"] == "clip-vit-l/image, clip-vit-l/text, clip-vit-l/regions"
    assert (record["takes"], record["model"]) == ("224 px, 77 tokens", "ViT-L-14-quickgelu/openai")
    records = json.loads(run("encoders", "--json").stdout)
    assert [record["encoder"] for record in records] == [name for name, _ in listed()]
    assert isinstance(main.commands["encoders"], click.Command)
