"""Code and files that a store, a run or a recipe names are used only with consent (docs/security.md)."""

import json
import os
import py_compile
import shutil
import sys
from pathlib import Path

import pytest

from encode_once.cache import Store, content_key, own_code
from encode_once.cache.keys import spec_key
from encode_once.extract import encode
from encode_once.extract.errors import WeightsError
from tests.classify.runs.reseal import reseal
from tests.conftest import files_of, vectors_file

CODE = """
from pathlib import Path

import numpy as np

from encode_once.extract.encoders.base import Tower

Path("CODE_RAN").touch()


class X(Tower):
    modality = "caption"

    def __init__(self, options):
        super().__init__({"mean": {"encoder": "x"}})

    def load(self, device):
        pass

    def prepare(self, caption):
        return [float(word in caption) for word in "dog cat car bus boat bird".split()]

    def encode(self, batch):
        return {"mean": np.array(batch, np.float32)}
"""
ENCODER = "gift/p.py:X"
RAN = Path("CODE_RAN")


def hash_of(path):
    return f"blake2b:{content_key(Path(path).read_bytes()).hex()}"


@pytest.fixture
def gift(state_after, monkeypatch):
    """A run of 60 rows with an encoder's code in its folder, and a store of that encoder."""
    forget_code(monkeypatch)
    files = {"gift/p.py": CODE}
    state_after(f"extract --encoder {ENCODER}", "fit --head linear --run fitted", files=files)
    for file in Path("fitted").iterdir():
        shutil.move(file, "gift")
    RAN.unlink()


@pytest.fixture
def plain(state_after):
    """A run of 60 rows on glove-50 in `gift`, with harmful code in the folder."""
    state_after("extract --encoder glove-50", "fit --head linear --features glove-50/mean --run gift")
    Path("gift/p.py").write_text(CODE)


@pytest.fixture
def opened():
    """The paths that are opened while a test runs."""
    paths, listening = [], [True]

    def hook(event, arguments):
        if listening and event == "open" and isinstance(arguments[0], str | bytes):
            paths.append(os.fsdecode(arguments[0]))

    sys.addaudithook(hook)
    yield paths
    listening.clear()


def edit_run(change):
    record = json.loads(Path("gift/run.json").read_text())
    change(record)
    Path("gift/run.json").write_text(json.dumps(record))
    reseal(Path("gift"))


def line_of(result):
    """The one line of an error."""
    assert "Traceback" not in result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    return line


ON_RUN = [
    ("predict", "gift", "--data", "input"),
    ("evaluate", "gift", "--data", "input"),
]
ON_STORE = [
    ("store", "verify", "--recompute", 2),
    ("bench", "store", "--data", "input", "--rows", 100, "--files", 100),
]


@pytest.mark.parametrize("words", ON_RUN + ON_STORE, ids=lambda words: " ".join(map(str, words[:2])))
def test_code_that_a_run_or_a_store_names_runs_only_with_trust_and_the_recorded_hash(gift, run, words):
    (copy,) = Path("gift/code").iterdir()
    code = copy if words in ON_RUN else Path("gift/p.py")
    line = line_of(run(*words, status=1))
    assert f"{code} (recorded as {hash_of(code)})" in line
    assert "--trust" in line
    assert not RAN.exists()

    code.write_text(CODE + "# changed\n")
    line = line_of(run(*words, "--trust", status=1))
    assert hash_of(code) in line
    assert not RAN.exists()

    code.write_text(CODE)
    result = run(*words, "--trust")
    assert f"trusted: {code} ({hash_of(code)})" in result.stderr
    assert RAN.exists()


@pytest.mark.parametrize("words", ON_RUN, ids=lambda words: words[0])
def test_a_changed_file_of_an_encoder_is_named_and_the_copy_in_the_run_is_used(gift, run, words):
    Path("gift/p.py").write_text("raise ValueError('other code')")
    (copy,) = Path("gift/code").iterdir()
    result = run(*words, "--trust", "--store", "new")
    line = f"gift/p.py is not the file that gift was fitted with: {copy} is used"
    assert line in result.stderr.splitlines()
    assert RAN.exists()


