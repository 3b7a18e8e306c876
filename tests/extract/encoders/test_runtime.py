"""Torch and onnxruntime give the same vectors; the requested or the faster one runs."""

import numpy as np
import pytest
import torch

from encode_once.cache import Store
from encode_once.extract import ComputeOptions, encode
from encode_once.extract.encoders import runtime, towers
from encode_once.extract.encoders.base import Options
from encode_once.extract.errors import WeightsError

MANY = runtime.MIN_INPUTS
TINY = "timm:test_efficientnet"
OPTIONS = Options("random", backend="onnxruntime")


@pytest.fixture(autouse=True)
def exports(tmp_path, monkeypatch):
    """A temporary folder for exported networks."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def network():
    torch.manual_seed(0)
    head = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
    body = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.SiLU(), *head)
    module = torch.nn.Module()
    module.body = body
    module.forward = lambda pixels: (body(pixels / 255), body(pixels / 510))
    return module.eval()


@pytest.fixture
def run(network):
    """The network as the towers run it: a function."""
    return lambda batch: network(batch)


@pytest.fixture
def images():
    return pixels(4)


def pixels(number):
    return torch.randint(256, (number, 3, 32, 32), dtype=torch.uint8)


def choose(network, run, images, options, expected):
    return runtime.choose(network, run, images, options, expected, SPECS)


SPECS = {"pooled": {"weights": "a"}, "half": {"weights": "a"}}


@torch.inference_mode()
def test_onnxruntime_gives_the_vectors_of_torch_for_any_batch(network, run, images):
    chosen, name = choose(network, run, images, Options(backend="onnxruntime"), 0)
    assert chosen is not run
    assert name == "onnxruntime"
    for size in (1, 3, 7):
        batch = pixels(size).to(memory_format=torch.channels_last)
        torch.testing.assert_close(chosen(batch), network(batch), atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_an_export_is_cached_for_its_specs(network, run, images, monkeypatch):
    first, _ = choose(network, run, images, Options(backend="onnxruntime"), 0)
    (exported,) = runtime.exports_folder().glob("*.onnx")
    monkeypatch.setattr(runtime, "_export", lambda *_: pytest.fail("exported again"))
    again, name = choose(network, run, images, Options(backend="onnxruntime"), 0)
    assert name == "onnxruntime"
    torch.testing.assert_close(again(images), first(images))
    monkeypatch.undo()
    monkeypatch.setattr(runtime, "exports_folder", lambda: exported.parent)
    runtime.choose(
        network, run, images, Options(backend="onnxruntime"), 0, {**SPECS, "half": {"weights": "b"}}
    )
    assert len(list(exported.parent.iterdir())) == 2


@torch.inference_mode()
def test_a_damaged_export_is_replaced(network, run, images):
    choose(network, run, images, Options(backend="onnxruntime"), 0)
    (exported,) = runtime.exports_folder().glob("*.onnx")
    exported.write_bytes(exported.read_bytes()[:100])
    chosen, name = choose(network, run, images, Options(backend="onnxruntime"), 0)
    assert name == "onnxruntime"
    torch.testing.assert_close(chosen(images), network(images), atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_networks_are_not_exported_for_few_inputs(network, run, images, monkeypatch):
    monkeypatch.setattr(runtime, "_export", lambda *_: pytest.fail("exported for few inputs"))
    assert choose(network, run, images, Options(backend="auto"), MANY - 1) == (run, "torch")
    assert choose(network, run, images, Options(backend="torch"), MANY) == (run, "torch")
    assert choose(network, run, images, Options(precision="bfloat16"), MANY) == (run, "torch")


def test_onnxruntime_with_another_precision_is_an_error(network, run, images):
    with pytest.raises(WeightsError, match="not in bfloat16"):
        choose(network, run, images, Options(precision="bfloat16", backend="onnxruntime"), MANY)


@torch.inference_mode()
@pytest.mark.parametrize("faster", ["torch", "onnxruntime"])
def test_auto_chooses_the_faster(network, run, images, monkeypatch, faster):
    slower = {True: 1, False: 2} if faster == "torch" else {True: 2, False: 1}
    monkeypatch.setattr(runtime, "_seconds", lambda measured, _: slower[measured is run])
    chosen, name = choose(network, run, images, Options(backend="auto"), MANY)
    assert name == faster
    assert (chosen is run) == (faster == "torch")


@torch.inference_mode()
def test_auto_uses_torch_if_the_export_fails(network, run, images, monkeypatch):
    def impossible(*_):
        raise ImportError("no module named onnxruntime")

    monkeypatch.setattr(runtime, "_exported", impossible)
    assert choose(network, run, images, Options(backend="auto"), MANY) == (run, "torch")
    with pytest.raises(WeightsError, match=r"pip install 'encode-once\[onnxruntime\]'"):
        choose(network, run, images, Options(backend="onnxruntime"), 0)


@torch.inference_mode()
def test_a_runtime_with_different_vectors_is_not_used(network, run, images, monkeypatch):
    monkeypatch.setattr(runtime, "_exported", lambda *_: lambda batch: tuple(v * 1.001 for v in run(batch)))
    monkeypatch.setattr(runtime, "_seconds", lambda measured, _: 2 if measured is run else 1)
    assert choose(network, run, images, Options(backend="auto"), MANY) == (run, "torch")
    with pytest.raises(WeightsError, match="differ from torch's"):
        choose(network, run, images, Options(backend="onnxruntime"), 0)


def test_both_runtimes_store_the_same_rows(folder, tmp_path):
    root, rows = folder(5), {}
    for backend in ("torch", "onnxruntime"):
        encode(
            root,
            [TINY],
            tmp_path / backend,
            weights={TINY: "random"},
            compute=ComputeOptions(backend=backend),
        )
        store = Store(tmp_path / backend)
        (table,) = store.tables()
        rows[backend] = store.feature(f"{TINY}+random/pooled").read(table.keys("image")).astype(np.float32)
    scale = np.linalg.norm(rows["torch"], axis=1).max()
    np.testing.assert_allclose(rows["onnxruntime"], rows["torch"], atol=1e-3 * scale)
    assert store.feature(f"{TINY}+random/pooled").record.provenance["backend"] == "onnxruntime"


@torch.inference_mode()
def test_a_failed_export_is_an_error_of_one_line_and_prints_nothing_to_stdout(capfd):
    network = torch.nn.Module()
    network.forward = lambda pixels: (torch.linalg.eigvals(pixels.float()[0, 0]).abs(),)
    square = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    with pytest.raises(WeightsError, match="eigvals") as caught:
        choose(network, network, square, Options(backend="onnxruntime"), 0)
    assert "\n" not in str(caught.value)
    assert choose(network, network, square, Options(backend="auto"), MANY) == (network, "torch")
    print("a result")
    assert capfd.readouterr().out == "a result\n"


@torch.inference_mode()
def test_transformers_are_exported_and_torchs_fast_path_is_restored():
    (tower,) = [t for t in towers("open_clip:ViT-S-32-alt", OPTIONS) if t.modality == "image"]
    tower.load("cpu")
    assert tower.backend == "onnxruntime"
    assert torch.backends.mha.get_fastpath_enabled()
