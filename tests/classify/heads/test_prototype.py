import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, log_loss

from encode_once.cache import Failure
from encode_once.cache.errors import DataError, MissingDataError, UsageError
from encode_once.classify import fit, load_run
from encode_once.classify.heads.prototype import Prototype, calibrate
from encode_once.classify.runs.predict import evaluate


def unit(vectors):
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def problem(seed=0, n=300, c=5, d=24, noise=0.35, frequencies=None):
    """Rows that mix their labels' prompts with noise and a common vector; the labels; the prompts (c, d)."""
    rng = np.random.default_rng(7)
    prompts = unit(rng.normal(size=(c, d))) * rng.uniform(5, 9, size=(c, 1))
    common = 2 * unit(rng.normal(size=d))  # images and texts are in different cones
    rng = np.random.default_rng(seed)
    Y = rng.random((n, c)) < (np.linspace(0.4, 0.1, c) if frequencies is None else frequencies)
    X = Y @ unit(prompts) + common + noise * rng.normal(size=(n, d))
    return (9 * X).astype(np.float32), Y, prompts.astype(np.float32)


def affinity(rows, labels, query, beta, without=None):
    """The classes' shares of the votes, row by row."""
    votes, total = np.zeros(labels.shape[1]), 0.0
    for place, (row, row_labels) in enumerate(zip(rows, labels, strict=True)):
        if place != without:
            weight = np.exp(-beta * (1 - unit(query) @ row))
            votes, total = votes + weight * row_labels, total + weight
    return votes / total


def prototypes(rows, labels, without=None):
    """Means of each class minus the mean of all; 0 for a class without rows."""
    left = np.arange(len(rows)) != without
    rows, labels = rows[left], labels[left]
    means = [
        rows[members].mean(0) - rows.mean(0) if members.any() else np.zeros(rows.shape[1])
        for members in labels.T
    ]
    return unit(np.array(means))


def head(**options):
    return Prototype(device="cpu", **options)


def logits(fitted, X):
    return torch.from_numpy(fitted.predict_proba(X)).double().logit().numpy()


def test_zero_shot_is_the_calibrated_cosine_to_the_prompts():
    X, Y, prompts = problem()
    fitted = head(prompts=prompts, shots=0).fit(X[:200], Y[:200], X[200:250], Y[200:250])
    cosines = unit(X[250:]) @ unit(prompts).T
    expected = fitted.slope_ * cosines * fitted.scale_[0] + fitted.intercept_
    np.testing.assert_allclose(logits(fitted, X[250:]), expected, atol=1e-3)
    assert fitted.scale_[1] == 0
    assert fitted.rows_.shape == (0, 24)
    assert (fitted.slope_ > 0).all()


def test_scores_blend_cosine_and_affinity():
    X, Y, prompts = problem()
    fitted = head(prompts=prompts, alphas=(0.5,), betas=(7.0,)).fit(X[:200], Y[:200], X[200:250], Y[200:250])
    rows = unit(X[:200]).astype(np.float16)
    np.testing.assert_array_equal(fitted.rows_, rows)
    votes = np.array([affinity(rows.astype(float), Y[:200], query, 7.0) for query in X[250:]])
    blend = fitted.scale_[0] * (unit(X[250:]) @ unit(prompts).T) + fitted.scale_[1] * votes
    np.testing.assert_allclose(logits(fitted, X[250:]), fitted.slope_ * blend + fitted.intercept_, atol=2e-3)


@pytest.mark.parametrize("with_prompts", [True, False])
def test_a_cached_row_is_compared_with_the_others_only(with_prompts):
    X, Y, prompts = problem(n=40, frequencies=[0.4, 0.3, 0.2, 0, 0])
    Y[0, 3] = True  # a class of a single row has no prototype without it
    fitted = head(prompts=prompts if with_prompts else None)
    cached = fitted._fill_cache(X, Y, unit(prompts) if with_prompts else None)
    compared = fitted._compare(X, Y, [6.0], cached)
    rows = fitted.rows_.astype(float)
    votes = [affinity(rows, Y, query, 6.0, without=place) for place, query in enumerate(rows)]
    np.testing.assert_allclose(compared.affinities[6.0], votes, atol=2e-3)
    left_out = [unit(prompts) if with_prompts else prototypes(rows, Y, without=place) for place in range(40)]
    cosines = [vectors @ query for vectors, query in zip(left_out, rows, strict=True)]
    np.testing.assert_allclose(compared.cosines, cosines, atol=2e-3)
    assert with_prompts or compared.cosines[0, 3] == 0
    all_rows = prototypes(rows, Y)
    np.testing.assert_allclose(fitted.prototypes_, unit(prompts) if with_prompts else all_rows, atol=1e-5)


