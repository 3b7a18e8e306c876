"""Reduced precision: used where its vectors agree with float32's, chosen where it is faster; reported."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine as cosine_distance

from encode_once.extract.encoders import precision
from encode_once.extract.encoders.base import EXACT, Tower
from encode_once.extract.encoders.precision import AUTOCAST, WEIGHTS, PrecisionRule, cosine, loaded
from encode_once.extract.errors import WeightsError

READY = list(np.random.default_rng(0).normal(size=(precision.EXAMPLES, 16)).astype(np.float32))
FAST = PrecisionRule(on_failure="float32", if_faster="used")
WEIGHTS_SPEC = "bfloat16 weights"


class LinearTower(Tower):
    """A linear layer, which is both cast and run through autocast as networks are."""

    modality, casts, backend, parallel = "image", True, "torch", True

    def load(self, device):
        torch.manual_seed(0)
        self.model = torch.nn.Linear(16, 8).eval()

    def prepare(self, item):
        return item

    def encode(self, batch):
        inputs = torch.from_numpy(np.stack(batch)).to(self.model.weight.dtype)
        with torch.inference_mode(), self.arithmetic():
            return {"pooled": self.model(inputs).float().numpy()}


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """The folder of kept results."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return precision.exports_folder()


@pytest.fixture(autouse=True)
def speeds(monkeypatch):
    """The speed of each way relative to float32, which a test may change."""
    speeds = {"weights": 2.0, "autocast": 2.0}
    monkeypatch.setattr(precision, "_speed", lambda _, lowered, batch: speeds[way_of(lowered)])
    return speeds


def way_of(tower):
    return WEIGHTS if tower.is_cast else AUTOCAST


def tower(name="bfloat16", expected=precision.MIN_INPUTS):
    linear = LinearTower({"pooled": {"weights": "a", "precision": name}})
    linear.expected = expected
    return linear


def load(tower, rule=None, ready=READY):
    return loaded(tower, "cpu", rule, lambda: ready)


def set_cosines(monkeypatch, **cosines):
    monkeypatch.setattr(precision, "least_cosine", lambda _, lowered, *rest: cosines[way_of(lowered)])


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_weights_in_that_precision_are_used_and_the_cosine_is_recorded(name):
    lowered, notes = load(tower(name))
    assert notes == []
    assert lowered.model.weight.dtype == getattr(torch, name)
    exact = tower(EXACT)
    exact.load("cpu")
    expected, vectors = exact.encode(READY)["pooled"], lowered.encode(READY)["pooled"]
    least = min(1 - cosine_distance(a, b) for a, b in zip(expected, vectors, strict=True))
    assert precision.LEAST_COSINE[name] <= least < 1
    assert lowered.specs["pooled"]["precision"] == f"{name} weights"
    assert lowered.provenance()["backend"] == f"torch, weights in {name}"
    assert lowered.provenance()["cosine to float32"] == f"{least:.6f}"


def test_weights_that_others_share_keep_their_precision():
    exact = tower(EXACT)
    exact.load("cpu")
    lowered = precision.lowered_copy(exact, "bfloat16", WEIGHTS)
    assert lowered.model.weight.dtype == torch.bfloat16
    assert exact.model.weight.dtype == torch.float32
    assert (exact.precision, exact.specs["pooled"]["precision"], exact.is_cast) == (EXACT, EXACT, False)


def test_autocast_is_used_where_only_that_agrees(monkeypatch):
    set_cosines(monkeypatch, weights=0.99, autocast=0.99995)
    lowered, _ = load(tower())
    assert lowered.model.weight.dtype == torch.float32
    assert lowered.specs["pooled"]["precision"] == "bfloat16"
    assert lowered.provenance()["backend"] == "torch, autocast to bfloat16"
    with lowered.arithmetic():
        assert lowered.model(torch.zeros(1, 16)).dtype == torch.bfloat16


def test_other_vectors_are_an_error_unless_the_least_cosine_is_lower(monkeypatch):
    set_cosines(monkeypatch, weights=0.9976, autocast=0.9992)
    with pytest.raises(WeightsError, match=r"cosine of 0\.99920.*less than 0\.9999: .*--min-cosine"):
        load(tower())
    assert way_of(load(tower("float16"))[0]) == AUTOCAST  # which needs .999 only
    assert way_of(load(tower(), PrecisionRule(least_cosine=0.99))[0]) == WEIGHTS


@pytest.mark.parametrize(
    ("name", "way", "cosine"), [("bfloat16", AUTOCAST, "0.99920"), (WEIGHTS_SPEC, WEIGHTS, "0.99760")]
)
@pytest.mark.parametrize("compared", [True, False])
def test_a_declared_precision_keeps_its_way_and_leaves_a_warning(monkeypatch, name, way, cosine, compared):
    set_cosines(monkeypatch, weights=0.9976, autocast=0.9992)
    examples = (lambda: READY) if compared else None
    lowered, notes = loaded(tower(name), "cpu", PrecisionRule.decided(None), examples)
    assert (lowered.precision, lowered.specs["pooled"]["precision"]) == ("bfloat16", name)
    assert way_of(lowered) == way
    assert [cosine in note for note in notes] == [True] * compared


def test_a_way_that_the_rule_leaves_out_is_not_used(monkeypatch):
    set_cosines(monkeypatch, weights=0.99, autocast=0.99995)
    with pytest.raises(WeightsError, match=r"cosine of 0\.99000"):
        load(tower(), PrecisionRule(ways=(WEIGHTS,)))


