"""Captioners generate the most likely next token according to their library's model, whatever the batch."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from click.testing import CliRunner
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    BlipTextConfig,
    BlipVisionConfig,
)

from encode_once.cache import Store
from encode_once.cache.captions import read_texts
from encode_once.classify import fit
from encode_once.classify.spec import FitSpec
from encode_once.cli import main
from encode_once.extract import ComputeOptions, encode
from encode_once.extract.encoders import captioner, towers
from encode_once.extract.encoders.base import Options
from encode_once.extract.errors import WeightsError
from tests.conftest import picture

IMAGES = [picture(seed, (40, 36)) for seed in range(5)]
WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a dog cat bus on the red street ##s runs".split()


@pytest.fixture(scope="module")
def blip(tmp_path_factory):
    """The folder of a small BLIP, as a user would have one on disk."""
    folder = tmp_path_factory.mktemp("models") / "blip"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    images = BlipImageProcessor(size={"height": 32, "width": 32})
    BlipProcessor(images, tokenizer).save_pretrained(folder)
    size = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    text = BlipTextConfig(vocab_size=len(WORDS), encoder_hidden_size=32, initializer_range=0.6, **size, **ids)
    vision = BlipVisionConfig(image_size=32, patch_size=8, initializer_range=0.6, **size)
    torch.manual_seed(4)
    config = BlipConfig(text_config=text.to_dict(), vision_config=vision.to_dict())
    BlipForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def coca(tmp_path_factory):
    """The weights of a small CoCa, open_clip's architecture tiny-coca."""
    folder = tmp_path_factory.mktemp("coca")
    heads = {"heads": 2, "layers": 1, "width": 16, "context_length": 40, "vocab_size": 49408}
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "patch_size": 8, "layers": 2, "width": 64, "attentional_pool": True,
                       "attn_pooler_heads": 2, "output_tokens": True},
        "text_cfg": {**heads, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**heads, "attn_pooler_heads": 2},
        "custom_text": True,
    }  # fmt: skip
    (folder / "tiny-coca.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    torch.manual_seed(5)
    model = open_clip.create_model("tiny-coca")
    with torch.no_grad():  # an untrained model says the same of every image: exaggerate it
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.normal_(std=0.3)
    torch.save(model.state_dict(), folder / "tiny-coca.pt")
    return folder / "tiny-coca.pt"


@pytest.fixture
def coca_tower(coca):
    tower = captioner.CocaCaptioner("open_clip:tiny-coca", Options(weights=str(coca)))
    tower.load("cpu")
    return tower


@pytest.fixture
def blip_tower(blip):
    (tower,) = towers("captioner", Options(weights=str(blip)))
    tower.load("cpu")
    return tower


def written(tower, images, batch=5):
    ready = [tower.prepare(image) for image in images]
    rows = [row for i in range(0, len(ready), batch) for row in tower.encode(ready[i : i + batch])["text"]]
    assert all(row.dtype == np.uint8 and row.shape[1:] == (1,) for row in rows)
    return [row.tobytes().decode() for row in rows]


def greedy(next_logits, ids, end, longest):
    """Greedy decoding of one image: all ids so far go through the model for every token."""
    while len(ids) < longest and ids[-1] != end:
        ids = [*ids, int(next_logits(ids).argmax())]
    return ids


def test_coca_writes_the_most_likely_next_token(coca, coca_tower):
    model, _, transform = open_clip.create_model_and_transforms("tiny-coca", pretrained=str(coca))
    model.eval()
    tokenizer = open_clip.get_tokenizer("tiny-coca")
    expected = []
    with torch.no_grad():
        for image in IMAGES:
            pixels = transform(image)[None]

            def logits(ids, pixels=pixels):
                return model(pixels, torch.tensor([ids]), output_labels=False)["logits"][0, -1]

            end = tokenizer.eot_token_id
            ids = greedy(logits, [tokenizer.sot_token_id], end, captioner.LONGEST)
            expected.append(tokenizer.decode([token for token in ids[1:] if token != end]).strip())
    assert len(set(expected)) > 1
    assert written(coca_tower, IMAGES) == expected


def test_coca_ends_a_caption_at_the_end_of_text_token(coca_tower, monkeypatch):
    tokenizer = coca_tower._tokenizer
    short, longer = tokenizer.encode("a dog"), tokenizer.encode("two cats on a red sofa")
    plan = [[*ids, tokenizer.eot_token_id, *short][:8] for ids in (short, [], longer)]

    def scripted(_images, ids=None, **_):
        if ids is None:
            return {"image_features": None, "image_embs": None}
        logits = torch.zeros(3, ids.shape[1], 49408)
        for row, script in zip(logits, plan, strict=True):
            row[-1, script[min(ids.shape[1], len(script)) - 1]] = 1
        return {"logits": logits}

    monkeypatch.setattr(coca_tower.checkpoint.model, "forward", scripted)
    assert written(coca_tower, IMAGES[:3]) == ["a dog", "", "two cats on a red sofa"]


def test_blip_writes_the_most_likely_next_token(blip, blip_tower):
    model = BlipForConditionalGeneration.from_pretrained(blip).eval()
    processor = BlipProcessor.from_pretrained(blip)
    expected = []
    with torch.no_grad():
        for image in IMAGES:
            pixels = processor(images=image, return_tensors="pt")["pixel_values"]
            seen = model.vision_model(pixel_values=pixels)[0]

            def logits(ids, seen=seen):
                return model.text_decoder(torch.tensor([ids]), encoder_hidden_states=seen).logits[0, -1]

            ids = greedy(logits, [2], 3, 1 + captioner.LONGEST)
            expected.append(processor.decode(ids, skip_special_tokens=True).strip())
    assert len(set(expected)) > 1
    assert written(blip_tower, IMAGES) == expected


@pytest.mark.parametrize("name", ["coca_tower", "blip_tower"])
def test_captions_do_not_depend_on_the_batch(name, request):
    tower = request.getfixturevalue(name)
    together = written(tower, IMAGES)
    assert written(tower, IMAGES, batch=1) == together
    assert written(tower, IMAGES[::-1], batch=2) == together[::-1]


def test_a_spec_contains_everything_that_determines_captions(coca_tower, blip_tower, blip, tmp_path):
    assert coca_tower.specs["text"]["decoding"] == "greedy, at most 30 tokens"
    assert "resize(32" in coca_tower.specs["text"]["preprocess"]
    spec = blip_tower.specs["text"]
    assert spec["modality"] == "image"
    assert spec["decoding"].startswith("greedy, at most 30 tokens")
    for part in ("architecture", "weights", "tokenizer", "preprocess"):
        assert "blake2b:" in spec[part]
    (published,) = towers("captioner", Options())
    assert published.specs["text"]["weights"] == "huggingface:Salesforce/blip-image-captioning-base"
    (other,) = towers("captioner:org/model", Options(weights="random"))
    assert other.specs["text"]["tokenizer"] == "huggingface:org/model"
    assert "RANDOM" in other.specs["text"]["weights"]


def test_captions_are_stored_as_bytes_of_text(folder, tmp_path, blip, blip_tower):
    root, store = folder(5), Store(tmp_path / "store")
    report = encode(
        root,
        ["captioner"],
        store,
        weights={"captioner": str(blip)},
        device="cpu",
        compute=ComputeOptions(batch_size=2),
    )
    assert report.features["captioner/text"].encoded == 5
    feature = store.feature("captioner/text")
    assert (feature.holds_texts, feature.ragged, feature.dim) == (True, True, 1)
    (table,) = store.tables()
    images = [picture(row, (40 + row % 7, 40 + row % 5)) for row in range(5)]
    assert read_texts(feature, table.keys("image")) == written(blip_tower, images)


def test_a_captioner_in_a_folder_serves_extract_fit_and_predict(folder, tmp_path, blip, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root, kind = folder(40, test_rows=3), f"table+captioner:{blip}"
    encode(root, ["glove-50"], "store", captions=[kind], device="cpu", progress=False)
    run, _ = fit(spec=FitSpec("linear", ["glove-50/mean@table+captioner:blip"]), run="run")
    assert run.record.captions == ["table+captioner:blip"]
    assert {name: record.weights_file for name, record in run.record.encoders.items()} == {
        "glove-50": None,
        "captioner:blip": str(blip),
    }
    for row in range(40, 43):
        picture(row + 500).save(root / "data" / f"{row}.png")
    assert CliRunner().invoke(main, ["predict", "run", "--trust"]).exit_code == 0
    assert Path("predictions.csv").read_text().count("\n") == 4
    assert len(Store("store").feature("captioner:blip/text")) == 43
    assert len(Store("run/store").feature("captioner:blip/text")) == 3  # of the new photographs


@pytest.mark.parametrize("weights", [None, "random"])
def test_an_unreachable_hub_is_one_line_with_the_remedy(weights):
    (tower,) = towers("captioner", Options(weights=weights))
    with pytest.raises(WeightsError, match=r"^captioner: Salesforce/.* as a captioner .*--weights FOLDER$"):
        tower.load("cpu")


def test_a_folder_without_a_captioner_is_an_error(tmp_path):
    with pytest.raises(WeightsError, match="no such folder; captioner needs a folder with config"):
        towers("captioner", Options(weights=str(tmp_path / "nowhere")))
    with pytest.raises(WeightsError, match=r"has no config\.json"):
        towers("captioner", Options(weights=str(tmp_path)))
