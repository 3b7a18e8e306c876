"""What a run records of the command, the program, the libraries and the machine."""

import json
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner

from encode_once.classify import fit, heads, load_run
from encode_once.classify.experiments.tasks import Task, _worker
from encode_once.classify.report.checks import Evidence
from encode_once.classify.report.page import page
from encode_once.classify.report.summary import summarise
from encode_once.classify.runs.model_card import model_card
from encode_once.classify.runs.origin import Origin, commit_of
from encode_once.classify.spec import FitSpec
from encode_once.cli import main
from tests.classify.runs.reseal import reseal

pytestmark = pytest.mark.usefixtures("fit_once")
NEW = ("defaults", "origin", "table_keys")  # in run.json of later programs only


def recorded(path):
    return json.loads((Path(path) / "run.json").read_text())


def test_the_command_line_is_recorded_as_typed_but_for_the_users_folder(filled, tmp_path, monkeypatch):
    store = filled()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ACCESS_TOKEN", "a-secret-of-the-user")
    words = ["fit", "--head", "linear", "--store", str(store.path), "--run", str(tmp_path / "a run")]
    result = CliRunner().invoke(main, ["--quiet", *words])
    assert result.exit_code == 0, result.output
    text = (tmp_path / "a run" / "run.json").read_text()
    assert json.loads(text)["origin"]["command"] == (
        "encode-once --quiet fit --head linear --store ~/store --run '~/a run'"
    )
    assert str(tmp_path) not in text
    assert "a-secret-of-the-user" not in text


def test_a_process_of_jobs_records_the_command_line_that_started_it(filled, tmp_path):
    task = Task([FitSpec("linear", features=["e/image"])], place=tmp_path / "run")
    [*_worker(str(filled().path), str(tmp_path), "encode-once sweep --jobs 2")(task)]
    assert recorded(tmp_path / "run")["origin"]["command"] == "encode-once sweep --jobs 2"


def test_a_run_of_python_records_program_libraries_and_machine(filled, tmp_path):
    run, _ = fit(filled(), "linear", run=tmp_path / "run")
    loaded = load_run(run.path).record
    assert loaded == run.record
    assert (loaded.origin.command, loaded.origin.program) == ("Python", version("encode-once"))
    for library in ("numpy", "scikit-learn", "h5py"):
        assert loaded.origin.libraries[library] == version(library)
    assert loaded.origin.cores > 0
    assert loaded.origin.threads > 0
    assert {*loaded.table_keys} == {"ids", "labels", "columns", "images", "captions"}


@pytest.mark.parametrize("head", heads.HEADS)
def test_every_option_of_a_head_is_recorded_with_its_value(head):
    options = {"seed": 3} if "seed" in heads.options_of(head) else {}
    assert {*options, *heads.unset_defaults(head, options)} == {*heads.options_of(head)}
    defaults = json.loads(json.dumps(heads.defaults_of(head)), parse_constant=lambda _: "inf")
    assert heads.unset_defaults(head, options) == {
        name: defaults[name] for name in defaults if name not in options
    }


def test_a_feature_records_the_libraries_that_encoded_it(filled, tmp_path):
    store = filled()
    store.feature("e/image").add_provenance({"torch": "2.6.0", "timm": "1.0.15", "licence": "MIT"})
    run, _ = fit(store, "linear", features=["e/image"], run=tmp_path / "run")
    assert run.record.features["e/image"].libraries == {"torch": "2.6.0", "timm": "1.0.15"}


def test_the_card_and_the_page_show_what_is_recorded(filled, tmp_path):
    run, _ = fit(filled(), "linear", run=tmp_path / "run")
    summary, _ = summarise([Evidence.of(run)], vectors=False)
    html = page(summary, [Evidence.of(run).evaluation], [[]])
    for text in (model_card(run), html):
        assert f"numpy {version('numpy')}" in text
        assert "tolerance 0.0001" in text  # a default of the head
    assert "<td>Python</td>" in html
    assert "| command | Python |" in model_card(run)


def test_a_run_without_these_records_is_read_and_shown(filled, tmp_path):
    run, _ = fit(filled(), "linear", run=tmp_path / "run")
    content = recorded(run.path)
    for name in NEW:
        del content[name]
    for feature in content["features"].values():
        del feature["libraries"]
    (run.path / "run.json").write_text(json.dumps(content))
    reseal(run.path)
    loaded = load_run(run.path)
    assert (loaded.record.origin, loaded.record.defaults) == (Origin(), {})
    assert "Not recorded." in model_card(loaded)
    summary, _ = summarise([Evidence.of(loaded)], vectors=False)
    assert "How it was made" not in page(summary, [Evidence.of(loaded).evaluation], [[]])


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_of_a_checkout_and_whether_it_is_modified(tmp_path, monkeypatch):
    def git(*words):
        command = ["git", "-C", tmp_path, "-c", "user.name=x", "-c", "user.email=x@x", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "a.py").write_text("1")
    git("add", "a.py")
    git("commit", "-qm", "first")
    head = git("rev-parse", "HEAD")
    assert commit_of(tmp_path) == (head, False)
    commit_of.cache_clear()
    (tmp_path / "a.py").write_text("22")
    assert commit_of(tmp_path) == (head, True)
    inside = tmp_path / "environment"
    inside.mkdir()
    assert commit_of(inside) == ("", False)  # the repository around it is not the program's
    commit_of.cache_clear()
    monkeypatch.setenv("PATH", "")
    assert commit_of(tmp_path) == ("", False)
