"""Word vectors in the files that people have: GloVe's, word2vec's and fastText's, packed or not."""

import gzip
import zipfile

import numpy as np
import pytest
from gensim.models import KeyedVectors
from hypothesis import given
from hypothesis import strategies as st

from encode_once.cache import Store
from encode_once.extract import encode
from encode_once.extract.encoders.word_vectors import read_word_vectors
from encode_once.extract.errors import WeightsError

TEXT = "dog 1 2 3\ncat 4 5 6\n. . . 7 8 9\nat name@domain.com -1 0 .5\n"
ROWS = {"dog": [1, 2, 3], "cat": [4, 5, 6], ". . .": [7, 8, 9], "at name@domain.com": [-1, 0, 0.5]}


def content(path, dim=3):
    words = read_word_vectors(path, dim)
    return {word: words.vectors[row].tolist() for word, row in words.rows.items()}


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"4 3\n{TEXT}",
        f"4 3\n{TEXT}".replace("\n", " \n"),  # as fastText writes
        f"{TEXT}\n",
        TEXT.replace("\n", "\r\n"),
        TEXT.replace("\n", "\n\n").rstrip("\n"),
        f"\ufeff{TEXT}",
        TEXT.replace("dog ", "dog\t"),
    ],
    ids=["glove", "word2vec", "fasttext", "empty line", "windows", "empty lines", "mark", "tab"],
)
def test_the_last_numbers_of_a_line_are_the_vector_and_the_rest_the_word(tmp_path, text):
    (tmp_path / "x.vec").write_bytes(text.encode())
    assert content(tmp_path / "x.vec") == ROWS
    assert read_word_vectors(tmp_path / "x.vec", 3).remarks == []


def test_packed_files_are_read_without_unpacking(tmp_path):
    (tmp_path / "x.txt.gz").write_bytes(gzip.compress(TEXT.encode()))
    assert content(tmp_path / "x.txt.gz") == ROWS
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("glove.6B.50d.txt", "dog 1\n")
        archive.writestr("glove.6B.3d.txt", TEXT)
        archive.writestr("__MACOSX/._glove.6B.3d.txt", "x")
    assert content(tmp_path / "x.zip") == ROWS
    with pytest.raises(
        WeightsError, match=r"hold glove.6B.50d.txt, glove.6B.3d.txt, and none or several with 4d"
    ):
        read_word_vectors(tmp_path / "x.zip", 4)
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as archive:
        archive.writestr("vectors.vec", TEXT)
    assert content(tmp_path / "one.zip") == ROWS


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("dog 1 2", "dog 1 2"),
        ("1 2 3", "1 2 3"),
        ("dog 1 x 3", "dog 1 x 3"),
        ("dog 1 nan 3", "dog 1 nan 3"),
        ("dog 1 2 1e39", "dog 1 2 1e39"),
        ("d\x1b[31mg 1 2", r"d\\x1b\[31mg 1 2"),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path, line, shown):
    (tmp_path / "x.txt").write_text(f"4 3\n\n{TEXT}{line}\n{TEXT}")
    with pytest.raises(WeightsError, match=rf"x.txt:7: expected a word and 3 numbers, found '{shown}"):
        read_word_vectors(tmp_path / "x.txt", 3)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (TEXT, "hold 3-d vectors, not 2-d"),
        (f"4 3\n{TEXT}", "hold 3-d vectors, not 2-d"),
        ("", "hold no word vectors"),
        ("0 2\n", "hold no word vectors"),
        ("2 2\nin \0\0\x80?\0\0 \0", "are binary; save them as text"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, text, problem):
    (tmp_path / "x.txt").write_text(text)
    with pytest.raises(WeightsError, match=problem):
        read_word_vectors(tmp_path / "x.txt", 2)


def test_fewer_words_than_announced_and_words_that_come_again_are_reported(tmp_path):
    (tmp_path / "x.txt").write_text("9 1\na 1\nb 2\na 3\nc 4\n")  # one column: no header
    (tmp_path / "y.txt").write_text("9 2\na 1 1\nb 2 2\na 3 3\n")
    words = read_word_vectors(tmp_path / "x.txt", 1)
    assert words.remarks == [f"{tmp_path}/x.txt holds 1 words again: the first vector of each was used"]
    assert words.vectors[words.rows["a"]] == 1
    assert (
        read_word_vectors(tmp_path / "y.txt", 2)
        .remarks[0]
        .endswith("holds 3 words; its first line announces 9")
    )


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1),
        min_size=1,
        unique=True,
    ),
    st.integers(2, 9),
)
def test_what_gensim_writes_is_read_as_gensim_reads_it(tmp_path_factory, words, dim):
    path = tmp_path_factory.mktemp("vectors") / "x.txt"
    vectors = KeyedVectors(dim)
    vectors.add_vectors(words, np.random.default_rng(len(words)).normal(size=(len(words), dim)).astype("f"))
    vectors.save_word2vec_format(path)
    again = KeyedVectors.load_word2vec_format(path)
    assert content(path, dim) == {word: again[word].tolist() for word in again.index_to_key}


def test_captions_have_the_same_vectors_from_any_file(folder, tmp_path):
    root = folder(4)
    plain = "".join(
        f"{w} {' '.join([str(n)] * 100)}\n" for n, w in enumerate(["dog", "cat", "a", "boat", "car"])
    )
    values = []
    for name, text in {
        "plain": plain,
        "other": f"6 100\nthis . . . {' '.join(['5'] * 100)}\n{plain}\n",
    }.items():
        file, store = tmp_path / f"{name}.vec", Store(tmp_path / name)
        file.write_text(text)
        report = encode(root, ["glove-100"], store, weights={"glove-100": str(file)}, progress=False)
        assert report.features["glove-100/mean"].encoded == 4
        keys = store.tables()[0].caption_keys
        values.append(store.feature("glove-100/mean").read(keys))
    np.testing.assert_array_equal(values[0], values[1])
