"""Reading a run's folder, also one that a stranger wrote."""

import os
import shutil
import subprocess
import sys
import warnings
from collections import Counter

import h5py
import lightgbm
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from encode_once.cache import DataError
from encode_once.classify import fit, load_run
from encode_once.classify.bench.synthetic import synthetic_store
from encode_once.classify.heads.booster_text import checked
from encode_once.classify.runs.checksums import CHECKSUMS, METRICS, read_metrics
from encode_once.classify.runs.reading import RunError
from encode_once.classify.runs.retune import evaluate_kept
from encode_once.classify.runs.run import CHECKED, WEIGHTS
from tests.classify.runs.reseal import reseal
from tests.conftest import shorten_fits

CHANGES = 60  # of each file
SMALL = {"linear": {}, "gbm": {"rounds": 5}}
HEAVY = {"torch", "sklearn", "lightgbm", "scipy.stats", "pandas"}


@pytest.fixture(scope="module")
def store():
    """A store of 300 rows of 8 columns."""
    with synthetic_store(300, 8) as path:
        yield path


@pytest.mark.slow
@pytest.mark.parametrize("head", ["mlp", "gbm"])
def test_kept_scores_are_used_without_the_libraries_that_fit(store, tmp_path, head):
    fit(store, head, validation="tenth", run=tmp_path / "run")
    commands = [[verb, str(tmp_path / "run")] for verb in ("report", "tune", "evaluate")]
    commands.append(["recipe", "list", "--store", str(store)])
    code = f"""
import sys
from encode_once.cli import main
for words in {commands}:
    main(words, standalone_mode=False)
    imported = {HEAVY} & sys.modules.keys()
    assert not imported, (words, imported)
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


@pytest.fixture(scope="module", params=["linear", "mlp", "gbm", "forest"])
def valid(request, store, tmp_path_factory):
    """A run's folder, which a test copies before it changes it."""
    with pytest.MonkeyPatch.context() as patch:
        shorten_fits(patch)
        run, _ = fit(store, request.param, run=tmp_path_factory.mktemp("valid") / "run")
    return run.path


@pytest.fixture
def copy(valid, tmp_path):
    """A copy of the run's folder."""
    return shutil.copytree(valid, tmp_path / "run")


def test_no_file_is_left_open(copy):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        load_run(copy)
    assert not caught


def assert_refused(path, file):
    """Reading the run and its model raises one line that names the file, though its checksum is right."""
    reseal(path)
    with pytest.raises(RunError) as caught:
        _ = load_run(path).model
    assert str(path / file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(copy, value):
    arrays = load_file(copy / "weights.safetensors")
    for name in arrays:
        if arrays[name].dtype.kind == "f":
            changed = arrays[name].copy()
            changed.flat[0] = value
            save_file(arrays | {name: changed}, copy / "weights.safetensors")
            assert_refused(copy, "weights.safetensors")


def test_weights_of_another_shape_are_refused(copy):
    arrays = load_file(copy / "weights.safetensors")
    for name, values in arrays.items():
        if "booster" not in name and name != "head|C":
            save_file(arrays | {name: np.zeros((3, 5, 2), values.dtype)}, copy / "weights.safetensors")
            assert_refused(copy, "weights.safetensors")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("eval/scores", lambda values: np.where(values < 2, np.nan, values)),
        ("tune/scores", lambda values: values + 2),
        ("tune/labels", lambda values: values[1:]),
        ("eval/labels", lambda values: values.astype(np.uint8) * 2),
        ("eval/keys", lambda values: values[:, :8]),
        ("eval/ids/offsets", lambda values: values[:-1]),
        ("tune/ids/bytes", lambda values: values[:-1]),
        ("fitted_on", lambda values: values.astype(float)),
        ("classes/bytes", lambda values: values[::-1]),
    ],
)
def test_scores_of_other_shapes_or_values_are_refused(copy, name, change):
    with h5py.File(copy / "scores.h5", "r+") as file:
        values = file[name][()]
        del file[name]
        file[name] = change(values)
    assert_refused(copy, "scores.h5")


def test_labels_that_are_neither_0_nor_1_are_refused(copy):
    with h5py.File(copy / "scores.h5") as file:
        offset, count = file["eval/labels"].id.get_offset(), file["eval/labels"].size
    with (copy / "scores.h5").open("r+b") as raw:
        raw.seek(offset)
        raw.write(bytes([2]) * count)
    assert_refused(copy, "scores.h5")


def results(path):
    """All that a run's folder says to those who use it, as text."""
    run = load_run(path)
    scores = run.model.scores(np.random.default_rng(1).normal(size=(20, 8)).astype(np.float32))
    labels = run.decision(scores)
    rows = [run.eval.ids, run.eval.labels.tolist(), run.validation.ids, run.fitted_on.tolist()]
    figures = [
        evaluate_kept(run).metrics,
        read_metrics(path),
        run.history,
        run.spec,
        run.record,
        run.decision,
    ]
    return repr((scores.tolist(), labels.tolist(), rows, figures))


