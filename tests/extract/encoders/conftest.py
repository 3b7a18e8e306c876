import pytest
import timm
from huggingface_hub import constants


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """The hub is never contacted: if it is unreachable, that takes half a minute."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def shallow(monkeypatch):
    """Networks of timm have one block in each stage, and are built in a tenth of the time.

    It is a mapping, to which a test may add other settings of transformers.
    """
    create, transformer = timm.create_model, {"depth": 1}

    def create_shallow(name, **settings):
        module = timm.model_entrypoint(name.split(".")[0]).__module__.rpartition(".")[2]
        if module in ("vision_transformer", "vision_transformer_hybrid", "eva", "deit", "vitamin"):
            settings |= transformer
        elif module == "fastvit":
            settings["layers"] = (1,) * (5 if name.endswith(("mci3", "mci4")) else 4)
        return create(name, **settings)

    monkeypatch.setattr(timm, "create_model", create_shallow)
    return transformer