@pytest.mark.parametrize("words", ON_RUN, ids=lambda words: words[0])
def test_a_run_without_a_copy_of_an_encoder_needs_its_file_as_it_was(gift, run, words):
    shutil.rmtree("gift/code")
    line = line_of(run(*words, status=1))
    assert f"gift names code to run: gift/p.py (recorded as {hash_of('gift/p.py')})" in line
    Path("gift/p.py").write_text(CODE + "# changed\n")
    assert hash_of("gift/p.py") in line_of(run(*words, "--trust", status=1))
    assert not RAN.exists()
    Path("gift/p.py").write_text(CODE)
    assert "trusted: gift/p.py" in run(*words, "--trust").stderr


@pytest.mark.parametrize("identity", ["blake2b:/../../../x", "blake2b:" + "0" * 31, "x"])
def test_a_crafted_hash_of_an_encoder_leads_to_no_file(gift, run, opened, identity):
    Path("x.py").touch()
    Path("gift/code/p-").mkdir()  # so that gift/code/p-/../../../x.py is that file

    def craft(record):
        (feature,) = record["features"].values()
        feature["spec"]["source"] = identity

    edit_run(craft)
    opened.clear()
    line_of(run("predict", "gift", "--data", "input", "--trust", "--store", "new", status=1))
    assert not any(path.endswith("/x.py") for path in opened)
    assert not RAN.exists()


def test_code_that_only_captions_name_does_not_run(plain, run):
    def generated(record):
        (feature,) = record["features"].values()
        feature["captions"] = ENCODER
        record["features"] = {f"glove-50/mean@{ENCODER}": feature}

    edit_run(generated)
    for words in ON_RUN:
        assert "gift/p.py" in line_of(run(*words, "--store", "new", status=1))
        assert "no hash of it is recorded" in line_of(run(*words, "--store", "new", "--trust", status=1))
    assert not RAN.exists()


@pytest.mark.parametrize("where", ["features", "captioners"])
@pytest.mark.parametrize("name", [ENCODER, f"timm:{ENCODER}", f"{ENCODER}/regions"])
def test_code_that_a_crafted_run_names_does_not_run(plain, run, where, name):
    def craft(record):
        feature = record["features"]["glove-50/mean"]
        record[where] = {f"{name}/mean" if where == "features" else name: feature}

    edit_run(craft)
    for words in ON_RUN:
        for trust in ([], ["--trust"]):
            assert "p.py" in line_of(run(*words, "--store", "new", *trust, status=1))
    assert not RAN.exists()


def test_code_in_a_crafted_store_does_not_run(run, tmp_path):
    Store("st").create()
    Path("st/evil.py").write_text(CODE)
    feature = Path("st/features/st/evil.py:X/mean")
    feature.mkdir(parents=True)
    spec = {"modality": "caption", "encoder": "x"}
    record = {"feature": "st/evil.py:X/mean", "key": spec_key(spec), "spec": spec, "provenance": {}}
    (feature / "spec.json").write_text(json.dumps({**record, "created": "now"}))
    for trust in ([], ["--trust"]):
        line = line_of(run("store", "verify", "--recompute", 2, "--store", "st", *trust, status=1))
        assert "st/evil.py" in line
    assert not RAN.exists()


def test_the_code_that_runs_is_the_code_that_was_hashed(gift, run):
    """An import would run a compiled file of the same time and size instead of the source."""
    source = Path("gift/p.py")
    stat = source.stat()
    source.write_text(CODE.replace('Path("CODE_RAN")', 'Path("EVIL_RAN")'))
    os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    py_compile.compile(str(source))
    source.write_text(CODE)
    os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    run("predict", "gift", "--trust")
    assert RAN.exists()
    assert not Path("EVIL_RAN").exists()


