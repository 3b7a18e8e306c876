"""CLIP and its kin through open_clip: one vector an image, one a caption, in a common space.

The vectors are stored as the towers give them, not normalised: heads standardise, and whoever wants cosines
divides by the norm.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from typing import Any

from PIL.Image import Image

from cache.errors import brief
from extract.encoders.base import (
    RANDOM,
    Options,
    Tower,
    Vectors,
    arithmetic,
    cut_remarks,
    identity,
    seed_weights,
)
from extract.errors import UnknownEncoderError, WeightsError
from extract.images import DECODING

ABOUT = "open_clip: an image and a caption vector"
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
    def model(self) -> Any:
        """The model, on the CPU, ready to encode.

        Raises:
            WeightsError: they cannot be fetched, read, or do not fit.
        """
        import open_clip

        weights = self.options.weights
        seed_weights()
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


class ClipImages(Tower):
    """The image tower."""

    modality = "image"
    libraries = ("torch", "open_clip_torch", "torchvision", "timm", "pillow")

    def __init__(self, checkpoint: Checkpoint) -> None:
        how = checkpoint.preprocessing
        crop = "" if how["resize_mode"] == "squash" else "|center_crop"
        preprocess = (
            f"{DECODING}|resize({how['size']},{how['resize_mode']},{how['interpolation']},antialias){crop}"
            f"|normalize({how['mean']},{how['std']})"
        )
        super().__init__(
            {"image": checkpoint.spec(preprocess=preprocess, pooling="projected, not normalised")}
        )
        self._checkpoint = checkpoint

    def load(self, device: str) -> None:
        from open_clip.transform import PreprocessCfg, image_transform_v2

        self.device = device
        self._model = self._checkpoint.model.to(device)
        self._transform = image_transform_v2(PreprocessCfg(**self._checkpoint.preprocessing), is_train=False)

    def prepare(self, item: Image) -> Any:
        return self._transform(item)  # (3, size, size)

    def encode(self, batch: Sequence[Any]) -> dict[str, Vectors]:
        import torch

        with torch.inference_mode(), arithmetic(self.device, self._checkpoint.options.precision):
            vectors = self._model.encode_image(torch.stack(list(batch)).to(self.device))
        return {"image": vectors.float().cpu().numpy()}


class ClipCaptions(Tower):
    """The caption tower."""

    modality = "caption"
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
        self._model = self._checkpoint.model.to(device)
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
        with (
            torch.inference_mode(),
            arithmetic(self.device, self._checkpoint.options.precision),
            trimmed(self._model, whole) as ids,
        ):
            vectors = self._model.encode_text(ids)
        return {"text": vectors.float().cpu().numpy()}


@contextmanager
def trimmed(model: Any, ids: Any) -> Iterator[Any]:
    """Token ids (b, context) cut after the batch's last end-of-text, for a text tower cut alike meanwhile.

    No value changes: a causal tower's tokens see none behind them, and its vector is read at the end-of-text,
    so what is cut, mostly padding, has no say. Towers that look both ways (SigLIP), read another token (CoCa)
    or are not open_clip's own keep their context: what they give depends on the padding.
    """
    import torch

    text, prefix = (model.text, "") if hasattr(model, "text") else (model, "text_")
    causal_mask = getattr(text, "attn_mask", None)
    pooling = getattr(text, f"{prefix}pool_type", None)
    if causal_mask is None or pooling not in ("argmax", "eos") or getattr(text, "cls_emb", None) is not None:
        yield ids
        return
    ends = ids if pooling == "argmax" else (ids == getattr(text, f"{prefix}eos_id")).int()
    length = int(ends.argmax(dim=1).max()) + 1
    positions = text.positional_embedding  # (context, width)
    try:
        text.positional_embedding = torch.nn.Parameter(positions[:length], requires_grad=False)
        text.attn_mask = causal_mask[:length, :length]
        yield ids[:, :length]
    finally:
        text.positional_embedding, text.attn_mask = positions, causal_mask


def towers(name: str, options: Options) -> list[Tower]:
    """The image and the caption tower of one checkpoint."""
    checkpoint = Checkpoint(name, options)
    return [ClipImages(checkpoint), ClipCaptions(checkpoint)]