def test_alpha_and_beta_are_those_of_least_loss_on_the_validation_rows():
    X, Y, prompts = problem(noise=0.5)
    sets = X[:200], Y[:200], X[200:], Y[200:]
    options = {"alphas": (0.0, 0.5, 1.0), "betas": (3.0, 30.0), "prompts": prompts}
    fitted = head(**options).fit(*sets)
    losses = {
        (alpha, beta): sum(log_loss(y, p) for y, p in zip(sets[3].T, scores.T, strict=True))
        for alpha in (0.0, 0.5, 1.0)
        for beta in (3.0, 30.0)
        for scores in [
            head(prompts=prompts, alphas=(alpha,), betas=(beta,)).fit(*sets).predict_proba(X[200:])
        ]
    }
    best = min(losses, key=losses.get)
    assert fitted.beta_[0] == best[1] or best[0] == 0
    assert (fitted.scale_[0] > 0, fitted.scale_[1] > 0) == (best[0] < 1, best[0] > 0)


def test_calibration_is_regularised_logistic_regression():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4000, 3))
    truth = rng.random((4000, 3)) < 1 / (1 + np.exp(-(scores * [2, 2.1, 1.9] - [0, 2, 3])))
    slope, intercept = calibrate(torch.tensor(scores).float(), torch.tensor(truth).float())
    for c in range(3):
        oracle = LogisticRegression(C=np.inf).fit(scores[:, [c]], truth[:, c])
        assert slope[c] == pytest.approx(oracle.coef_[0, 0], rel=0.1)
        assert intercept[c] == pytest.approx(oracle.intercept_[0], abs=0.15)


def test_rare_classes_are_given_the_slope_of_the_others():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(2000, 12))
    truth = rng.random((2000, 12)) < 1 / (1 + np.exp(-(2 * scores - 1)))
    truth[:, -3:] = False
    truth[scores[:, -3].argmax(), -3] = True  # separable
    truth[scores[:, -2].argmin(), -2] = True  # in the wrong direction
    lines = calibrate(torch.tensor(scores).float(), torch.tensor(truth).float())
    slope, intercept = (tensor.numpy() for tensor in lines)
    assert np.isfinite(slope).all()
    assert np.isfinite(intercept).all()
    np.testing.assert_allclose(slope[:-3], 2, atol=0.5)
    assert ((slope[-3:] > 0) & (slope[-3:] < 4)).all()
    assert (intercept[-3:] < -4).all()


def test_probabilities_are_calibrated_and_better_with_a_cache_than_zero_shot():
    X, Y, prompts = problem(n=1500, noise=0.45)
    prompts = prompts + 4 * np.random.default_rng(3).normal(size=prompts.shape).astype(np.float32)  # inexact
    sets = X[:900], Y[:900], X[900:1000], Y[900:1000]
    losses = []
    for shots in (0, 16, None):
        scores = head(prompts=prompts, shots=shots).fit(*sets).predict_proba(X[1000:])
        np.testing.assert_allclose(scores.mean(0), Y[1000:].mean(0), atol=0.05)
        losses.append(log_loss(Y[1000:].ravel(), scores.ravel()))
    assert losses[2] < losses[0] - 0.02
    assert losses[1] < losses[0]


