"""Versions of a run and the aliases that name them."""

import glob
import json
import shutil
import threading

import pytest

from encode_once.cache import DataError, EncodeOnceError, UsageError
from encode_once.cache.aliases import read_aliases, resolved
from encode_once.cache.options import RunFolder
from encode_once.classify import fit, load_run
from encode_once.classify.bench.synthetic import synthetic_store
from encode_once.classify.runs.run import check_place
from encode_once.classify.systems.commands import compare
from encode_once.deploy.service_versions import listed, promote, remove_old, rollback

NAMES = ("2026-11-01T02-00-00Z", "2026-11-02T02-00-00Z", "2026-11-02T02-00-00Z-2", "2026-11-03T02-00-00Z")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A folder with a run."""
    folder = tmp_path_factory.mktemp("fitted") / "run"
    with synthetic_store(200, 3) as store:
        fit(store, "linear", run=folder, split="random:0.3", validation="tenth")
    return folder


@pytest.fixture
def svc(fitted, tmp_path):
    """A folder `svc` of four versions and a run of another name."""
    for name in (*NAMES, "by-hand"):
        shutil.copytree(fitted, tmp_path / "svc" / name)
    return tmp_path / "svc"


def named(svc, alias="champion"):
    return resolved(f"{svc}@{alias}").name


def test_rollback_goes_back_one_step_and_twice_two(svc):
    a, b, c, _ = NAMES
    for name in (a, b, a, c):
        promote(svc / name)
    names = []
    for _ in range(3):
        rollback(str(svc))
        names.append(named(svc))
    assert names == [a, b, a]
    with pytest.raises(DataError, match=f"named no run before {a}"):
        rollback(f"{svc}@champion")
    assert named(svc) == a
    assert read_aliases(svc).withdrawn == [c, b]  # `a` is in service again
    promote(svc / c)
    assert read_aliases(svc).withdrawn == [b]


def test_an_alias_is_a_run_wherever_a_run_is_taken(svc, run):
    promote(svc / NAMES[1])
    promote(svc / "by-hand", "candidate")
    assert load_run(f"{svc}@champion").path == svc / NAMES[1]
    assert load_run(f"{svc}@candidate").path == svc / "by-hand"
    figures = [
        json.loads(run("evaluate", path, "--json").stdout) for path in (f"{svc}@champion", svc / NAMES[1])
    ]
    assert figures[0] == figures[1]
    assert NAMES[1] in run("report", f"{svc}@champion").stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("svc@champio", "did you mean 'champion'"),
        ("svc@", "unknown alias"),
        ("svc@champion@x", "is not a run"),
        ("svc/by-hand@champion", "by-hand is a run: name it without @champion"),
        ("other@champion", "has no aliases: promote one of its runs"),
        ("nothing@champion", "is not a run"),
    ],
)
def test_an_alias_that_does_not_exist_is_refused_in_one_line(svc, run, tmp_path, text, message):
    promote(svc / NAMES[0])
    (tmp_path / "other").mkdir()
    with pytest.raises(EncodeOnceError, match=message):
        load_run(tmp_path / text)
    for words in (["evaluate"], ["predict"], ["tune"]):
        process = run(*words, tmp_path / text, status=2 if "unknown" in message or "mean" in message else 1)
        assert message in process.stderr
        assert "Traceback" not in process.output


def test_a_path_with_an_at_sign_is_a_path(fitted, tmp_path):
    run = shutil.copytree(fitted, tmp_path / "me@host" / "run@home")
    assert load_run(run).path == run
    promote(run)
    assert load_run(f"{run.parent}@champion").path == run


def test_a_folder_is_its_champion_where_one_run_is_taken_and_all_its_runs_in_compare(svc, run):
    promote(svc / "by-hand", "candidate")
    with pytest.raises(EncodeOnceError, match=f"{svc}@candidate is one of them"):
        load_run(svc)
    promote(svc / NAMES[1])
    assert load_run(svc).path == svc / NAMES[1]
    assert NAMES[1] in run("report", svc).stdout
    assert RunFolder().convert(str(svc), None, None) == str(svc / NAMES[1])
    assert RunFolder(folders=True).convert(str(svc), None, None) == str(svc)
    (of_runs,) = [param for param in compare.params if param.name == "runs"]
    assert of_runs.type.folders


def test_a_pattern_for_all_runs_of_a_folder_finds_no_list_of_aliases(svc, run):
    promote(svc / NAMES[0])
    paths = glob.glob(f"{svc}/*")
    assert len(paths) == 5
    run("migrate", *paths)
    run("evaluate", *paths)


def test_inside_of_the_folder_a_dot_is_the_folder(svc, run, monkeypatch):
    monkeypatch.chdir(svc)
    assert "evaluate .@champion" in run("promote", NAMES[0]).stderr
    assert load_run(".@champion").path.resolve() == svc / NAMES[0]
    run("evaluate", ".@champion")
    assert load_run(".").path.resolve() == svc / NAMES[0]


def test_no_run_is_written_where_its_name_would_be_an_alias(svc):
    check_place(svc / f"{NAMES[0]}@tail-10", overwrite=False)  # beside a run, as recipes do
    promote(svc / NAMES[0])
    for name in ("champion", "new"):
        with pytest.raises(UsageError, match=f"svc@{name} would be an alias"):
            check_place(svc.with_name(f"svc@{name}"), overwrite=True)
    check_place(svc.with_name("other@champion"), overwrite=False)
    shutil.copytree(svc / NAMES[0], svc, dirs_exist_ok=True)  # a run that has aliases of runs in it
    with pytest.raises(UsageError, match="svc@new would be an alias"):
        check_place(svc.with_name("svc@new"), overwrite=True)


@pytest.mark.parametrize(
    "content",
    [
        {"aliases": {"champion": [{"run": "../elsewhere", "since": ""}]}, "withdrawn": []},
        {"aliases": {"champion": [{"run": "..", "since": ""}]}, "withdrawn": []},
        {"aliases": {"champion": [{"run": "/etc", "since": ""}]}, "withdrawn": []},
        {"aliases": {"champion": []}, "withdrawn": []},
        {"aliases": {"champion": "by-hand"}, "withdrawn": []},
        [],
        "nothing",
    ],
)
def test_a_crafted_list_of_aliases_leads_nowhere(svc, content):
    (svc / ".aliases.json").write_text(json.dumps(content))
    with pytest.raises(EncodeOnceError, match=r"aliases\.json"):
        load_run(f"{svc}@champion")


def test_a_damaged_run_is_not_promoted_and_not_rolled_back_to(svc):
    for name in NAMES[:2]:
        promote(svc / name)
    for name in (NAMES[0], "by-hand"):
        weights = svc / name / "weights.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(EncodeOnceError, match="has changed since it was saved"):
        promote(svc / "by-hand")
    with pytest.raises(EncodeOnceError, match="has changed since it was saved"):
        rollback(f"{svc}@champion")
    assert named(svc) == NAMES[1]


def test_a_run_that_is_gone_is_passed_over_by_rollback(svc):
    for name in NAMES[:3]:
        promote(svc / name)
    shutil.rmtree(svc / NAMES[1])
    rollback(str(svc))
    assert named(svc) == NAMES[0]


def test_old_versions_are_removed_but_none_that_may_be_needed(svc):
    a, b, c, d = NAMES
    promote(svc / a, "stable")
    for name in (b, c):
        promote(svc / name)
    assert remove_old(svc, 1) == []  # all are named, were named last before, or are the newest
    promote(svc / d)
    assert remove_old(svc, 1) == [b]
    assert {path.name for path in svc.iterdir()} == {a, c, d, "by-hand", ".aliases.json"}
    rollback(str(svc))
    with pytest.raises(DataError, match="named no run before"):
        rollback(str(svc))


def test_a_removal_that_was_interrupted_is_completed(svc, monkeypatch):
    for name in NAMES:
        promote(svc / name)
    with monkeypatch.context() as patch:
        patch.setattr("encode_once.deploy.service_versions.rmtree", lambda path: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            remove_old(svc, 1)
    assert remove_old(svc, 1) == []
    assert {path.name for path in svc.iterdir()} == {*NAMES[2:], "by-hand", ".aliases.json"}


def test_a_reader_never_misses_the_run_while_the_alias_changes(svc):
    promote(svc / NAMES[0])
    ended, names = threading.Event(), set()

    def switch():
        for number in range(40):
            promote(svc / NAMES[number % 3])
        ended.set()

    writer = threading.Thread(target=switch)
    writer.start()
    while not ended.is_set():
        names.add(load_run(f"{svc}@champion").path.name)
    writer.join()
    assert names <= {*NAMES[:3]}
    assert [entry.run for entry in read_aliases(svc).aliases["champion"]][-3:] == [
        NAMES[1],
        NAMES[2],
        NAMES[0],
    ]


def test_the_runs_are_listed_with_their_aliases(svc, run):
    promote(svc / NAMES[0])
    promote(svc / NAMES[1])
    rollback(str(svc))
    (svc / "by-hand" / "metrics.json").write_text("{")
    rows = {row["run"].rpartition("/")[2]: row for row in listed(svc)}
    assert rows.keys() == {*NAMES, "by-hand"}
    assert rows[NAMES[0]]["aliases"] == ["champion"]
    assert rows[NAMES[1]]["withdrawn"]
    assert rows[NAMES[0]]["micro_f1"] == json.loads((svc / NAMES[0] / "metrics.json").read_text())["micro_f1"]
    process = run("runs", "list", svc)
    assert process.stdout.count("champion") == 1
    assert "metrics.json" in process.stderr
    assert len(json.loads(run("runs", "list", svc, "--json").stdout)) == 5
    (svc / ".aliases.json").write_text("{")
    process = run("runs", "list", svc.parent)
    assert ".aliases.json" in process.stderr
    assert NAMES[0] in process.stdout


def test_what_is_not_in_service_is_not_rolled_back(svc, run):
    assert "first promote" in run("rollback", svc / NAMES[0], status=2).stderr
    assert "not FOLDER@ALIAS" in run("rollback", svc, status=2).stderr
    assert "not a valid alias" in run("promote", svc / NAMES[0], "--as", "a/b", status=2).stderr
    assert "champion" in run("promote", svc / NAMES[0]).stderr