@pytest.fixture
def with_weights(folder, run, tmp_path, fit_once):
    """A run in `gift` on features made with a local file of weights."""
    folder(60)
    file = vectors_file(tmp_path / "vectors.txt")
    run("extract", "--encoder", "glove-100", "--weights", file)
    run("fit", "--head", "linear", "--features", "glove-100/mean", "--run", "gift")
    return file


def test_a_local_weights_file_is_used_when_the_user_says_so(with_weights, run, opened):
    line = line_of(run("predict", "gift", status=1))
    assert str(with_weights) in line
    assert hash_of(with_weights) in line
    assert f"--weights glove-100={with_weights}" in line
    assert "--trust" in line
    opened.clear()
    run("predict", "gift", status=1)
    run("store", "verify", "--recompute", 2, status=1)
    run("bench", "store", "--data", "input", "--rows", 100, "--files", 100, status=1)
    assert str(with_weights) not in opened

    run("predict", "gift", "--weights", with_weights, "-o", "named.csv", "--store", "new")
    run("predict", "gift", "--weights", f"glove-100={with_weights}", "--store", "newer")
    result = run("predict", "gift", "--trust", "-o", "trusted.csv", "--store", "newest")
    assert f"trusted: {with_weights} ({hash_of(with_weights)})" in result.stderr
    assert Path("named.csv").read_text() == Path("trusted.csv").read_text()
    run("store", "verify", "--recompute", 2, "--trust")


def test_another_weights_file_is_not_used_even_with_trust(with_weights, run):
    Path("secret").write_text("root:x:0:0")
    edit_run(lambda record: record["features"]["glove-100/mean"].update(weights_file="secret"))
    line = line_of(run("predict", "gift", status=1))
    assert "secret" in line
    assert hash_of("secret") not in line, "that would tell what is in it"
    assert "secret" in line_of(run("predict", "gift", "--trust", "--store", "new", status=1))
    edit_run(lambda record: record["features"]["glove-100/mean"].update(weights_file="absent"))
    line = line_of(run("predict", "gift", "--trust", "--store", "new", status=1))
    assert "absent (recorded as blake2b:" in line
    assert "which is not there; pass --weights glove-100=FILE" in line


@pytest.mark.parametrize(
    "encoder", ["onnx:secret", "transformers:secret", "captioner:secret", "open_clip:local-dir:secret/x"]
)
def test_a_file_in_an_encoders_name_is_not_opened(plain, run, opened, encoder):
    if encoder.startswith("onnx"):
        Path("secret").write_text("root:x:0:0")
    else:
        Path("secret").mkdir()
        for name in ("config.json", "open_clip_config.json", "model.safetensors"):
            Path("secret", name).write_text("{}")

    def craft(record):
        record["features"] = {f"{encoder}/pooled": record["features"]["glove-50/mean"]}

    edit_run(craft)
    opened.clear()
    line = line_of(run("predict", "gift", "--store", "new", status=1))
    assert "gift names a file of weights to open: secret" in line
    assert not any("secret" in path for path in opened)
    run("predict", "gift", "--store", "new", "--trust", status=1)  # its hash is not the recorded hash


def test_trust_without_data_is_refused(plain, run):
    assert "--data" in run("evaluate", "gift", "--trust", status=2).stderr


RECIPE = """
about = "a stranger's"
source = "a stranger"
split = "tail:20"
objective = "micro"
head = "linear"
features = ["{}/mean"]
"""


@pytest.mark.parametrize("name", [ENCODER, f"captioner:{ENCODER}"])
def test_code_that_a_recipe_names_runs_only_if_it_is_named_on_the_command_line(plain, run, name):
    Path("recipe.toml").write_text(RECIPE.format(name))
    result = run("recipe", "run", "./recipe.toml", "--json", status=1)
    assert f"--encoder {name}" in result.output
    assert not RAN.exists()
    if name == ENCODER:
        run("recipe", "run", "./recipe.toml", "--encoder", ENCODER)
        assert RAN.exists()


