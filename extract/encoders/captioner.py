"""Captioners generate a caption for each image, stored as text. `--captions NAME` encodes these captions.

Decoding is greedy: each next token is the most likely one, so that a caption depends on its image alone, not
on random numbers or on the batch.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL.Image import Image, new

from encode_once.cache.views import OWN_VIEW
from encode_once.extract.encoders import transformers_models
from encode_once.extract.encoders.base import RANDOM, Options, Texts, Tower, seeded_weights
from encode_once.extract.encoders.catalogue import model_name
from encode_once.extract.encoders.clip import Checkpoint, ClipImages
from encode_once.extract.images.decode import DECODING

LONGEST = 30  # tokens, the same limit as open_clip's; COCO's captions have about 12
GREEDY = f"greedy, at most {LONGEST} tokens"
FOLDER = "a folder with config.json, model.safetensors and its processor's files"
FILES = transformers_models.FILES | {
    "architecture": ("config.json", "generation_config.json"),
    "preprocess": ("preprocessor_config.json", "processor_config.json"),
}


def towers(name: str, options: Options) -> list[Tower]:
    """The tower of a captioner, which has no views: texts cannot be averaged."""
    options = replace(options, view=OWN_VIEW)
    return [CocaCaptioner(name, options) if name.startswith("coca-") else TransformerCaptioner(name, options)]


def as_rows(captions: Sequence[str]) -> Texts:
    """Captions as arrays of UTF-8 bytes, as the store keeps them; a blank caption has no bytes."""
    return [np.frombuffer(caption.strip().encode(), np.uint8)[:, None] for caption in captions]


class CocaCaptioner(ClipImages):
    """`text`: the caption that CoCa (through open_clip) generates for an image.

    open_clip's own `generate` needs a beam search that was removed in transformers 5.
    """

    casts, compares = False, False

    def __init__(self, name: str, options: Options) -> None:
        # torch only: the loop in `_write` cannot be exported
        checkpoint = Checkpoint(name, replace(options, backend="torch"))
        super().__init__(checkpoint)
        preprocess = str(self.specs["image"]["preprocess"])
        self.specs = {
            "text": {"modality": "image", **checkpoint.spec(preprocess=preprocess, decoding=GREEDY)},
        }

    def build_model(self) -> Any:
        import open_clip
        import torch

        model = self.checkpoint.model
        if self.options.weights == RANDOM:
            with seeded_weights():  # open_clip does not initialise this matrix
                torch.nn.init.normal_(model.text_decoder.text_projection, std=0.02)
        self._tokenizer = open_clip.get_tokenizer(self.checkpoint.arch)
        return model

    def vectors(self, model: Any, images: Any) -> tuple[Any, ...]:
        return (self._write(model, images),)

    def encode(self, batch: Sequence[Any]) -> dict[str, Texts]:
        (ids,) = self.compute(batch)
        return {"text": as_rows([self._read(tokens) for tokens in ids.tolist()])}

    def _write(self, model: Any, images: Any) -> Any:
        """Token ids (b, at most LONGEST) of captions; ignore those after an end-of-text token."""
        import torch

        start, end = self._tokenizer.sot_token_id, self._tokenizer.eot_token_id
        encoded = model(images)
        inputs = {"image_latent": encoded["image_features"], "image_embs": encoded["image_embs"]}
        ids = torch.full((len(images), 1), start, device=self.device)
        while ids.shape[1] < LONGEST and not (ids == end).any(dim=1).all():
            logits = model(None, ids, **inputs, output_labels=False)["logits"]  # (b, so far, vocabulary)
            ids = torch.cat([ids, logits[:, -1:].argmax(dim=-1)], dim=1)
        return ids[:, 1:]

    def _read(self, ids: list[int]) -> str:
        end = self._tokenizer.eot_token_id
        text: str = self._tokenizer.decode(ids[: ids.index(end)] if end in ids else ids)
        return text


class TransformerCaptioner(Tower):
    """`text`: the caption that an image-to-text model of transformers, such as BLIP, generates."""

    modality = "image"
    compares = False
    libraries = ("torch", "transformers", "tokenizers", "torchvision", "pillow")

    def __init__(self, name: str, options: Options) -> None:
        self._name, self._options = name, options
        local = transformers_models.local_folder(name, options.weights, FOLDER)
        self._source = local or model_name(name)
        identities = transformers_models.identities(self._source, options.weights, FILES)
        spec = {
            "encoder": "transformers",
            **identities,
            "preprocess": f"{DECODING}|{identities['preprocess']}",
            "decoding": f"{GREEDY}; penalties and the like as generation_config.json says",
            "precision": options.precision,
        }
        super().__init__({"text": spec})

    def load(self, device: str) -> None:
        self.device = device
        with transformers_models.loading(self._name, self._source, "a captioner", FOLDER):
            self._load_model()
            self.encode([self.prepare(new("RGB", (64, 64)))])  # fail now if the model needs a prompt

    @seeded_weights()
    def _load_model(self) -> None:
        from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

        self._processor = AutoProcessor.from_pretrained(self._source, trust_remote_code=False)
        if self._options.weights == RANDOM:
            config = AutoConfig.from_pretrained(self._source, trust_remote_code=False)
            model = AutoModelForImageTextToText.from_config(config)
        else:
            model, info = AutoModelForImageTextToText.from_pretrained(
                self._source, use_safetensors=True, output_loading_info=True, trust_remote_code=False
            )
            if missing := sorted(info["missing_keys"]):  # transformers fills them with random numbers
                raise ValueError(f"{len(missing)} weights are missing: {missing[0]} …")
        self._model = model.float().eval().to(self.device)

    def prepare(self, item: Image) -> Any:
        return self._processor(images=item, return_tensors="pt")["pixel_values"][0]  # (3, h, w)

    def encode(self, batch: Sequence[Any]) -> dict[str, Texts]:
        import torch

        pixels = torch.stack(list(batch)).to(self.device)
        with torch.inference_mode(), self.arithmetic():
            ids = self._model.generate(
                pixel_values=pixels, do_sample=False, num_beams=1, max_new_tokens=LONGEST
            )
        return {"text": as_rows(self._processor.batch_decode(ids, skip_special_tokens=True))}
