"""ImageNet's classic networks through torchvision: the vector before the classifier, and its logits."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from PIL.Image import Image

from encode_once.cache.errors import brief
from encode_once.extract.encoders.base import RANDOM, Options, Tower, identity, seeded_weights
from encode_once.extract.encoders.catalogue import Card, from_torch
from encode_once.extract.encoders.image_network import ImageNetwork
from encode_once.extract.errors import WeightsError
from encode_once.extract.images.decode import decoding

# name → torchvision's builder, and the dimensions of what enters the last linear layer
NAMES = {
    "alexnet": ("alexnet", 4096),
    "vgg16": ("vgg16", 4096),
    "resnet50": ("resnet50", 2048),
    "densenet121": ("densenet121", 1024),
    "resnext50": ("resnext50_32x4d", 2048),
    "inception-v3": ("inception_v3", 2048),
    "googlenet": ("googlenet", 1024),
}
PREFIX = None
TAG = "IMAGENET1K_V1"  # the original weights, which papers and reports used
SITE, LICENCE = "download.pytorch.org", "BSD-3-Clause"

# Their published weights want mean = std = 0.5, and the models make it of ImageNet's.
RESCALING = ("inception_v3", "googlenet")
# What torchvision's builders set for them, but only where they fetch the weights themselves. Auxiliary
# classifiers serve training alone.
AS_PUBLISHED = {"transform_input": True, "aux_logits": False, "init_weights": False}
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")


def towers(name: str, options: Options) -> list[Tower]:
    """The one tower of a network."""
    return [ClassifierImages(name, options)]


@seeded_weights()
def build(name: str, architecture: str, tag: str, weights: str | None, **how: Any) -> Any:
    """A torchvision model in evaluation mode with its published weights, those of a file, or random ones.

    Raises:
        WeightsError: they cannot be fetched, read, or do not fit.
    """
    import torch
    from torchvision.models import get_model

    try:
        if weights is None:
            return get_model(architecture, weights=tag, progress=False, **how).eval()
        if architecture in RESCALING:
            how |= AS_PUBLISHED
        model = get_model(architecture, weights=None, **how)
        if weights != RANDOM:
            model.load_state_dict(_today(torch.load(weights, map_location="cpu", weights_only=True)))
        return model.eval()
    except Exception as error:  # hubs, files and state dicts fail in many ways; each means: no weights
        raise WeightsError(
            f"{name}: no weights ({brief(error)}); give torchvision's file with --weights PATH"
        ) from error


def _today(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict without auxiliary classifiers, and with DenseNet's layers named as they are now.

    The published DenseNet file says `denselayer1.norm.1.weight`, the module `denselayer1.norm1.weight`.
    """
    kept = (key for key in state if not key.startswith(AUXILIARY))
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", key): state[key] for key in kept}


class ClassifierImages(ImageNetwork):
    """`pooled`, the vector that enters the last linear layer, and `logits` (1000,), what leaves it."""

    libraries = ("torch", "torchvision", "pillow")

    def __init__(self, name: str, options: Options) -> None:
        from torchvision.models import get_model_weights

        self._name = name
        self._architecture, _ = NAMES[name]
        how = self._published = get_model_weights(self._architecture)[TAG].transforms()
        preprocess = (
            f"{decoding(how.resize_size[0])}|resize({how.resize_size[0]},{how.interpolation.value},antialias)"
            f"|crop(center,{how.crop_size[0]})|normalize({how.mean},{how.std})"
        )
        if self._architecture in RESCALING:
            preprocess += "|transform_input(mean=std=0.5)"
        spec = {
            "encoder": "torchvision",
            "architecture": self._architecture,
            "weights": identity(options.weights, f"torchvision:{TAG}"),
            "preprocess": preprocess,
            "precision": options.precision,
        }
        specs = {
            "pooled": {**spec, "pooling": "what enters the last linear layer"},
            "logits": {**spec, "pooling": "what leaves the last linear layer"},
        }
        super().__init__(specs, options, how.resize_size[0], how.mean, how.std)

    def build_model(self) -> Any:
        import torch

        model = build(self._name, self._architecture, TAG, self.options.weights)
        linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
        # The last linear layer is taken out of the network and applied after it, so that both ends are seen.
        parts = {"classifier": model.get_submodule(linear[-1]), "body": model}
        model.set_submodule(linear[-1], torch.nn.Identity())
        return torch.nn.ModuleDict(parts)

    def transform(self) -> Callable[[Image], Any]:
        from torchvision.transforms import v2

        how = self._published
        to_pixels: Callable[[Image], Any] = v2.Compose(
            [v2.Resize(how.resize_size, how.interpolation), v2.CenterCrop(how.crop_size), v2.PILToTensor()]
        )
        return to_pixels

    def vectors(self, model: Any, images: Any) -> tuple[Any, ...]:
        pooled = model["body"](images)
        return pooled, model["classifier"](pooled)


def card(name: str) -> Card:
    """What is known of a network before it is made."""
    from torchvision.models import get_model_weights

    architecture, dim = NAMES[name]
    weights = get_model_weights(architecture)[TAG]
    size = weights.transforms().crop_size[0]
    return Card(f"pooled {dim}, logits 1000", f"{size} px", LICENCE, SITE, here=from_torch(weights.url))
