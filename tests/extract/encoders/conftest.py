import huggingface_hub
import pytest


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """The hub is never asked: where it cannot be reached, that takes half a minute."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
