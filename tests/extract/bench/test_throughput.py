import pytest

from encode_once.extract.bench.throughput import rates, text

TINY, OTHER = "timm:test_vit", "timm:test_resnet"


def test_on_shared_cores_the_seconds_of_the_parts_add_up_to_the_limit(folder):
    result = rates(str(folder(9)), [TINY], weights={TINY: "random"}, device="cpu", images=6, repeats=1)
    assert result["images"] == 6
    assert result["limit_per_s"] == pytest.approx(
        1 / (1 / result["decode_per_s"] + 1 / result["model_per_s"])
    )
    assert result["end_to_end_over_limit"] == pytest.approx(
        result["end_to_end_per_s"] / result["limit_per_s"]
    )
    assert result["arithmetic"][TINY]["gflop_per_image"] > 0
    assert f"{result['end_to_end_over_limit']:.2f} of the limit" in text(result)


@pytest.mark.real
def test_scripts_give_the_same_vectors(folder):
    result = rates(
        str(folder(5)),
        [TINY],
        weights={TINY: "random"},
        device="cpu",
        repeats=1,
        scripts=True,
        backend="torch",
    )
    (script,) = result["scripts"]
    assert script["images"] == 5
    assert script["with_data_loader_differs_by"] < 1e-4
    assert script["with_threads_differs_by"] < 1e-4
    assert "DataLoader, 2 workers" in text(result)


@pytest.mark.slow
def test_several_encoders_are_timed_one_by_one_and_together(folder):
    weights = {TINY: "random", OTHER: "random"}
    result = rates(str(folder(5)), [TINY, OTHER], weights=weights, device="cpu", repeats=1)
    seconds = result["seconds"]
    alone = seconds[f"end to end {TINY}"] + seconds[f"end to end {OTHER}"] - seconds["picture"]
    assert result["together_over_alone_less_decoding"] == pytest.approx(seconds["end to end"] / alone)
    assert result["model_per_s"] == pytest.approx(5 / (seconds[f"model {TINY}"] + seconds[f"model {OTHER}"]))
