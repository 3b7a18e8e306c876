"""What is encoded for a recipe."""

import open_clip
import torch

from encode_once.cache import Store
from encode_once.extract.provider import Provider

ARCH = "ViT-S-32-alt"


def test_only_the_towers_of_the_features_run(folder, tmp_path):
    weights, name = tmp_path / "clip.pt", f"open_clip:{ARCH}"
    torch.save(open_clip.create_model(ARCH).state_dict(), weights)
    store = Store(tmp_path / "store")
    Provider(str(folder(3)), store, {name: str(weights)}).make([f"{name}/image"])
    assert store.features() == [f"{name}/image"]
