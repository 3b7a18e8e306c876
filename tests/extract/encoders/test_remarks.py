"""Captions that are longer than a text tower's context are counted, with any tokenizer."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import open_clip
import pytest
import torch
from transformers import BertConfig, BertModel

from encode_once.extract import ComputeOptions, encode
from encode_once.extract.encoders import towers
from encode_once.extract.encoders.base import Options

SMALL = {"width": 16, "heads": 1, "layers": 1}
VISION = {"image_size": 16, "patch_size": 8, "layers": 1, "width": 64}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "dog", "cat"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """The folder of a small BERT with a context of 8 tokens."""
    folder = tmp_path_factory.mktemp("models") / "bert"
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(WORDS), max_position_embeddings=8, **size)).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    return folder


@pytest.fixture(scope="module")
def architectures(bert, tmp_path_factory):
    """Small CLIPs with a context of 8 tokens: with open_clip's own tokenizer, and transformers'."""
    folder = tmp_path_factory.mktemp("configs")
    of_transformers = {"vocab_size": 16, "hf_tokenizer_name": str(bert), "pool_type": "last"}
    for name, text in {"own": {"vocab_size": 49408}, "bert": of_transformers}.items():
        config = {"embed_dim": 8, "vision_cfg": VISION, "text_cfg": {"context_length": 8, **SMALL, **text}}
        (folder / f"tiny-{name}.json").write_text(json.dumps(config | {"custom_text": True}))
    open_clip.add_model_config(folder)


def text_tower(name, **options):
    tower = towers(name, Options(**options))[-1]
    tower.load("cpu")
    return tower


@pytest.mark.parametrize("name", ["own", "bert"])
def test_clip_counts_captions_longer_than_its_context(architectures, name):
    tower = text_tower(f"open_clip:tiny-{name}", weights="random")
    for words in range(7):  # six fit between the start and the end of a text
        assert len(tower.prepare("dog " * words)) == 8
    assert tower.remarks() == []
    tower.prepare("dog " * 7)
    assert tower.remarks() == ["1 caption is longer than 8 tokens and was cut"]
    tower.prepare("dog " * 100)
    assert tower.remarks() == ["2 captions are longer than 8 tokens and were cut"]


def test_siglips_padding_is_not_counted(architectures):
    """SigLIP pads with its end-of-text token, so the last id may be that of a longer caption."""
    tower = text_tower("open_clip:tiny-own", weights="random")

    def tokenizer(context):
        return lambda texts: torch.tensor(
            [([*map(len, text.split())][: context - 1] + [1] * context)[:context] for text in texts]
        )

    tower._tokenizers = [tokenizer(8), tokenizer(9)]
    tower._blank = [tokenize([""])[0] for tokenize in tower._tokenizers]
    for text in ("", "two words", "aa " * 7):
        tower.prepare(text)
    assert tower.remarks() == []
    tower.prepare("aa " * 8)
    assert len(tower.remarks()) == 1


def test_transformers_counts_captions_longer_than_its_context(bert):
    tower = text_tower("bert-base", weights=str(bert))
    for words in range(7):
        tower.prepare("dog " * words)
    assert tower.remarks() == []
    tower.prepare("cat " * 7)
    assert tower.remarks() == ["1 caption is longer than 8 tokens and was cut"]


@pytest.mark.parametrize("name", ["open_clip:tiny-own", "open_clip:tiny-bert", "bert-base"])
def test_a_caption_of_10_mb_is_cut_before_it_is_tokenized(architectures, bert, name):
    tower = text_tower(name, weights="random" if "clip" in name else str(bert))
    expected = tower.prepare("cat dog " * 4)
    started = time.perf_counter()
    ids = tower.prepare("cat dog " * 1_250_000)
    assert time.perf_counter() - started < 2
    assert list(ids) == list(expected)
    assert tower.remarks() == ["2 captions are longer than 8 tokens and were cut"]


@pytest.mark.parametrize("name", ["open_clip:tiny-bert", "bert-base"])
def test_threads_count_and_tokenize_like_one_thread(architectures, bert, name):
    tower = text_tower(name, weights="random" if "clip" in name else str(bert))
    captions = ["dog " * (words % 14) for words in range(700)]
    with ThreadPoolExecutor(8) as pool:
        lengths = {len(ids) for ids in pool.map(tower.prepare, captions)}
    assert max(lengths) == 8
    assert tower.remarks() == [f"{50 * 7} captions are longer than 8 tokens and were cut"]


def test_extract_warns_only_of_captions_that_it_encodes(folder, tmp_path, bert):
    root = folder(3)
    long = "dog " * 9
    (root / "train.csv").write_text(
        f"ImageID,Labels,Caption\n0.png,a,a dog\n1.png,a,{long}\n2.png,a,{long}\n"
    )
    options = {"weights": {"bert-base": str(bert)}, "compute": ComputeOptions(workers=2)}
    warning = "bert-base/pooled, bert-base/tokens: 1 caption is longer than 8 tokens and was cut"
    assert warning in encode(root, ["bert-base"], tmp_path / "store", **options).warnings
    assert not encode(root, ["bert-base"], tmp_path / "store", **options).warnings
