import logging

import numpy as np
import pytest
from gensim import models
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save
from sklearn.feature_extraction.text import TfidfVectorizer

from encode_once.cache import DataError, UsageError
from encode_once.classify.data.text import embeddings, is_learned, make_vectoriser
from encode_once.classify.data.text.words import pack, unpack, words
from tests.conftest import examples

SUBJECTS = ["Woman", "man", "dog's owner", "two  zebras", "Émile", "a cat"]
VERBS = ["holding", "rides", "near", "don't see"]
OBJECTS = ["a train", "the surf-board", "an umbrella!", "frisbee", "skate board", "钟楼塔"]
CAPTIONS = [f"{subject} {verb} {thing}." for subject in SUBJECTS for verb in VERBS for thing in OBJECTS]
CAPTIONS += [
    "",
    "?! a",
    "woman",
    "a giraffe on a hill: a giraffe, a hill and a longer caption behind it",
]
NAMES = ["tfidf:10", "tfidf:500", "word2vec:6/mean", "word2vec:6/tokens", "word2vec-cbow:6/tokens"]
NAMES += ["fasttext:6/mean", "fasttext:6/tokens"]

caption_lists = st.lists(
    st.one_of(
        st.sampled_from(CAPTIONS),
        st.text(max_size=20),
        st.lists(st.sampled_from(["train", "zebras", "giraffes", "unseen", "woman"])).map(" ".join),
    ),
    max_size=8,
)


@pytest.fixture(scope="module", autouse=True)
def few_epochs():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embeddings, "EPOCHS", 2)
        patch.setattr(embeddings, "BUCKETS", 500)
        yield


@pytest.fixture(scope="module")
def fitted(few_epochs):
    return {name: make_vectoriser(name).fit(CAPTIONS) for name in NAMES}


def every(vectoriser, captions):
    return vectoriser.transform(captions).take(np.arange(len(captions)))


def filled(blocks):
    """The number of vectors in each block, after a check that they are complete and come first."""
    present = ~np.isnan(blocks)
    np.testing.assert_array_equal(present.any(axis=2), present.all(axis=2))
    counts = present.all(axis=2).sum(axis=1)
    np.testing.assert_array_equal(present.all(axis=2), np.arange(blocks.shape[1]) < counts[:, None])
    return counts


@examples(200)
@given(caption=st.one_of(st.text(), st.sampled_from(CAPTIONS)))
def test_words_are_scikit_learns(caption):
    assert words(caption) == TfidfVectorizer().build_analyzer()(caption)


@given(vocabulary=st.lists(st.text().map(words).map("".join).filter(len), min_size=1))
def test_words_can_be_packed_and_unpacked(vocabulary):
    assert unpack(pack(vocabulary)) == vocabulary


@pytest.mark.parametrize("size", [1, 10, 500])
def test_tfidf_is_scikit_learns(size):
    rows = np.random.default_rng(0).permutation(len(CAPTIONS))
    train = [CAPTIONS[row] for row in rows[:100]]
    oracle = TfidfVectorizer(max_features=size, stop_words="english").fit(train)
    expected = oracle.transform(CAPTIONS).toarray()
    expected[[CAPTIONS.index(""), CAPTIONS.index("?! a")]] = np.nan
    vectoriser = make_vectoriser(f"tfidf:{size}").fit(train)
    assert vectoriser.shape == (1, expected.shape[1])
    np.testing.assert_allclose(every(vectoriser, CAPTIONS)[:, 0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "model", "options"),
    [
        ("word2vec", "Word2Vec", {"sg": 1}),
        ("word2vec-cbow", "Word2Vec", {"sg": 0}),
        ("fasttext", "FastText", {"sg": 1, "bucket": 500}),
    ],
)
def test_word_vectors_are_gensims_of_the_same_seed(name, model, options):
    captions = [*CAPTIONS, "giraffes woman trains"]  # the first and the last word were not learned
    sentences = [words(caption) for caption in CAPTIONS]
    learned = getattr(models, model)(
        sentences, vector_size=6, min_count=2, epochs=2, seed=3, workers=1, **options
    ).wv
    with_vector = (
        learned.key_to_index if model == "Word2Vec" else {word for c in captions for word in words(c)}
    )
    expected = [[learned[word] for word in words(caption) if word in with_vector] for caption in captions]
    longest = max(map(len, expected[:-1]))
    tokens, mean = (make_vectoriser(f"{name}:6/{kind}", seed=3).fit(CAPTIONS) for kind in ("tokens", "mean"))
    assert (tokens.shape, mean.shape) == ((longest, 6), (1, 6))
    blocks, means = every(tokens, captions), every(mean, captions)
    assert filled(blocks).tolist() == [len(vectors) for vectors in expected]
    for block, mean_block, vectors in zip(blocks, means, expected, strict=True):
        if not vectors:
            assert np.isnan(mean_block).all()
            continue
        np.testing.assert_allclose(block[: len(vectors)], vectors, rtol=2e-3, atol=1e-4)  # of float16
        np.testing.assert_allclose(mean_block[0], np.mean(vectors, axis=0), rtol=2e-3, atol=1e-4)
    assert np.abs(means[-1]).max() > 0