def test_shots_are_rows_of_each_class_drawn_by_the_seed():
    X, Y, prompts = problem(frequencies=[0.2, 0.2, 0.2, 0.01, 0])
    sets = X[:250], Y[:250], X[250:], Y[250:]
    options = {"prompts": prompts, "shots": 4, "alphas": (0.5,)}
    fitted = head(**options).fit(*sets)
    counts = Y[:250].sum(0)
    assert (fitted.labels_.sum(0) >= np.minimum(4, counts)).all()
    assert len(fitted.rows_) <= 16
    np.testing.assert_array_equal(fitted.rows_, head(**options).fit(*sets).rows_)
    assert not np.array_equal(fitted.rows_, head(**options, seed=1).fit(*sets).rows_)


def test_a_row_without_a_vector_has_the_frequencies_as_scores_and_is_not_cached():
    X, Y, prompts = problem()
    missing = np.arange(300) % 7 == 0
    fitted = head(prompts=prompts, alphas=(0.5,)).fit(np.where(missing[:, None], 0, X), Y, X[:60], Y[:60])
    assert len(fitted.rows_) == (~missing).sum()
    scores = fitted.predict_proba(np.stack([np.zeros(24, np.float32), X[0]]))
    np.testing.assert_allclose(scores[0], (Y.sum(0) + 0.5) / 301, rtol=1e-5)
    assert not np.allclose(scores[1], scores[0], atol=0.1)
    nothing = head(prompts=prompts).fit(np.zeros_like(X), Y).predict_proba(X)
    assert np.isfinite(nothing).all()


@pytest.mark.parametrize("options", [{"alphas": (0.0,)}, {"alphas": (0.5,)}, {"shots": 0}])
def test_a_loaded_head_does_not_need_the_file_of_prompts(tmp_path, options):
    X, Y, prompts = problem()
    np.save(tmp_path / "prompts.npy", prompts)
    fitted = head(prompts=str(tmp_path / "prompts.npy"), **options).fit(X, Y)
    (tmp_path / "prompts.npy").unlink()
    other = head(prompts=str(tmp_path / "prompts.npy"), **options)
    other.load_state(
        load(save({name: np.ascontiguousarray(array) for name, array in fitted.state().items()}))
    )
    np.testing.assert_array_equal(other.predict_proba(X), fitted.predict_proba(X))


def test_several_prompts_of_a_class_are_averaged():
    X, Y, prompts = problem()
    others = np.stack([prompts, 3 * prompts[:, ::-1]], axis=1)  # (c, 2, d); lengths are ignored
    fitted = head(prompts=others.tolist(), shots=0).fit(X, Y)
    np.testing.assert_allclose(fitted.prototypes_, unit(unit(prompts) + unit(prompts[:, ::-1])), atol=1e-5)


def test_prompts_with_names_are_matched_by_name(tmp_path):
    X, Y, prompts = problem()
    path = tmp_path / "prompts.npy"
    names = ["e", "zebra", "b", "a", "d", "c", "b"]
    np.save(path, np.stack([prompts["abcde".find(name)] for name in names]).astype(np.float16))
    (tmp_path / "prompts.npy.ids.txt").write_text("\n".join(names) + "\n")
    fitted = head(prompts=path, shots=0, classes=list("abcde")).fit(X, Y)
    np.testing.assert_allclose(fitted.prototypes_, unit(prompts), atol=1e-3)
    with pytest.raises(DataError, match=r"no prompt for 1 of 5 classes, such as 'f'"):
        head(prompts=path, classes=list("abcdf")).fit(X, Y)


def test_invalid_prompts_are_an_error(tmp_path):
    X, Y, prompts = problem()
    for wrong in (prompts[:4], prompts[:, :20], prompts[0]):
        with pytest.raises(DataError, match=r"5 classes and 24 columns need \(5, 24\)"):
            head(prompts=wrong).fit(X, Y)
    with pytest.raises(DataError, match="NaN"):
        head(prompts=np.where(prompts > 5, np.nan, prompts) * np.float32([np.nan])).fit(X, Y)
    with pytest.raises(MissingDataError, match=r"no file .*prompts.npy"):
        head(prompts=str(tmp_path / "prompts.npy")).fit(X, Y)
    (tmp_path / "prompts.npy").write_text("cat, 0.3")
    with pytest.raises(DataError, match=r"cannot be read as \.npy"):
        head(prompts=str(tmp_path / "prompts.npy")).fit(X, Y)
    with pytest.raises(UsageError, match="shots=0 needs prompts"):
        head(shots=0).fit(X, Y)


