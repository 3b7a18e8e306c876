"""How data are read and how encoders compute reaches the encoders from every entry, field by field."""

from dataclasses import fields, replace

import pytest
from click.testing import CliRunner

import encode_once as eo
from encode_once import extract
from encode_once.cache import Store, UsageError
from encode_once.cli import main
from encode_once.deploy import Predictor, encoding
from encode_once.extract import ComputeOptions, ReadOptions, in_memory, jobs, pipeline, provider, recorded
from encode_once.extract.batches import TowerRunner
from encode_once.extract.readers import Columns
from tests.conftest import write_data

READ = ReadOptions(
    columns=Columns("key", "picture", ("text", "title"), ("tags",), "open"),
    images=("pictures", "test=others"),
    label_separator=";",
    classes=("a", "b"),
    uncertain="negative",
    unknown=("NA", "?"),
    keep_text=True,
    skip_bad_rows=True,
    corrections="corrections.csv",
    allow_urls=("https://example.org/a",),
)
READ_WORDS = (
    "--id-column key --image-column picture --caption-column text --caption-column title --label-column tags "
    "--unknown-column open --images pictures --images test=others --label-separator ; --classes a,b "
    "--uncertain negative --unknown NA --unknown ? --keep-text --skip-bad-rows --corrections corrections.csv "
    "--allow-urls https://example.org/a"
).split()
LABEL_SETS = ("colour=Red:Blue",)
FAST = ComputeOptions(backend="onnxruntime", compiled=True, batch_size=7, workers=3)
COMPUTE = replace(FAST, precision="bfloat16", min_cosine=0.5, bit_depth=12)
COMPUTE_WORDS = (
    "--backend onnxruntime --compile --batch-size 7 --workers 3 --precision bfloat16 --min-cosine 0.5 "
    "--bit-depth 12"
).split()


class Recorder:
    """Records the calls of a function; ends each with an error, or calls the function."""

    def __init__(self, function=None):
        self.function, self.calls = function, []

    def __call__(self, *values, **options):
        self.calls.append((values, options))
        if self.function is None:
            raise UsageError("recorded")
        return self.function(*values, **options)

    def options(self):
        """The options of the only call."""
        ((_, options),) = self.calls
        return options


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("handed-on")
    write_data(root / "input", 60, test_rows=6)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        eo.encode("input", ["glove-50"], "store", progress=False)
        eo.fit("store", "linear", run="runs/linear", validation="tenth")
        assert CliRunner().invoke(main, ["promote", "runs/linear"]).exit_code == 0
    return root


@pytest.fixture
def recorder(project, monkeypatch):
    """A function that replaces a function of a module by a recorder that ends each call."""
    monkeypatch.chdir(project)

    def recording(module, name):
        recorder = Recorder()
        monkeypatch.setattr(module, name, recorder)
        return recorder

    return recording


def recorded_by_command(*words):
    result = CliRunner().invoke(main, words)
    assert "recorded" in result.stderr, result.output


def test_no_field_of_these_options_has_its_default():
    for options, left_out in ((READ, {"label_sets"}), (COMPUTE, set()), (READ.columns, {"preferred"})):
        defaults = type(options)()
        same = {f.name for f in fields(options) if getattr(options, f.name) == getattr(defaults, f.name)}
        assert same == left_out


@pytest.mark.parametrize("function", [eo.evaluate, eo.predict])
def test_evaluate_and_predict_hand_on_all_options(recorder, function):
    calls, read = recorder(encoding, "encode"), replace(READ, label_sets=LABEL_SETS)
    compute = replace(FAST, min_cosine=0.5)
    options = {"store": "new", "device": "cuda:1", "progress": False}
    with pytest.raises(UsageError, match=r"^recorded$"):
        function("runs/linear", "other", read=read, compute=compute, **options)
    options = calls.options()
    assert options["read"] == read
    assert options["compute"] == compute
    assert options["device"] == "cuda:1"
    assert options["progress"] is False
    assert calls.calls[0][0][2].location == "new"


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "runs/linear", "--store", "new"],
        ["predict", "runs/linear", "--store", "new"],
        ["update", "runs"],
    ],
)
def test_commands_of_a_run_hand_on_all_options(recorder, words):
    calls = recorder(encoding, "encode")
    recorded_by_command(*words, "--data", "other", "--device", "cuda:1", *READ_WORDS)
    options = calls.options()
    assert options["read"] == READ
    assert options["device"] == "cuda:1"
    store = calls.calls[0][0][2].path
    assert store.name == ("store" if words[0] == "update" else "new")