def test_only_fasttext_has_vectors_of_unseen_words(fitted):
    captions = ["zebrasss", "girafe qqqq"]
    assert np.isnan(every(fitted["word2vec:6/tokens"], captions)).all()
    blocks = every(fitted["fasttext:6/tokens"], captions)
    assert filled(blocks).tolist() == [1, 2]
    assert (blocks[0, 0] != blocks[1, 0]).all()
    like, unlike = (every(fitted["fasttext:6/tokens"], [word])[0, 0] for word in ("zebras", "holding"))
    assert blocks[0, 0] @ like / np.linalg.norm(like) > blocks[0, 0] @ unlike / np.linalg.norm(unlike)


@pytest.mark.parametrize("name", NAMES)
@examples(50)
@given(data=st.data(), captions=caption_lists)
def test_the_block_of_a_row_does_not_depend_on_the_other_rows(fitted, name, data, captions):
    vectoriser = fitted[name]
    blocks = vectoriser.transform(captions)
    assert len(blocks) == len(captions)
    number = st.integers(0, len(captions) - 1)
    rows = np.array(data.draw(st.lists(number, max_size=12)) if captions else [], np.intp)
    taken = blocks.take(rows)
    assert taken.dtype == np.float32
    assert taken.shape == (len(rows), *vectoriser.shape)
    filled(taken)
    for row, block in zip(rows, taken, strict=True):
        np.testing.assert_array_equal(block, every(vectoriser, [captions[row]])[0])


@pytest.mark.parametrize("name", NAMES)
@examples(50)
@given(captions=caption_lists)
def test_a_vectoriser_loaded_from_a_file_returns_equal_blocks(fitted, name, captions):
    state = load(save(fitted[name].state()))
    assert {array.dtype.kind for array in state.values()} <= set("fiu")
    loaded = make_vectoriser(name)
    loaded.load_state(state)
    assert loaded.shape == fitted[name].shape
    assert every(loaded, captions).tobytes() == every(fitted[name], captions).tobytes()
    assert save(loaded.state()) == save(fitted[name].state())


@pytest.mark.parametrize("name", NAMES)
def test_equal_captions_and_seeds_give_equal_vectoriser_states(fitted, name):
    again = make_vectoriser(name).fit(list(CAPTIONS))
    assert save(again.state()) == save(fitted[name].state())
    assert logging.getLogger("gensim").level == logging.NOTSET


def test_another_seed_gives_different_vectors(fitted):
    name = "word2vec:6/mean"
    assert save(make_vectoriser(name, seed=1).fit(CAPTIONS).state()) != save(fitted[name].state())


