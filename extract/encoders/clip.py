"""CLIP and its kin through open_clip: one vector an image, one a caption, in a common space.

The vectors are stored as the towers give them, not normalised: heads standardise, and whoever wants cosines
divides by the norm.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import asdict
from functools import cached_property
from typing import Any

from PIL.Image import Image

from encode_once.cache.errors import brief
from encode_once.extract.encoders.base import (
    RANDOM,
    Options,
    Tower,
    Vectors,
    arithmetic,
    cut_remarks,
    identity,
    seeded_weights,
)
from encode_once.extract.encoders.catalogue import HUB, Card, on_hub
from encode_once.extract.encoders.image_network import GRID, ImageNetwork, regions
from encode_once.extract.errors import UnknownEncoderError, WeightsError
from encode_once.extract.images.decode import decoding

# name → open_clip's architecture and pretrained tag
NAMES = {
    "clip-vit-b32": ("ViT-B-32-quickgelu", "openai"),
    "clip-vit-b16": ("ViT-B-16-quickgelu", "openai"),
    "clip-vit-l": ("ViT-L-14-quickgelu", "openai"),
    "clip-vit-l-336": ("ViT-L-14-336-quickgelu", "openai"),
    "clip-vit-h": ("ViT-H-14", "laion2b_s32b_b79k"),
    "clip-vit-bigg": ("ViT-bigG-14", "laion2b_s39b_b160k"),
    "clip-rn50": ("RN50-quickgelu", "openai"),
    "siglip-b16": ("ViT-B-16-SigLIP", "webli"),
    "siglip-l16-384": ("ViT-L-16-SigLIP-384", "webli"),
    "siglip-so400m": ("ViT-SO400M-14-SigLIP", "webli"),
    "siglip-so400m-384": ("ViT-SO400M-14-SigLIP-384", "webli"),
    "siglip2-b16": ("ViT-B-16-SigLIP2", "webli"),
    "siglip2-so400m-384": ("ViT-SO400M-16-SigLIP2-384", "webli"),
    "mobileclip-s1": ("MobileCLIP-S1", "datacompdr"),
    "mobileclip-s2": ("MobileCLIP-S2", "datacompdr"),
    "mobileclip-b": ("MobileCLIP-B", "datacompdr"),
}
LICENCES = {
    "openai": "MIT",
    "laion2b": "MIT",
    "webli": "Apache-2.0",
    "datacompdr": "Apple ML research",
    "mscoco": "MIT",
}
PREFIX = "open_clip:"  # then ARCH/TAG, or ARCH alone with --weights


class Checkpoint:
    """An open_clip model: what it is at once, the model itself when first asked for."""

    def __init__(self, name: str, options: Options) -> None:
        import open_clip

        arch, tag = NAMES[name] if name in NAMES else name.removeprefix(PREFIX).partition("/")[::2]
        config = open_clip.get_model_config(arch)
        if config is None:
            raise UnknownEncoderError(f"open_clip has no architecture {arch}: see open_clip.list_models()")
        published = open_clip.get_pretrained_cfg(arch, tag)
        if tag and not published:
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(arch)) or "none"
            raise UnknownEncoderError(f"open_clip has no weights {tag} of {arch}: it has {tags}")
        if not tag and not options.weights:
            raise UnknownEncoderError(f"{name} names no weights: say {name}/TAG, or give --weights")
        self.name, self.arch, self.tag, self.options = name, arch, tag, options
        self.quick_gelu = bool(config.get("quick_gelu") or published.get("quick_gelu"))
        self.preprocessing = open_clip.transform.merge_preprocess_dict(
            asdict(open_clip.transform.PreprocessCfg()),
            {**published, "size": config["vision_cfg"]["image_size"]},
        )
        self.context_length = config["text_cfg"].get("context_length", 77)

    def spec(self, **tower: str | int) -> dict[str, str | int | float | bool]:
        """What decides a tower's values."""
        return {
            "encoder": "open_clip",
            "architecture": self.arch,
            "weights": identity(self.options.weights, f"open_clip:{self.tag}"),
            "activation": "quick_gelu" if self.quick_gelu else "as the architecture says",
            "precision": self.options.precision,
            **tower,
        }

    @cached_property
    @seeded_weights()
    def model(self) -> Any:
        """The model, on the CPU, ready to encode.

        Raises:
            WeightsError: they cannot be fetched, read, or do not fit.
        """
        import open_clip

        weights = self.options.weights
        try:
            model = open_clip.create_model(
                self.arch,
                pretrained=None if weights == RANDOM else weights or self.tag,
                force_quick_gelu=self.quick_gelu,
                pretrained_text=False,  # a random model must not fetch half of itself
                require_pretrained=weights != RANDOM,
            )
        except Exception as error:  # hubs, files and state dicts fail in many ways; each means: no weights
            if weights:
                raise WeightsError(
                    f"--weights {weights} do not load as {self.arch}: {brief(error)}"
                ) from error
            raise WeightsError(
                f"{self.name}: the weights {self.arch}/{self.tag} could not be fetched ({brief(error)}); "
                "fetch them where there is a network and give the file with --weights PATH"
            ) from error
        return model.eval()


