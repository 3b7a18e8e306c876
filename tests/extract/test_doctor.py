"""What is checked of the GPU, the formats, the weights and the data."""

import threading
import time

import pytest
import torch
from PIL import features

from encode_once.extract import doctor
from encode_once.extract.encoders import catalogue
from encode_once.extract.encoders.catalogue import HUB, PACKAGED, TORCH_SITE, EncoderInfo


def encoder(weights, package="", extra=""):
    return EncoderInfo("m", "pooled 2", "9 px", "MIT", weights, package=package, extra=extra)


ENCODERS = {
    "packaged": encoder(PACKAGED),
    "hub-a": encoder(HUB),
    "hub-b": encoder(HUB),
    "file": encoder("--weights file.txt"),
    "absent": encoder(HUB, "no_such_package", "more"),
    "any:": encoder(HUB),
}


@pytest.fixture
def network(monkeypatch):
    """A function that lets only these sites answer."""

    def answering(*sites):
        monkeypatch.setattr(catalogue, "answers", lambda site: site in sites)

    return answering


def test_weights_are_here_reachable_or_out_of_reach(network):
    network(HUB)
    assert [check.text() for check in doctor.weights(ENCODERS)] == [
        "PASS  weights: here: packaged",
        f"PASS  weights: {HUB}: to be fetched: hub-a, hub-b",
        "PASS  weights: needs --weights file.txt: file",
        "PASS  weights: needs pip install 'encode-once[more]': absent",
    ]
    network()
    warnings = [check for check in doctor.weights(ENCODERS) if check.state == "WARN"]
    assert [check.finding for check in warnings] == [f"{HUB}: out of reach: hub-a, hub-b"]
    assert "--weights FILE" in warnings[0].remedy


def test_no_encoder_that_can_run_fails(network):
    network()
    *_, last = doctor.weights({"hub-a": ENCODERS["hub-a"], "file": ENCODERS["file"]})
    assert (last.state, last.remedy) == ("FAIL", "pip install 'encode-once[demo]'")


def test_a_site_that_neveranswers_is_left_after_the_time_limit(monkeypatch):
    waiting = threading.Event()

    def connect(address, timeout):
        waiting.wait()
        raise OSError

    monkeypatch.setattr(catalogue, "TIMEOUT", 0.05)
    monkeypatch.setattr("socket.create_connection", connect)
    start = time.perf_counter()
    assert not catalogue.answers.__wrapped__(TORCH_SITE)
    assert time.perf_counter() - start < 5  # rather than for ever
    waiting.set()


def test_a_gpu_that_torch_cannot_use_is_a_warning(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert doctor.gpu("").state == "PASS"
    check = doctor.gpu("H200, 550.54, 143771 MiB")
    assert (check.state, check.finding.startswith("H200, 550.54, 143771 MiB, which cannot be used")) == (
        "WARN",
        True,
    )


def test_a_format_that_cannot_be_decoded(monkeypatch):
    monkeypatch.setattr(features, "check", lambda name: name != "avif")
    assert ("WARN", "Pillow cannot decode AVIF") in [(c.state, c.finding) for c in doctor.formats()]
    monkeypatch.setattr(features, "check", lambda name: name != "jpg")
    assert ("FAIL", "Pillow cannot decode JPEG") in [(c.state, c.finding) for c in doctor.formats()]


def test_missing_images_are_counted_with_an_example(folder):
    root = folder(6)
    (root / "data" / "2.png").unlink()
    table, warning = doctor.of_data(str(root), root / "store")
    assert (table.state, "6 rows; images: the ids are their names: 5 found" in table.finding) == (
        "PASS",
        True,
    )
    assert warning.state == "WARN"
    assert "rows without an image file: 1" in warning.finding
    assert "'2.png'" in warning.finding


def test_data_without_labels_or_none_at_all(folder, tmp_path, monkeypatch):
    root = folder(3)
    (root / "train.csv").write_text("ImageID,Caption\n0.png,a dog\n1.png,a cat\n")
    assert "no table has labels" in [check.finding for check in doctor.of_data(str(root), root / "store")]
    (check,) = doctor.of_data(str(tmp_path / "photoz"), tmp_path / "store")
    assert (check.state, "no such file or folder" in check.finding) == ("FAIL", True)
    monkeypatch.chdir(root / "data")
    (check,) = doctor.of_data(None, tmp_path / "store")
    assert check.state == "PASS"