@pytest.mark.parametrize("name", NAMES)
def test_transformed_captions_teach_the_vectoriser_nothing(fitted, name):
    vectoriser = fitted[name]
    before = save(vectoriser.state())
    every(vectoriser, ["snowboarder " * 100, "a helicopter"])
    assert save(vectoriser.state()) == before
    learned = unpack(vectoriser.state()["words"])
    assert {"snowboarder", "helicopter"}.isdisjoint(learned)
    assert set(learned) <= {word for caption in CAPTIONS for word in words(caption)}
    if not name.startswith("fasttext"):
        np.testing.assert_array_equal(*(every(vectoriser, [c]).round(5) for c in ("woman xylo", "woman")))


@pytest.mark.parametrize("name", NAMES)
def test_captions_are_nan_only_without_words(fitted, name):
    assert np.isnan(every(fitted[name], ["", "  ", "?!", "a 1"])).all()
    assert (filled(every(fitted[name], ["Woman", "TRAIN!"])) == 1).all()


def test_captions_longer_than_all_train_captions_are_cut(fitted):
    for name in ("word2vec:6/tokens", "fasttext:6/tokens"):
        length, _ = fitted[name].shape
        longer, longest = every(fitted[name], ["woman train " * 40, "woman train " * 40 + "zebras"])
        assert not np.isnan(longer).any()
        np.testing.assert_array_equal(longer, longest)
        assert filled(every(fitted[name], CAPTIONS)).max() == length


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("captions", [[], ["", "?!"], ["", "the"]])
def test_captions_without_words_to_learn_are_an_error(name, captions):
    with pytest.raises(DataError, match=rf"the {len(captions)} captions of the train rows have none$"):
        make_vectoriser(name).fit(captions)


@pytest.mark.parametrize("name", ["word2vec:6/mean", "fasttext:6/tokens"])
def test_without_gensim_the_error_names_the_extra_to_install(monkeypatch, name):
    real = embeddings.import_module

    def without(module):
        if module.startswith("gensim"):
            raise ImportError(module)
        return real(module)

    monkeypatch.setattr(embeddings, "import_module", without)
    with pytest.raises(DataError, match=r"need gensim: pip install 'encode-once\[gensim\]'"):
        make_vectoriser(name).fit(CAPTIONS)


def test_word2vec_can_be_loaded_without_gensim(fitted, monkeypatch):
    again = make_vectoriser("word2vec:6/tokens")
    monkeypatch.setattr(embeddings, "import_module", None)
    again.load_state(fitted["word2vec:6/tokens"].state())
    assert not np.isnan(every(again, ["woman"])[0, 0]).any()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tfdif:300", "did you mean 'tfidf:300'"),
        ("tfidf:300/mean", "did you mean 'tfidf:300'"),
        ("word2vec:100", "did you mean 'word2vec:100/mean'"),
        ("word2vec:100/token", "did you mean 'word2vec:100/tokens'"),
        ("word2vec-cbw:100/tokens", "did you mean 'word2vec-cbow:100/tokens'"),
        ("fastext/mean", "did you mean 'fasttext:150/mean'"),
        ("tfidf:0", "tfidf:0: the size '0' is not an integer above 0, such as 500"),
        ("fasttext:-3/mean", "the size '-3' is not"),
        ("word2vec:٣/mean", "the size '٣' is not"),
        ("xxxxxxxxxxxx", "choose from tfidf:500, word2vec:150/mean"),
    ],
)
def test_an_unknown_name_is_an_error_with_the_nearest_name(name, message):
    with pytest.raises(UsageError, match=message):
        make_vectoriser(name)


def test_names_without_a_size_take_the_default():
    assert make_vectoriser("tfidf").size == 500
    assert make_vectoriser("fasttext/mean").width == 150


def test_which_names_are_those_of_learned_features():
    learned = [*NAMES, "tfidf", "tfidf:x", "word2vec", "fasttext:150"]
    assert all(map(is_learned, learned))
    others = ["clip-vit-l/text", "glove-50/tokens", "tfidf-old/text", "", "e/tfidf", "fasttexts/mean"]
    assert not any(map(is_learned, others))