class ClipImages(ImageNetwork):
    """The image tower."""

    libraries = ("torch", "open_clip_torch", "torchvision", "timm", "pillow")

    def __init__(self, checkpoint: Checkpoint) -> None:
        how = checkpoint.preprocessing
        shorter_side = how["size"] if isinstance(how["size"], int) else min(how["size"])
        crop = "" if how["resize_mode"] == "squash" else "|center_crop"
        preprocess = (
            f"{decoding(shorter_side)}|resize({how['size']},{how['resize_mode']},{how['interpolation']},"
            f"antialias){crop}|normalize({how['mean']},{how['std']})"
        )
        specs = {"image": checkpoint.spec(preprocess=preprocess, pooling="projected, not normalised")}
        if checkpoint.options.regions:
            pooling = f"last feature map, normalised by the tower|means of {GRID}x{GRID} regions"
            specs["regions"] = checkpoint.spec(preprocess=preprocess, pooling=pooling)
        self.checkpoint = checkpoint
        super().__init__(specs, checkpoint.options, shorter_side, how["mean"], how["std"])

    def build_model(self) -> Any:
        return self.checkpoint.model.visual

    def transform(self) -> Callable[[Image], Any]:
        from open_clip.transform import PreprocessCfg, image_transform_v2
        from torchvision.transforms import v2

        how = PreprocessCfg(**self.checkpoint.preprocessing)
        # The last two make floats of the pixels and normalise them: that is done where the network runs.
        *steps, _, _ = image_transform_v2(how, is_train=False).transforms
        to_pixels: Callable[[Image], Any] = v2.Compose([*steps, v2.PILToTensor()])
        return to_pixels

    def vectors(self, model: Any, images: Any) -> tuple[Any, ...]:
        if not self.options.regions:
            return (model(images),)
        found = model.forward_intermediates(images, indices=1, normalize_intermediates=True)
        return found["image_features"], regions(found["image_intermediates"][-1])


