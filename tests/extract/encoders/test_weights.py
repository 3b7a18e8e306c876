"""Weights that cannot be had are an error within seconds, and libraries print no bars of their own."""

import sys

import pytest
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from transformers.utils import logging

from encode_once.cache import Store
from encode_once.extract import encode
from encode_once.extract.encoders import catalogue, check_reachable
from encode_once.extract.encoders.weights import quiet_downloads, without_hub_bars
from encode_once.extract.errors import WeightsError


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr("encode_once.extract.encoders.answers", lambda site: False)


def test_weights_out_of_reach_are_an_error_before_the_library_tries(folder, tmp_path, offline, monkeypatch):
    monkeypatch.setattr("open_clip.create_model", lambda *_, **__: pytest.fail("the library tried"))
    store = Store(tmp_path / "store")
    with pytest.raises(WeightsError, match=r"clip-vit-b32: .* huggingface.co does not answer; .*--weights"):
        encode(folder(2), ["glove-50", "clip-vit-b32"], store)
    assert (store.features(), store.headers()) == ([], [])


@pytest.mark.parametrize("name", ["glove-50", "efficientnet-lite0", "timm:test_vit", "code.py:Class"])
def test_other_encoders_need_no_site(offline, name):
    check_reachable(name)


def test_weights_that_are_here_need_no_site(offline, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=r"download.pytorch.org does not answer; fetch resnet50-\w+.pth"):
        check_reachable("resnet50")
    file = catalogue.torch_download("resnet50-0676ba61.pth")
    file.parent.mkdir(parents=True)
    file.touch()
    check_reachable("resnet50")


@pytest.mark.parametrize(
    ("site", "variables", "address"),
    [
        ("huggingface.co", {}, ("huggingface.co", 443)),
        ("huggingface.co", {"HF_ENDPOINT": "https://mirror.example"}, ("mirror.example", 443)),
        ("huggingface.co", {"HF_ENDPOINT": "http://mirror.example:8080/x"}, ("mirror.example", 8080)),
        ("download.pytorch.org", {"HF_ENDPOINT": "https://mirror.example"}, ("download.pytorch.org", 443)),
        ("download.pytorch.org", {"https_proxy": "http://proxy:3128"}, ("proxy", 3128)),
        ("download.pytorch.org", {"https_proxy": "http://proxy"}, ("proxy", 80)),
        (
            "huggingface.co",
            {"https_proxy": "http://proxy", "no_proxy": "huggingface.co"},
            ("huggingface.co", 443),
        ),
    ],
)
def test_sites_are_reached_by_the_proxy_or_mirror_that_is_set(monkeypatch, site, variables, address):
    for name in (
        "HF_ENDPOINT",
        "https_proxy",
        "HTTPS_PROXY",
        "no_proxy",
        "NO_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert catalogue._address(site) == address


def test_a_model_of_transformers_is_loaded_without_its_bar(folder, tmp_path, capfd):
    encode(folder(2), ["minilm"], tmp_path / "store")
    assert "Loading weights" not in "".join(capfd.readouterr())
    assert logging.is_progress_bar_enabled()
    assert not are_progress_bars_disabled()


@pytest.mark.parametrize("disabled", [True, False])
def test_the_hubs_bars_are_hidden_and_left_as_they_were(monkeypatch, disabled):
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS", raising=False)
    if disabled:
        disable_progress_bars()
    try:
        with without_hub_bars():
            assert are_progress_bars_disabled()
        assert are_progress_bars_disabled() == disabled
    finally:
        enable_progress_bars()


def test_downloads_have_their_bar_on_a_terminal(monkeypatch):
    for terminal in (True, False):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal)
        with quiet_downloads():
            assert are_progress_bars_disabled() != terminal
