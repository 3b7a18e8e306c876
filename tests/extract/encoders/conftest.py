import pytest
from huggingface_hub import constants


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """The hub is never asked: where it cannot be reached, that takes half a minute."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
