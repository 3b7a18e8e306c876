"""Files of word vectors as GloVe, word2vec and fastText publish them: a word and its numbers per line."""

import codecs
import gzip
import math
import zipfile
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from statistics import mode

import numpy as np

from encode_once.extract.encoders.base import Vectors
from encode_once.extract.errors import WeightsError

FIRST_LINES = 100  # the number of columns is the most frequent one among them: a word may hold blanks
LARGEST = float(np.finfo(np.float32).max)


@dataclass
class WordVectors:
    """Word → row of the vectors (words, d), and what is odd about the file, a line each."""

    rows: dict[str, int]
    vectors: Vectors
    remarks: list[str]


def read_word_vectors(path: Path, dim: int) -> WordVectors:
    """Read a text file of word vectors, or one in a .gz or .zip.

    The last `dim` numbers of a line are the vector, and all before them is the word, which may hold blanks.
    A first line of two whole numbers announces words and columns. Empty lines are skipped; of a word that
    is there several times, the first vector counts.

    Raises:
        WeightsError: a line has no word, or not `dim` finite numbers; or the archive holds no such file.
        OSError, EOFError, zlib.error: the file cannot be read.
    """
    with _opened(path, dim) as file:
        without_mark = chain([next(file, b"").removeprefix(codecs.BOM_UTF8)], file)
        lines = ((number, line) for number, line in enumerate(without_mark, start=1) if line.strip())
        first = list(islice(lines, FIRST_LINES))
        announced = _announced(path, first[0][1], dim) if first else None
        if announced is not None:
            del first[0]
        if not first:
            raise WeightsError(f"--weights {path} hold no word vectors: there is no line with a word")
        if b"\0" in first[0][1]:
            raise WeightsError(
                f"--weights {path} are binary; save them as text, as gensim's save_word2vec_format does"
            )
        columns = mode(len(line.split()) for _, line in first) - 1
        if columns != dim:
            raise WeightsError(f"--weights {path} hold {columns}-d vectors, not {dim}-d")
        return _parsed(path, chain(first, lines), dim, announced)


def _parsed(path: Path, lines: Iterable[tuple[int, bytes]], dim: int, announced: int | None) -> WordVectors:
    rows: dict[str, int] = {}
    values = array("f")
    words = 0
    for number, line in lines:
        word, *numbers = line.rsplit(None, dim)  # bytes: only ASCII blanks separate
        try:
            vector = [float(text) for text in numbers]
            name = word.strip().decode()
        except ValueError:  # also of a word that is not UTF-8
            vector = []
        if len(vector) != dim or not math.hypot(*vector) <= LARGEST:  # nor is NaN
            shown = " ".join(ascii(line[:40].decode(errors="replace"))[1:-1].split())
            raise WeightsError(
                f"{path}:{number}: expected a word and {dim} numbers, found '{shown}…'; "
                "repair or remove this line"
            )
        words += 1
        if name not in rows:
            rows[name] = len(rows)
            values.extend(vector)
    remarks = []
    if announced is not None and announced != words:
        remarks.append(f"{path} holds {words} words; its first line announces {announced}")
    if words > len(rows):
        remarks.append(f"{path} holds {words - len(rows)} words again: the first vector of each was used")
    return WordVectors(rows, np.frombuffer(values, np.float32).reshape(-1, dim), remarks)


def _announced(path: Path, line: bytes, dim: int) -> int | None:
    """The number of words in a header of word2vec or fastText; None if the line is not a header."""
    fields = line.split()
    if len(fields) != 2 or not all(field.isdigit() for field in fields) or dim == 1:
        return None
    words, columns = map(int, fields)
    if columns != dim:
        raise WeightsError(f"--weights {path} hold {columns}-d vectors, not {dim}-d")
    return words


@contextmanager
def _opened(path: Path, dim: int) -> Iterator[Iterator[bytes]]:
    """The text file, decompressed; of a .zip, its only file or the one that is named after the columns.

    Raises:
        WeightsError: no file of the .zip is.
    """
    if path.suffix.lower() != ".zip":
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        names = [name for name in names if not name.startswith("__MACOSX/")]
        matching = names if len(names) == 1 else [name for name in names if f"{dim}d" in name]
        if len(matching) != 1:
            raise WeightsError(
                f"--weights {path} hold {', '.join(names[:10]) or 'no file'}, and none or several with "
                f"{dim}d in their name; unpack the one with {dim} columns and name it"
            )
        with archive.open(matching[0]) as file:
            yield file