@pytest.mark.parametrize("head", ["linear", pytest.param("gbm", marks=pytest.mark.slow)])
def test_every_flipped_bit_and_truncation_of_every_file_is_noticed_or_harmless(store, tmp_path, head):
    """Without checksums 11 of 36 such changes gave wrong results, and a booster ended the process."""
    run, _ = fit(store, head, validation="tenth", run=tmp_path / "run", options=SMALL[head])
    before, rng, noticed = results(run.path), np.random.default_rng(0), Counter[str]()
    names = sorted(path.name for path in run.path.iterdir())
    for name in names:
        path = run.path / name
        content = path.read_bytes()
        for number in range(CHANGES):
            if number % 3:
                changed = bytearray(content)
                changed[rng.integers(len(content))] ^= 1 << rng.integers(8)
            else:
                changed = content[: rng.integers(len(content))]
            path.write_bytes(changed)
            try:
                after = results(run.path)
            except RunError as error:
                assert name == CHECKSUMS or name in str(error)
                noticed[name] += 1
            else:
                assert after == before, f"{name}: a wrong result"
        path.write_bytes(content)
    assert results(run.path) == before
    assert len(names) * CHANGES >= 500
    decisive = {*CHECKED, WEIGHTS, METRICS}
    assert {name: noticed[name] for name in decisive} == dict.fromkeys(decisive, CHANGES)
    # Of its checksums, those of files that decide nothing may change; the rest is noticed.
    assert {*names} - decisive - {CHECKSUMS} == {"predictions.csv", "README.md"}


def test_metrics_that_were_changed_are_not_shown(store, tmp_path):
    run, metrics = fit(store, "linear", validation="tenth", run=tmp_path / "run")
    assert read_metrics(run.path)["micro_f1"] == metrics["micro_f1"]
    (run.path / METRICS).write_text('{"micro_f1": 1.0}')
    with pytest.raises(RunError, match=r"metrics\.json has changed since it was saved"):
        run._repr_html_()
    (run.path / METRICS).unlink()
    assert run._repr_html_()


@pytest.mark.parametrize("file", ["run.json", "thresholds.json", "scores.h5", "weights.safetensors"])
def test_a_pipe_or_a_link_in_place_of_a_file_is_refused(copy, file):
    (copy / file).rename(copy.parent / "moved")
    (copy / file).symlink_to(copy.parent / "moved")
    assert_refused(copy, file)
    (copy / file).unlink()
    os.mkfifo(copy / file)
    assert_refused(copy, file)


@pytest.mark.parametrize("valid", ["linear"], indirect=True)
def test_a_run_is_replaced_only_with_overwrite(store, copy):
    before = (copy / "run.json").read_bytes()
    with pytest.raises(DataError, match="--overwrite"):
        fit(store, "linear", run=copy)
    assert (copy / "run.json").read_bytes() == before
    run, _ = fit(store, "linear", run=copy, overwrite=True)
    assert load_run(copy).record.created == run.record.created
    (copy / "run.json").unlink()  # the remains of an interrupted fit are no run
    fit(store, "linear", run=copy)


@pytest.fixture(scope="module")
def booster(store, tmp_path_factory):
    """The text of a booster, and the number of its columns."""
    folder = tmp_path_factory.mktemp("booster") / "run"
    run, _ = fit(store, "gbm", validation="tenth", run=folder, options={"rounds": 5})
    arrays = load_file(run.path / "weights.safetensors")
    text = next(values for name, values in arrays.items() if "booster" in name)
    return text.tobytes().decode(), len(arrays["head|axes"])


def test_a_checked_booster_gives_the_same_scores(booster):
    text, columns = booster
    rows = np.random.default_rng(0).normal(size=(200, columns))
    expected = lightgbm.Booster(model_str=text).predict(rows)
    assert np.array_equal(lightgbm.Booster(model_str=checked(text, columns)).predict(rows), expected)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("num_leaves", "1e1"), ("num_leaves", "1000000000"), ("num_leaves", "-1"), ("num_cat", "1"),
        ("left_child", "0"), ("right_child", "99999"), ("right_child", "-99999"), ("split_feature", "1000"),
        ("split_feature", "-1"), ("threshold", "nan"), ("leaf_value", "1e999"), ("leaf_value", ""),
        ("decision_type", "1"), ("is_linear", "1"),
    ],
)  # fmt: skip
def test_a_mangled_booster_is_refused(booster, line, value):
    text, columns = booster
    start = text.index(f"\n{line}=") + len(line) + 2
    end = min(text.find(" ", start) % len(text), text.index("\n", start))
    with pytest.raises(ValueError, match=r"tree|numbers|finite"):
        checked(text[:start] + value + text[end:], columns)
