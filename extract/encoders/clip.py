"""CLIP and similar models through open_clip: a vector per image and per caption, in a common space.

Vectors are stored as the towers return them, not normalised: heads standardise their inputs. For cosine
similarities, divide by the norm.
"""

from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from dataclasses import asdict
from functools import cached_property
from types import SimpleNamespace
from typing import Any

from PIL.Image import Image

from encode_once.cache import UsageError
from encode_once.extract.encoders.base import (
    RANDOM,
    Options,
    Tower,
    Vectors,
    beginning,
    cut_remarks,
    identity,
    seeded_weights,
)
from encode_once.extract.encoders.catalogue import model_name
from encode_once.extract.encoders.image_network import GRID, ImageNetwork, check_patches, regions
from encode_once.extract.encoders.weights import weights_errors
from encode_once.extract.errors import UnknownEncoderError
from encode_once.extract.images.decode import decoding
from encode_once.extract.images.framing import decoded_side, framing

POSITIONS = "visual.positional_embedding"  # in state dicts


class Checkpoint:
    """An open_clip model, which is loaded when `model` is first used."""

    def __init__(self, name: str, options: Options) -> None:
        import open_clip

        arch, tag = model_name(name).partition("/")[::2]
        config = open_clip.get_model_config(arch)
        if config is None:
            raise UnknownEncoderError(f"open_clip has no architecture {arch}: see open_clip.list_models()")
        published = open_clip.get_pretrained_cfg(arch, tag)
        if tag and not published:
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(arch)) or "none"
            raise UnknownEncoderError(f"open_clip has no weights {tag} for {arch}: choose from {tags}")
        if not tag and not options.weights:
            raise UnknownEncoderError(f"{name} names no weights: use {name}/TAG, or --weights")
        self.name, self.arch, self.tag, self.options = name, arch, tag, options
        self.quick_gelu = bool(config.get("quick_gelu") or published.get("quick_gelu"))
        self.preprocessing = open_clip.transform.merge_preprocess_dict(
            asdict(open_clip.transform.PreprocessCfg()),
            {**published, "size": config["vision_cfg"]["image_size"]},
        )
        self.context_length = config["text_cfg"].get("context_length", 77)
        self.tokenizer = config["text_cfg"].get("hf_tokenizer_name", "")  # on the hub; "": open_clip has it

    def spec(self, **tower: str | int) -> dict[str, str | int | float | bool]:
        """Everything that determines a tower's values."""
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
        """The model, on the CPU, in evaluation mode.

        Raises:
            WeightsError: the weights cannot be downloaded or read, or do not fit.
        """
        import open_clip

        weights = self.options.weights
        if weights:
            problem, remedy = f"--weights {weights} do not load as {self.arch}", ""
        else:
            problem = f"{self.name}: the weights {self.arch}/{self.tag} could not be downloaded"
            remedy = "download them on a machine with network access and give the file with --weights PATH"
        with weights_errors(problem, remedy):
            model = open_clip.create_model(
                self.arch,
                pretrained=None if weights == RANDOM else weights or self.tag,
                force_quick_gelu=self.quick_gelu,
                pretrained_text=False,  # otherwise a random model would download its text tower
                require_pretrained=weights != RANDOM,
            )
        return model.eval()


class ClipImages(ImageNetwork):
    """The image tower."""

    libraries = ("torch", "open_clip_torch", "torchvision", "timm", "pillow")

    def __init__(self, checkpoint: Checkpoint) -> None:
        config = checkpoint.preprocessing
        view = checkpoint.options.view
        mode, mean, std = (config[key] for key in ("resize_mode", "mean", "std"))
        size = self._size = view.size or config["size"]
        frame = framing(view, size if isinstance(size, int) else min(size), config["interpolation"], mean)
        shorter_side = decoded_side(view, frame, size if isinstance(size, int) else min(size))
        crop = "" if mode == "squash" else "|center_crop"
        own = f"resize({size},{mode},{config['interpolation']},antialias){crop}"
        preprocess = f"{decoding(shorter_side)}|{frame or own}|normalize({mean},{std})"
        specs = {"image": checkpoint.spec(preprocess=preprocess, pooling="projected, not normalised")}
        if checkpoint.options.regions:
            pooling = f"last feature map, normalised by the tower|means of {GRID}x{GRID} regions"
            specs["regions"] = checkpoint.spec(preprocess=preprocess, pooling=pooling)
        self.checkpoint = checkpoint
        super().__init__(specs, checkpoint.options, shorter_side, mean, std, frame)

    def build_model(self) -> Any:
        visual, size = self.checkpoint.model.visual, self.view.size
        return resized(visual, size) if size else visual

    def transform(self) -> Callable[[Image], Any]:
        from open_clip.transform import PreprocessCfg, image_transform_v2
        from torchvision.transforms import v2

        config = PreprocessCfg(**{**self.checkpoint.preprocessing, "size": self._size})
        # The last two convert to float and normalise, which ImageNetwork does on the device.
        *steps, _, _ = image_transform_v2(config, is_train=False).transforms
        to_pixels: Callable[[Image], Any] = v2.Compose([*steps, v2.PILToTensor()])
        return to_pixels

    def vectors(self, model: Any, images: Any) -> tuple[Any, ...]:
        if not self.options.regions:
            return (model(images),)
        outputs = model.forward_intermediates(images, indices=1, normalize_intermediates=True)
        return outputs["image_features"], regions(outputs["image_intermediates"][-1])