class ClipCaptions(Tower):
    """The caption tower."""

    modality = "caption"
    parallel = True
    libraries = ("torch", "open_clip_torch", "transformers")
    cpu_batch = 64

    def __init__(self, checkpoint: Checkpoint) -> None:
        how = checkpoint.spec(
            tokenizer=f"open_clip:{checkpoint.arch}",
            context=checkpoint.context_length,
            pooling="projected, not normalised",
        )
        super().__init__({"text": how})
        self._checkpoint = checkpoint
        self._cut: list[str] = []  # captions longer than the context

    def load(self, device: str) -> None:
        import open_clip

        self.device = device
        self.model = self._checkpoint.model.to(device)
        try:
            # One for each context: those of transformers keep it as a state, which threads share.
            self._tokenizers = [
                open_clip.get_tokenizer(self._checkpoint.arch, context_length=length)
                for length in (self._checkpoint.context_length, self._checkpoint.context_length + 1)
            ]
        except OSError as error:
            message = f"{self._checkpoint.name}: its tokenizer could not be fetched ({brief(error)})"
            raise WeightsError(message) from error
        self._blank = [tokenizer([""])[0] for tokenizer in self._tokenizers]

    def prepare(self, item: str) -> Any:
        tokenizer, longer = self._tokenizers
        blank, longer_blank = self._blank
        ids = tokenizer([item])[0]  # (context,)
        # Where a caption ends and padding begins is each tokenizer's own; but one that was cut fills the
        # context up to its end, and a place more where there is one more.
        if ids[-2] != blank[-2] and (longer([item])[0] != longer_blank).sum() > (ids != blank).sum():
            self._cut.append(item)  # list.append is one step, whatever the thread
        return ids

    def remarks(self) -> list[str]:
        return cut_remarks(len(self._cut), self._checkpoint.context_length)

    def encode(self, batch: Sequence[Any]) -> dict[str, Vectors]:
        import torch

        whole = torch.stack(list(batch)).to(self.device)  # (b, context)
        with torch.inference_mode(), arithmetic(self.device, self._checkpoint.options.precision):
            model, ids = trimmed(self.model, whole)
            vectors = model.encode_text(ids)
        return {"text": vectors.float().cpu().numpy()}


def trimmed(model: Any, ids: Any) -> tuple[Any, Any]:
    """A text tower, and token ids (b, context), both cut after the batch's last end-of-text.

    No value changes: a causal tower's tokens see none behind them, and its vector is read at the end-of-text,
    so what is cut, mostly padding, has no say. Towers that look both ways (SigLIP), read another token (CoCa)
    or are not open_clip's own keep their context: what they give depends on the padding.
    """
    import torch

    text, prefix = (model.text, "") if hasattr(model, "text") else (model, "text_")
    causal_mask = getattr(text, "attn_mask", None)
    pooling = getattr(text, f"{prefix}pool_type", None)
    if causal_mask is None or pooling not in ("argmax", "eos") or getattr(text, "cls_emb", None) is not None:
        return model, ids
    ends = ids if pooling == "argmax" else (ids == getattr(text, f"{prefix}eos_id")).int()
    length = int(ends.argmax(dim=1).max()) + 1
    cut = _twin(text)  # other threads use the tower meanwhile
    cut.positional_embedding = torch.nn.Parameter(text.positional_embedding[:length], requires_grad=False)
    cut.attn_mask = causal_mask[:length, :length]
    if text is model:
        return cut, ids[:, :length]
    whole = _twin(model)
    whole.text = cut
    return whole, ids[:, :length]


def _twin(module: Any) -> Any:
    """A module with the same tensors and submodules, of which some can be replaced in this one alone."""
    twin = copy(module)
    for kind in ("_parameters", "_buffers", "_modules"):
        setattr(twin, kind, dict(getattr(module, kind)))
    return twin


def towers(name: str, options: Options) -> list[Tower]:
    """The image and the caption tower of one checkpoint."""
    checkpoint = Checkpoint(name, options)
    return [ClipImages(checkpoint), ClipCaptions(checkpoint)]


def card(name: str, names: Mapping[str, tuple[str, str]] = NAMES) -> Card:
    """What is known of a checkpoint before it is made."""
    if name == PREFIX:
        return Card("image, text, regions", "as the model says", "its own", HUB, here=False)
    import open_clip

    arch, tag = names[name]
    config = open_clip.get_model_config(arch)
    repository = open_clip.get_pretrained_cfg(arch, tag).get("hf_hub", "").strip("/")
    dim, context = config["embed_dim"], config["text_cfg"].get("context_length", 77)
    return Card(
        f"image {dim}, text {dim}, regions",
        f"{config['vision_cfg']['image_size']} px, {context} tokens",
        LICENCES[tag.partition("_")[0]],
        HUB,
        here=on_hub(repository, ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]),
    )