def test_code_that_a_recipe_names_runs_with_trust(plain, run):
    Path("recipe.toml").write_text(RECIPE.format(ENCODER))
    result = run("recipe", "run", "./recipe.toml", "--trust")
    assert f"trusted: gift/p.py ({hash_of('gift/p.py')})" in result.stderr
    assert RAN.exists()


def test_a_file_that_a_recipe_names_is_not_opened(plain, run):
    Path("models").mkdir()
    Path("recipe.toml").write_text(RECIPE.format("transformers:models"))
    result = run("recipe", "run", "./recipe.toml", "--json", status=1)
    assert "--weights transformers:models=models" in result.output


@pytest.mark.parametrize("encoder", ["transformers:models", "captioner:models"])
def test_code_in_a_folder_of_transformers_does_not_run(folder, run, monkeypatch, encoder):
    folder(4)
    Path("models").mkdir()
    classes = ("Config", "Tokenizer", "Processor", "Model", "ModelForImageTextToText")
    module = f"evil_{encoder[:4]}"  # transformers imports each module name once
    config = {"model_type": "strange", "auto_map": {f"Auto{name}": f"{module}.X" for name in classes}}
    for name in ("config", "tokenizer_config", "processor_config", "preprocessor_config"):
        Path(f"models/{name}.json").write_text(json.dumps(config))
    for name in ("model.safetensors", "tokenizer.json"):
        Path(f"models/{name}").write_bytes(b"{}")
    Path(f"models/{module}.py").write_text(
        'from pathlib import Path\nPath("CODE_RAN").touch()\nclass X: pass\n'
    )
    monkeypatch.setattr(
        "builtins.input", lambda *_: "y"
    )  # the answer to transformers' question at a terminal
    with pytest.raises(WeightsError, match="could not be loaded"):
        encode("input", [encoder], "store", progress=False)
    assert not RAN.exists()


@pytest.mark.parametrize("words", ON_RUN, ids=lambda words: words[0])
def test_a_store_that_a_run_names_is_only_read_and_named_in_a_warning(plain, run, tmp_path_factory, words):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "store"
    shutil.move("store", elsewhere)
    edit_run(lambda record: record.update(store=str(elsewhere)))
    before = files_of(elsewhere)
    assert f"warning: gift names the store {elsewhere}" in run(*words).stderr
    assert files_of(elsewhere) == before
    assert str(elsewhere) not in run(*words, "--store", "new").stderr


@pytest.mark.parametrize("content", [["absent"], ["other", "file"]])
def test_what_a_run_names_as_its_store_and_is_none_is_not_written(plain, run, content):
    if content[1:]:
        Path("other").mkdir()
        Path("other/file").touch()
    edit_run(lambda record: record.update(store=f"../{content[0]}"))
    run("predict", "gift", "--data", "input", status=1 if content[1:] else 0)
    assert [path.name for path in Path(content[0]).rglob("*")] == content[1:]
    run("predict", "gift", "--data", "input", "--store", "new")


@pytest.mark.parametrize("place", ["gift/store", "gift/store/features", "gift/ablation"])
def test_a_link_inside_a_run_is_not_written_through(plain, run, place):
    Path("victim").mkdir()
    Path(place).parent.mkdir(exist_ok=True)
    Path(place).symlink_to(Path("victim").resolve())
    words = ("ablate", "gift") if "ablation" in place else ("predict", "gift", "--data", "input")
    assert place in line_of(run(*words, status=1))
    assert not any(Path("victim").iterdir())


