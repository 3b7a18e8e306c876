"""CLIP's captions without padding have the same vectors as open_clip's padded captions."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transformer import TextTransformer

from encode_once.extract.encoders import towers
from encode_once.extract.encoders.base import Options
from encode_once.extract.encoders.clip import trimmed

LONG = "a brown dog and a striped cat on a red sofa in front of a window, " * 8  # more than 77 tokens
CAPTIONS = [
    "a dog",
    "Two people riding bicycles past a parked bus on a rainy street in the city.",
    "",
    "x",
    LONG[:200],
    "Ein Hund läuft 🐕",
    "a dog <|endoftext|> and a cat behind its end",
]


@pytest.fixture(scope="module", params=["ViT-S-32-alt", pytest.param("ViT-B-32", marks=pytest.mark.slow)])
def tower(request):
    _, captions = towers(f"open_clip:{request.param}", Options(weights="random"))
    captions.load("cpu")
    return captions


@pytest.mark.parametrize("captions", [CAPTIONS, ["a dog"], [""], [LONG]])
def test_trimmed_captions_equal_padded_ones(tower, captions):
    ids = open_clip.get_tokenizer("ViT-B-32")(captions)
    before = {name: values.clone() for name, values in tower.model.state_dict().items()}
    vectors = tower.encode([tower.prepare(caption) for caption in captions])["text"]
    with torch.no_grad():
        padded = tower.model.encode_text(ids).numpy()
    np.testing.assert_allclose(vectors, padded, rtol=0, atol=1e-5)
    after = tower.model.state_dict()
    assert all(torch.equal(values, after[name]) for name, values in before.items())


def test_the_context_ends_with_the_longest_caption(tower):
    longest = open_clip.get_tokenizer("ViT-B-32")(CAPTIONS[:4])
    _, ids = trimmed(tower.model, longest)
    assert ids.shape == (4, int((longest != 0).sum(1).max()))
    _, ids = trimmed(tower.model, open_clip.get_tokenizer("ViT-B-32")([LONG]))
    assert ids.shape == (1, 77)


def test_threads_trim_the_tower_independently(tower):
    batches = [[tower.prepare(caption)] for caption in (*CAPTIONS, LONG)] * 3
    alone = [tower.encode(batch)["text"] for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda batch: tower.encode(batch)["text"], batches))
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)


def model_with(text):
    """A model with that text tower."""
    model = torch.nn.Module()
    model.text = text
    return model


def text_tower(arch, **changes):
    """The text tower of an architecture, two blocks deep, random."""
    config = open_clip.get_model_config(arch)
    options = ("context_length", "heads", "no_causal_mask", "pool_type", "embed_cls", "pad_id", "eos_id")
    text = {name: value for name, value in config["text_cfg"].items() if name in options} | changes
    torch.manual_seed(3)
    tower = TextTransformer(vocab_size=200, width=16 * text["heads"], layers=2, output_dim=32, **text)
    return tower.eval()


@pytest.mark.parametrize(
    ("arch", "pooling", "end"), [("MobileCLIP-B", "argmax", 199), ("ViT-H-14-worldwide", "eos", 2)]
)
def test_a_separate_text_tower_is_trimmed_too(arch, pooling, end):
    """The end-of-text token is the highest number of a caption, or given by the architecture."""
    tower = text_tower(arch, eos_id=end)
    assert tower.pool_type == pooling
    ids = torch.zeros(3, tower.context_length, dtype=torch.long)
    for row, length in zip(ids, (2, 9, 14), strict=True):
        row[: length - 1] = torch.randint(3, 199, (length - 1,))
        row[length - 1] = end
    with torch.no_grad():
        padded = tower(ids)
        model, cut = trimmed(model_with(tower), ids)
        assert cut.shape == (3, 14)
        np.testing.assert_allclose(model.text(cut), padded, rtol=0, atol=1e-5)


@pytest.mark.parametrize("arch", ["ViT-B-16-SigLIP", "ViT-B-16-SigLIP2", "MobileCLIP-S1", "coca_ViT-B-32"])
def test_towers_that_need_their_padding_keep_it(arch):
    tower = text_tower(arch)
    ids = torch.zeros(2, tower.context_length, dtype=torch.long)
    ids[:, 0] = 5
    assert trimmed(model_with(tower), ids)[1] is ids


def test_a_text_tower_of_another_library_is_left_alone():
    ids = torch.ones(1, 20, dtype=torch.long)
    assert trimmed(model_with(torch.nn.Linear(1, 1)), ids)[1] is ids