class ClipCaptions(Tower):
    """The caption tower."""

    modality = "caption"
    parallel = True
    casts = True
    backend = "torch"
    libraries = ("torch", "open_clip_torch", "transformers")
    cpu_batch = 64

    def __init__(self, checkpoint: Checkpoint) -> None:
        spec = checkpoint.spec(
            tokenizer=f"open_clip:{checkpoint.arch}",
            context=checkpoint.context_length,
            pooling="projected, not normalised",
        )
        super().__init__({"text": spec})
        self._checkpoint = checkpoint
        self.context = checkpoint.context_length  # tokens
        self._cut: list[None] = []  # one for each caption longer than the context

    def load(self, device: str) -> None:
        import open_clip

        self.device = device
        repository = self._checkpoint.tokenizer
        problem = f"{self._checkpoint.name}: its tokenizer {repository} could not be downloaded"
        remedy = f"copy {repository} from the Hugging Face cache of a machine with network access"
        with weights_errors(problem, remedy):
            # One per context: tokenizers of transformers keep it as state that threads share.
            self._tokenizers = [
                open_clip.get_tokenizer(self._checkpoint.arch, context_length=length)
                for length in (self._checkpoint.context_length, self._checkpoint.context_length + 1)
            ]
        self._blank = [tokenizer([""])[0] for tokenizer in self._tokenizers]
        self.model = _shallow_copy(self._checkpoint.model.to(device))
        del self.model.visual  # which a cast would copy

    @property
    def tokenizer(self) -> Any:
        """open_clip's, once the tower is loaded."""
        return self._tokenizers[0]

    def prepare(self, item: str) -> Any:
        tokenizer, longer = self._tokenizers
        blank, longer_blank = self._blank
        text = beginning(item, self._checkpoint.context_length)
        ids = tokenizer([text])[0]  # (context,)
        # Padding differs between tokenizers. But a caption that was cut fills the whole context, and one
        # token more if the context is one token longer.
        full = ids[-2] != blank[-2]
        if len(text) < len(item) or (
            full and (longer([text])[0] != longer_blank).sum() > (ids != blank).sum()
        ):
            self._cut.append(None)  # atomic, and keeps no text
        return ids

    def remarks(self) -> list[str]:
        return cut_remarks(len(self._cut), self._checkpoint.context_length)

    def encode(self, batch: Sequence[Any]) -> dict[str, Vectors]:
        import torch

        padded = torch.stack(list(batch)).to(self.device)  # (b, context)
        with torch.inference_mode(), self.arithmetic():
            model, ids = trimmed(self.model, padded)
            vectors = model.encode_text(ids)
        return {"text": vectors.float().cpu().numpy()}


def trimmed(model: Any, ids: Any) -> tuple[Any, Any]:
    """A text tower and token ids (b, context), both cut after the last end-of-text token of the batch.

    The vectors do not change: in a causal tower tokens attend to earlier tokens only, and the vector is read
    at the end-of-text token, so that later tokens, mostly padding, have no influence. Towers with
    bidirectional attention (SigLIP), that read another token (CoCa) or that are not open_clip's keep their
    context, because their vectors depend on the padding.
    """
    import torch

    text, prefix = (model.text, "") if hasattr(model, "text") else (model, "text_")
    causal_mask = getattr(text, "attn_mask", None)
    pooling = getattr(text, f"{prefix}pool_type", None)
    if causal_mask is None or pooling not in ("argmax", "eos") or getattr(text, "cls_emb", None) is not None:
        return model, ids
    ends = ids if pooling == "argmax" else (ids == getattr(text, f"{prefix}eos_id")).int()
    length = int(ends.argmax(dim=1).max()) + 1
    short = _shallow_copy(text)  # other threads use the tower at the same time
    short.positional_embedding = torch.nn.Parameter(text.positional_embedding[:length], requires_grad=False)
    short.attn_mask = causal_mask[:length, :length]
    if text is model:
        return short, ids[:, :length]
    short_model = _shallow_copy(model)
    short_model.text = short
    return short_model, ids[:, :length]


def resized(visual: Any, size: int) -> Any:
    """A copy of an image tower for images of size × size pixels; position embeddings are interpolated.

    Raises:
        UsageError: the tower cannot take them.
    """
    import torch
    from open_clip.model import resize_pos_embed

    if hasattr(visual, "set_input_size"):  # timm's
        check_patches(getattr(visual.trunk, "patch_embed", None), size)
        sized = deepcopy(visual)
        sized.set_input_size(size)
        return sized
    embedding = getattr(visual, "positional_embedding", None)
    if embedding is None:  # a ResNet's pooling has a position for each cell of the map
        raise UsageError(
            f"view of {size} pixels: the network takes {visual.image_size} only; leave out the size"
        )
    check_patches(visual, size)
    sized = _shallow_copy(visual)
    sized.image_size = size, size
    sized.grid_size = tuple(size // patch for patch in visual.patch_size)
    state = {POSITIONS: embedding.detach()}
    resize_pos_embed(state, SimpleNamespace(visual=sized))
    sized.positional_embedding = torch.nn.Parameter(state[POSITIONS], requires_grad=False)
    return sized


def _shallow_copy(module: Any) -> Any:
    """A module that shares tensors and submodules; replacing one does not change the original."""
    copied = copy(module)
    for kind in ("_parameters", "_buffers", "_modules"):
        setattr(copied, kind, dict(getattr(module, kind)))
    return copied


def towers(name: str, options: Options) -> list[Tower]:
    """The image and the caption tower of one checkpoint."""
    checkpoint = Checkpoint(name, options)
    return [ClipImages(checkpoint), ClipCaptions(checkpoint)]