def test_a_run_with_prompts_does_not_standardise_features(filled, tmp_path):
    store = filled(missing={5, 6})
    (table,) = store.tables()
    failures = [Failure(table.keys("image")[row].tobytes().hex(), "empty", "", "") for row in (5, 6)]
    store.feature("e/image").record_failures(failures)
    names = ["dog", "cat", "9", "10", "traffic light"]  # column by column the features are cat, dog, …
    prompts = np.eye(8, dtype=np.float32)[[1, 0, 4, 3, 2]]
    np.save(tmp_path / "prompts.npy", prompts)
    (tmp_path / "prompts.npy.ids.txt").write_text("".join(f"{name}\n" for name in names))
    options = {"prompts": tmp_path / "prompts.npy", "shots": 0, "device": "cpu"}
    run, metrics = fit(
        store, "prototype", features=["e/text"], options=options, run=tmp_path / "run", data=table.source
    )
    (tmp_path / "prompts.npy").unlink()
    loaded = load_run(run.path)
    assert not loaded.model.mean.any()
    assert (loaded.model.scale == 1).all()
    assert metrics["mAP"] > 0.75
    assert evaluate(loaded, store, table).metrics["mAP"] == pytest.approx(metrics["mAP"], abs=1e-6)
    assert json.loads((run.path / "run.json").read_text())["options"]["classes"] == run.record.classes
    ordered = prompts[[2, 3, 1, 0, 4]]  # 9, 10, cat, dog, traffic light
    options["prompts"] = ordered
    run, again = fit(store, "prototype", features=["e/text"], options=options, run=tmp_path / "array")
    assert again["mAP"] == metrics["mAP"]
    np.testing.assert_array_equal(load_run(run.path).eval.scores, loaded.eval.scores)
    few, _ = fit(store, "prototype", features=["e/image"], run=tmp_path / "few")
    assert few.model.mean.any()


@pytest.mark.real
def test_real_prompts_recognise_mixtures(shared):
    prompts = np.load(shared / "weights" / "clip-vit-b32-text-coco80.npy").astype(np.float32)
    rng = np.random.default_rng(0)
    Y = rng.random((1200, 80)) < 0.04
    X = (Y @ unit(prompts) + 0.04 * rng.normal(size=(1200, 512))).astype(np.float32)
    fitted = head(prompts=str(shared / "weights" / "clip-vit-b32-text-coco80.npy"), shots=0)
    scores = fitted.fit(X[:800], Y[:800]).predict_proba(X[800:])
    assert average_precision_score(Y[800:], scores) > 0.7  # 0.04 by chance; the prompts are very similar


def test_without_vectors_among_the_validation_rows_the_train_rows_choose():
    """The mean loss of no rows is NaN, which once kept the first α, 0, although these prompts are useless."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 6)).astype(np.float32)
    prompts = np.array([[0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0]])
    head = Prototype(prompts=prompts, device="cpu").fit(
        X, X[:, :2] > 0, np.zeros_like(X[:20]), X[:20, :2] > 0
    )
    assert len(head.rows_) == 200
    assert average_precision_score(X[:, :2] > 0, head.predict_proba(X)) > 0.9


def test_of_many_classes_fewer_rows_are_calibrated(monkeypatch):
    monkeypatch.setattr("encode_once.classify.heads.prototype.MAX_SCORES", 500)
    monkeypatch.setattr("encode_once.classify.heads.prototype.MIN_CALIBRATED", 60)
    X, Y, _ = problem()
    fitted = head()
    cached = fitted._fill_cache(X, Y, None)
    assert len(fitted._compare(X, Y, [6.0], cached).labels) == 100
    monkeypatch.setattr("encode_once.classify.heads.prototype.MAX_SCORES", 5)
    assert len(fitted._compare(X, Y, [6.0], cached).labels) == 60
    assert len(fitted._compare(X, Y, [6.0]).labels) == 300  # validation rows
