import pytest
from huggingface_hub import constants


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """The hub is never contacted: if it is unreachable, that takes half a minute."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