def test_a_faster_precision_is_reported_and_not_used_unless_it_is_asked_for(monkeypatch):
    rule = PrecisionRule(if_faster="reported")
    exact, notes = load(tower(EXACT), rule)
    assert exact.specs["pooled"]["precision"] == EXACT
    line = "pooled: bfloat16 would be 2.0 times as fast as float32 here: --precision fast uses it"
    assert notes == [line]
    set_cosines(monkeypatch, weights=0.9998)
    assert load(LinearTower({"pooled": {"precision": EXACT}}), rule, READY[:9])[1] == []


def test_an_automatic_choice_that_fails_is_float32_and_reported(monkeypatch):
    set_cosines(monkeypatch, weights=0.9976, autocast=0.9992)
    exact, notes = load(tower("float16"), PrecisionRule(least_cosine=0.9999, on_failure="float32"))
    assert (exact.precision, exact.specs["pooled"]["precision"]) == (EXACT, EXACT)
    assert exact.model.weight.dtype == torch.float32
    assert notes == ["pooled: float16 has a cosine of 0.99920 to float32, less than 0.9999: float32 is used"]


def test_vectors_that_are_not_finite_do_not_agree():
    large = [row * 1e6 for row in READY]  # float16 ends at 65,504
    exact, notes = load(tower("float16"), PrecisionRule(on_failure="float32"), large)
    assert exact.precision == EXACT
    assert "cosine of -1" in notes[0]


@pytest.mark.parametrize(("speed", "factor"), [(0.2, "5.0 times slower"), (0.99, ""), (3.0, "")])
def test_a_slower_precision_is_reported(speeds, speed, factor):
    speeds["weights"] = speed
    _, notes = load(tower())
    assert [factor in note for note in notes] == ([True] if factor else [])


@pytest.mark.parametrize(
    ("speed", "cosine_to_float32", "expected", "rule", "precision_used"),
    [
        (2.0, 1.0, precision.MIN_INPUTS, FAST, "bfloat16"),
        (1.0, 1.0, precision.MIN_INPUTS, FAST, EXACT),
        (2.0, 0.9998, precision.MIN_INPUTS, FAST, EXACT),
        (2.0, 1.0, precision.MIN_INPUTS - 1, FAST, EXACT),
        (2.0, 1.0, precision.MIN_INPUTS, PrecisionRule(), EXACT),
    ],
)
def test_fast_takes_bfloat16_if_it_is_faster_and_equal_and_there_are_many_inputs(
    monkeypatch, speeds, speed, cosine_to_float32, expected, rule, precision_used
):
    speeds["weights"] = speed
    set_cosines(monkeypatch, weights=cosine_to_float32)
    chosen, notes = load(tower(EXACT, expected), rule)
    assert chosen.precision == precision_used
    assert chosen.specs["pooled"]["precision"] == (EXACT if precision_used == EXACT else WEIGHTS_SPEC)
    refused = precision_used == EXACT and cosine_to_float32 < 1
    assert bool(notes) == (precision_used != EXACT or refused)
    assert all("float32 is used" in note if refused else "and is used" in note for note in notes)


def test_results_are_kept_and_measured_again_if_they_are_damaged(kept):
    first, _ = load(tower())
    (path,) = kept.iterdir()
    again, _ = loaded(tower(), "cpu", None, lambda: pytest.fail("compared again"))
    assert (again.cosine, way_of(again)) == (first.cosine, WEIGHTS)
    path.write_text("{")
    assert load(tower())[0].cosine == first.cosine
    load(LinearTower({"pooled": {"weights": "b", "precision": "bfloat16"}}))
    assert len([*kept.iterdir()]) == 2


def test_results_on_few_inputs_are_not_kept(kept):
    load(tower(), ready=READY[:3])
    assert not kept.exists() or not [*kept.iterdir()]


@pytest.mark.parametrize("examples", [None, list])
def test_without_inputs_nothing_is_compared(examples):
    lowered, notes = loaded(tower(WEIGHTS_SPEC), "cpu", None, examples)
    assert (way_of(lowered), lowered.cosine, notes) == (WEIGHTS, None, [])
    assert loaded(tower(EXACT), "cpu", FAST, examples)[0].precision == EXACT


def test_a_tower_that_is_loaded_again_is_in_float32_first():
    lowered, _ = load(tower())
    again, _ = loaded(lowered, "cpu")
    assert again.model.weight.dtype == torch.bfloat16
    assert again.encode(READY)["pooled"] == pytest.approx(lowered.encode(READY)["pooled"])


def test_speed_is_that_of_the_second_tower_relative_to_the_first(monkeypatch):
    monkeypatch.undo()
    exact = tower(EXACT)
    exact.load("cpu")
    slower = precision.lowered_copy(exact, EXACT, AUTOCAST)
    slower.encode = lambda batch: [exact.encode(batch) for _ in range(30)]
    assert precision._speed(exact, slower, READY) < 0.5
    assert precision._speed(slower, exact, READY) > 2


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([3, 4], [4, 3], 0.96),
        ([1, 0], [0, 1], 0),
        ([0, 0], [0, 0], 1),
        ([1, np.nan], [1, 2], -1),
        ([1], [1, 2], -1),
    ],
)
def test_cosine(a, b, expected):
    assert cosine(np.array(a, np.float32), np.array(b, np.float32)) == pytest.approx(expected)