@pytest.fixture
def own_head(state_after, monkeypatch):
    """A run in `gift` on glove-50, of a head whose code leaves a trace; the process does not trust it."""
    forget_code(monkeypatch)
    code = (
        "from pathlib import Path\n\nfrom encode_once.classify.heads.linear import Linear\n\n"
        'Path("CODE_RAN").touch()\n\n\nclass Own(Linear):\n    "Another name."\n'
    )
    fit = "fit --head own.py:Own --features glove-50/mean --run gift"
    state_after("extract --encoder glove-50", fit, files={"own.py": code})
    Path("own.py").unlink()
    RAN.unlink()
    forget_code(monkeypatch)


def forget_code(monkeypatch):
    """Make this process trust no code, as another would."""
    for name in ("_trusted", "_meant", "_modules"):
        monkeypatch.setattr(own_code, name, {})


@pytest.mark.parametrize("words", [*ON_RUN, ("export", "gift")], ids=lambda words: words[0])
def test_the_code_of_a_runs_head_runs_only_with_trust_and_the_recorded_hash(own_head, run, words):
    (copy,) = Path("gift/code").iterdir()
    content = copy.read_text()
    line = line_of(run(*words, status=1))
    assert f"gift names code to run: {copy} (recorded as {hash_of(copy)}); read it, then pass --trust" in line
    copy.write_text(content + "# changed\n")
    assert hash_of(copy) in line_of(run(*words, "--trust", status=1))
    assert not RAN.exists()
    copy.write_text(content)
    assert f"trusted: {copy} ({hash_of(copy)})" in run(*words, "--trust").stderr
    assert RAN.exists()


@pytest.mark.parametrize("words", [*ON_RUN, ("export", "gift")], ids=lambda words: words[0])
@pytest.mark.parametrize(
    "change",
    [
        {"head": "gift/p.py:X"},
        {"options": {"loss": "gift/p.py:X"}},
        {"head": "gated", "options": {"fusion": "gift/p.py:X"}},
        {"head": "stack", "options": {"heads": ["gift/p.py:X"]}},
        {"head": "gift/p.py:X", "own_code": {"gift/p.py": "blake2b:" + "0" * 32}},
    ],
    ids=str,
)
def test_code_that_a_crafted_run_names_as_its_head_or_an_option_does_not_run(plain, run, words, change):
    edit_run(lambda record: record.update(change))
    for trust in ([], ["--trust"]):
        line_of(run(*words, *trust, status=1))
    assert not RAN.exists()


@pytest.mark.parametrize("head", ["subprocess:Popen", "sklearn.utils:Bunch", "os.path:join"])
def test_a_crafted_run_imports_nothing_but_classifiers_of_scikit_learn(plain, run, head):
    edit_run(lambda record: record.update(head=head))
    line = line_of(run("export", "gift", "--trust", status=1))
    assert head.rpartition(":")[2] in line


@pytest.mark.parametrize("kind", ["recipe", "experiment"])
def test_code_that_a_file_names_as_its_head_runs_with_trust_only(plain, run, kind, monkeypatch):
    forget_code(monkeypatch)
    Path("own.toml").write_text(RECIPE.format("glove-50").replace('"linear"', '"gift/p.py:X"'))
    line = line_of(run(kind, "run", "./own.toml", status=1))
    assert "own.toml names code to run: gift/p.py; read it, then pass --trust" in line
    assert not RAN.exists()
    run(kind, "run", "./own.toml", "--trust", status=2)  # it is no head
    assert RAN.exists()


def test_a_classifier_that_is_restored_as_it_was_saved_needs_trust(state_after, run):
    pytest.importorskip("skops")
    state_after("extract --encoder glove-50", "fit --head sklearn.svm:SVC --run gift")
    line = line_of(run("predict", "gift", status=1))
    assert "gift/weights.safetensors holds a classifier of scikit-learn" in line
    assert "pass --trust" in line
    assert "trusted: gift/weights.safetensors (xxh3:" in run("predict", "gift", "--trust").stderr