def test_the_bit_depth_is_that_of_the_run(recorder, monkeypatch):
    run = eo.load_run("runs/linear")
    monkeypatch.setattr(type(run.record), "bit_depth", 12)
    calls = recorder(encoding, "encode")
    with pytest.raises(UsageError, match=r"^recorded$"):
        eo.predict(run, "other", compute=FAST)
    assert calls.options()["compute"] == replace(FAST, bit_depth=12)


def test_recipe_run_hands_on_all_options(recorder):
    calls = recorder(provider, "Provider")
    words = ["--store", "new", "--device", "cuda:1", *READ_WORDS]
    recorded_by_command("recipe", "run", "tfidf-linear", "--data", "other", *words)
    options = calls.options()
    assert options == {"device": "cuda:1", "read": READ}


def test_a_provider_hands_on_all_options(recorder, tmp_path):
    calls = recorder(provider, "encode")
    provides = provider.Provider(
        "input", Store(tmp_path / "store"), {"glove-50": "glove.txt"}, read=READ, device="cuda:1"
    )
    provides.make(["glove-50/mean"])
    options = calls.options()
    assert options["read"] == READ
    assert options["device"] == "cuda:1"
    assert options["weights"] == {"glove-50": "glove.txt"}
    with pytest.raises(UsageError, match=r"^recorded$"):
        provides.read()
    assert calls.calls[1][1]["read"] == READ


def test_extract_hands_on_all_options(recorder):
    calls = recorder(extract, "encode")
    recorded_by_command(
        *["extract", "--encoder", "glove-50", "--store", "new", "--device", "cuda:1", "--retry-failed"],
        *["--max-failures", "4", "--shard", "2/3", "--engine", "ray", "--actors", "2", "--captions", "table"],
        *["--label-set", *LABEL_SETS, *READ_WORDS, *COMPUTE_WORDS],
    )
    options = calls.options()
    assert options["read"] == replace(READ, label_sets=LABEL_SETS)
    assert options["compute"] == COMPUTE
    names = ("device", "retry_failed", "max_failures", "engine", "actors", "captions")
    assert [options[name] for name in names] == ["cuda:1", True, 4, "ray", 2, ("table",)]
    assert options["shard"].count == 3


def test_an_extraction_hands_on_how_encoders_compute(recorder, monkeypatch, tmp_path):
    of_settings, of_precisions = Recorder(pipeline.EncodeSettings), Recorder(pipeline.Precisions)
    monkeypatch.setattr(pipeline, "EncodeSettings", of_settings)
    monkeypatch.setattr(pipeline, "Precisions", of_precisions)
    towers = recorder(jobs.encoders, "towers")
    with pytest.raises(UsageError, match=r"^recorded$"):
        eo.encode("input", ["efficientnet-lite0"], tmp_path / "store", device="cpu", compute=COMPUTE)
    (((device, threads, compute, _), _),) = of_settings.calls
    assert (device, threads, compute) == ("cpu", COMPUTE.workers, COMPUTE)
    (((_, _, compute, _), _),) = of_precisions.calls
    assert compute == COMPUTE
    (((_, options), _),) = towers.calls
    assert (options.backend, options.compiled, options.precision) == ("onnxruntime", True, "bfloat16")


def test_a_predictor_hands_on_how_encoders_compute(recorder, monkeypatch):
    of_towers, loads, makes = Recorder(in_memory.recorded_towers), [], Recorder(recorded.encoders.towers)
    monkeypatch.setattr(in_memory, "recorded_towers", of_towers)
    monkeypatch.setattr(recorded.encoders, "towers", makes)
    load = TowerRunner.load
    monkeypatch.setattr(TowerRunner, "load", lambda *values: loads.append(values[1:4]) or load(*values))
    recorder(in_memory, "device_name").function = lambda name: {"cpu:7": "cpu"}[name]
    Predictor("runs/linear", device="cpu:7", compute=FAST)
    (((_, _, _, compute), _),) = of_towers.calls
    assert compute == FAST
    (((_, options), _),) = makes.calls
    assert (options.backend, options.compiled) == ("onnxruntime", True)
    assert loads == [("cpu", FAST.workers, FAST.batch_size)]
