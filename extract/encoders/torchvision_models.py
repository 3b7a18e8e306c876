"""Classic ImageNet networks through torchvision: the vector before the classifier, and the logits."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from PIL.Image import Image

from encode_once.extract.encoders.base import RANDOM, Options, Tower, identity, seeded_weights
from encode_once.extract.encoders.catalogue import model_name
from encode_once.extract.encoders.image_network import ImageNetwork
from encode_once.extract.encoders.weights import weights_errors
from encode_once.extract.images.decode import decoding
from encode_once.extract.images.framing import decoded_side, framing

TAG = "IMAGENET1K_V1"  # the original weights, which papers use

# Their published weights need mean = std = 0.5; the models convert from ImageNet's normalisation.
RESCALING = ("inception_v3", "googlenet")
# torchvision's builders set these only if they download the weights. Auxiliary classifiers are used only in
# training.
AS_PUBLISHED = {"transform_input": True, "aux_logits": False, "init_weights": False}
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")


def towers(name: str, options: Options) -> list[Tower]:
    """The tower of a network."""
    return [ClassifierImages(name, options)]


@seeded_weights()
def build(name: str, architecture: str, tag: str, weights: str | None, **settings: Any) -> Any:
    """A torchvision model in evaluation mode with its published weights, those of a file, or random ones.

    Raises:
        WeightsError: the weights cannot be downloaded or read, or do not fit.
    """
    import torch
    from torchvision.models import get_model

    with weights_errors(f"{name}: no weights", "give torchvision's file with --weights PATH"):
        if weights is None:
            return get_model(architecture, weights=tag, progress=False, **settings).eval()
        if architecture in RESCALING:
            settings |= AS_PUBLISHED
        model = get_model(architecture, weights=None, **settings)
        if weights != RANDOM:
            state = torch.load(weights, map_location="cpu", weights_only=True)
            model.load_state_dict(_current_names(state))
        return model.eval()


def _current_names(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict without auxiliary classifiers and with the current names of DenseNet's layers.

    The published DenseNet file has `denselayer1.norm.1.weight`, the module `denselayer1.norm1.weight`.
    """
    keys = (key for key in state if not key.startswith(AUXILIARY))
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", key): state[key] for key in keys}


class ClassifierImages(ImageNetwork):
    """`pooled` (d,), the input of the last linear layer, and `logits` (1000,), its output."""

    libraries = ("torch", "torchvision", "pillow")

    def __init__(self, name: str, options: Options) -> None:
        from torchvision.models import get_model_weights

        self._name = name
        self._architecture = model_name(name)
        config = self._preprocessing = get_model_weights(self._architecture)[TAG].transforms()
        if size := options.view.size:
            config.resize_size = [round(size * config.resize_size[0] / config.crop_size[0])]
            config.crop_size = [size]
        interpolation, crop = config.interpolation.value, config.crop_size[0]
        frame = framing(options.view, crop, interpolation, config.mean)
        resized = config.resize_size[0]
        shorter_side = decoded_side(options.view, frame, resized)
        own = f"resize({resized},{interpolation},antialias)|crop(center,{crop})"
        preprocess = f"{decoding(shorter_side)}|{frame or own}|normalize({config.mean},{config.std})"
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
        super().__init__(specs, options, shorter_side, config.mean, config.std, frame)

    def build_model(self) -> Any:
        import torch

        model = build(self._name, self._architecture, TAG, self.options.weights)
        linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
        # The last linear layer is moved out of the network, so that its input and its output are available.
        parts = {"classifier": model.get_submodule(linear[-1]), "body": model}
        model.set_submodule(linear[-1], torch.nn.Identity())
        return torch.nn.ModuleDict(parts)

    def transform(self) -> Callable[[Image], Any]:
        from torchvision.transforms import v2

        config = self._preprocessing
        resize = v2.Resize(config.resize_size, config.interpolation)
        to_pixels: Callable[[Image], Any] = v2.Compose(
            [resize, v2.CenterCrop(config.crop_size), v2.PILToTensor()]
        )
        return to_pixels

    def vectors(self, model: Any, images: Any) -> tuple[Any, ...]:
        pooled = model["body"](images)
        return pooled, model["classifier"](pooled)
