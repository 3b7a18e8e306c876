import itertools
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from encode_once.cache import DataError, Shard, SpecMismatchError, Store, UsageError, content_key
from encode_once.cache.export import export, select
from encode_once.classify.data.features import choose, trials
from encode_once.extract import ComputeOptions, batches, encode, pipeline, workers
from encode_once.extract.encoders import precision
from encode_once.extract.encoders.base import Tower
from encode_once.extract.errors import WeightsError
from tests.conftest import picture, vectors_file
from tests.extract.images.test_decode import JPEG, huge_png, saved

LITE0, GLOVE = "efficientnet-lite0", "glove-50"
ARCH = "open_clip:ViT-S-32-alt"
TRIAL = f"{ARCH}+random"


@pytest.fixture
def decoded(monkeypatch):
    """How many images are decoded."""
    calls = []
    original = batches.decode

    def counting(content, *settings):
        calls.append(content)
        return original(content, *settings)

    monkeypatch.setattr(batches, "decode", counting)
    return calls


def counts(report, name):
    feature = report.features[name]
    return feature.encoded, feature.present, feature.failed


def test_the_second_extraction_encodes_and_decodes_nothing(folder, tmp_path, decoded, monkeypatch):
    root, store = folder(6, test_rows=2), tmp_path / "store"
    first = encode(root, [LITE0, GLOVE], store)
    assert first.samples == 8
    assert counts(first, f"{LITE0}/pooled") == (8, 0, 0)
    assert counts(first, f"{GLOVE}/mean") == counts(first, f"{GLOVE}/tokens") == (8, 0, 0)
    assert len(decoded) == 8
    monkeypatch.setattr(Tower, "load", lambda *_: pytest.fail("a model was loaded needlessly"))
    second = encode(root, [LITE0, GLOVE], store)
    assert counts(second, f"{LITE0}/pooled") == counts(second, f"{GLOVE}/mean") == (0, 8, 0)
    assert len(decoded) == 8


def test_of_several_outputs_only_those_that_are_named_are_stored(folder, tmp_path):
    root, store = folder(3), Store(tmp_path / "store")
    report = encode(root, [LITE0, GLOVE], store, features=[f"{GLOVE}/mean"])
    assert [*report.features] == store.features() == [f"{GLOVE}/mean"]
    alone = store.feature(f"{GLOVE}/mean")
    report = encode(root, [GLOVE], store)
    assert counts(report, f"{GLOVE}/mean") == (0, 3, 0)
    assert counts(report, f"{GLOVE}/tokens") == (3, 0, 0)
    (table,) = store.tables()
    tokens, ends = store.feature(f"{GLOVE}/tokens").read_ragged(table.caption_keys)
    means = [tokens[a:b].mean(axis=0) for a, b in itertools.pairwise(ends)]
    np.testing.assert_allclose(alone.read(table.caption_keys), means, atol=2e-3)


def test_an_image_is_decoded_once_for_all_encoders(folder, tmp_path, decoded):
    encode(folder(5), [LITE0, ARCH], tmp_path / "store", weights={ARCH: "random"})
    assert len(decoded) == 5


def test_several_encoders_at_once_give_the_same_vectors_as_one_at_a_time(folder, tmp_path):
    root = folder(5)
    together, alone = Store(tmp_path / "together"), Store(tmp_path / "alone")
    encode(
        root,
        [LITE0, ARCH],
        together,
        weights={ARCH: "random"},
        compute=ComputeOptions(batch_size=2, workers=3),
    )
    encode(root, [ARCH], alone, weights={ARCH: "random"}, compute=ComputeOptions(workers=1))
    (table,) = alone.tables()
    for name, modality in ((f"{TRIAL}/image", "image"), (f"{TRIAL}/text", "caption")):
        keys = table.keys(modality)
        np.testing.assert_allclose(
            together.feature(name).read(keys), alone.feature(name).read(keys), atol=2e-3
        )


def test_renamed_moved_duplicated_and_relabelled_inputs_encode_nothing(folder, tmp_path, decoded):
    root, store = folder(4), tmp_path / "store"
    encode(root, [LITE0], store)
    (root / "data").rename(root / "images")
    for number in range(4):
        (root / "images" / f"{number}.png").rename(root / "images" / f"new{number}.png")
    shutil.copy(root / "images" / "new0.png", root / "images" / "twin.png")
    rows = [f"new{number}.png,other,some words" for number in range(4)] + ["twin.png,other,more words"]
    (root / "train.csv").write_text("\n".join(["ImageID,Labels,Caption", *rows]))
    assert counts(encode(root, [LITE0], store), f"{LITE0}/pooled") == (0, 5, 0)
    assert len(decoded) == 4


def test_one_changed_file_encodes_one_row(folder, tmp_path, decoded):
    root, store = folder(4), tmp_path / "store"
    encode(root, [LITE0], store)
    picture(99).save(root / "data" / "2.png")
    assert counts(encode(root, [LITE0], store), f"{LITE0}/pooled") == (1, 3, 0)
    assert len(decoded) == 5


TURNED = Image.Exif()
TURNED[0x0112] = 6  # EXIF's orientation: a quarter turn
BAD = {
    "truncated.jpg": (JPEG[: len(JPEG) // 2], "truncated"),
    "corrupt.png": (b"\x89PNG\r\n\x1a\n" + b"x" * 50, "corrupt"),
    "zero.jpg": (b"", "empty"),
    "text.jpg": (b"not a picture", "not-an-image"),
    "bomb.png": (huge_png(40_000, 40_000), "too-large"),
}
GOOD = {
    "wrongly-named.png": JPEG,
    "cmyk.jpg": saved(picture(4).convert("CMYK"), "JPEG"),
    "palette.png": saved(picture(5).quantize(16), "PNG"),
    "deep.png": saved(Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16), "PNG"),
    "turned.jpg": saved(picture(6), "JPEG", exif=TURNED),
    "dot.png": saved(Image.new("RGB", (1, 1), "red"), "PNG"),
    "large.jpg": saved(Image.new("RGB", (9000, 6000), "green"), "JPEG"),
}


@pytest.fixture
def mixed(tmp_path):
    """A folder of good and bad images, and a row without an image file."""
    root = tmp_path / "mixed"
    (root / "data").mkdir(parents=True)
    for name, content in {**GOOD, **{name: content for name, (content, _) in BAD.items()}}.items():
        (root / "data" / name).write_bytes(content)
    rows = [f"{name},x,a dog" for name in [*GOOD, *BAD, "absent.jpg"]]
    (root / "train.csv").write_text("\n".join(["ImageID,Labels,Caption", *rows]))
    return root


def test_bad_images_are_reported_and_good_images_encoded(mixed, tmp_path):
    store = Store(tmp_path / "store")
    report = encode(mixed, [LITE0], store)
    assert counts(report, f"{LITE0}/pooled") == (len(GOOD), 0, len(BAD) + 1)
    reasons = {os.path.basename(failure.input): failure.reason for failure in report.failures}
    assert reasons == {name: reason for name, (_, reason) in BAD.items()} | {"absent.jpg": "missing"}
    feature = store.feature(f"{LITE0}/pooled")
    assert len(feature) == len(GOOD)
    (table,) = store.tables()
    stored = feature.has(table.keys("image"))
    assert {name for name, is_stored in zip(table.ids, stored, strict=True) if is_stored} == set(GOOD)
    assert np.abs(feature.read(table.keys("image")[: len(GOOD)])).max(axis=1).min() > 0


def test_of_equal_broken_images_each_file_is_named(folder, tmp_path):
    root = folder(3)
    for name in ("0.png", "2.png"):
        (root / "data" / name).write_bytes(b"<html>not found</html>")
    report = encode(root, [LITE0], tmp_path / "store", progress=False)
    assert counts(report, f"{LITE0}/pooled") == (1, 0, 2)
    assert [os.path.basename(failure.input) for failure in report.failures] == ["0.png", "2.png"]


def test_failed_inputs_are_tried_again_only_on_request(mixed, tmp_path, decoded):
    encode(mixed, [LITE0], tmp_path / "store")
    before = len(decoded)
    repeated = encode(mixed, [LITE0], tmp_path / "store")
    assert counts(repeated, f"{LITE0}/pooled") == (0, len(GOOD), len(BAD) + 1)
    assert len(decoded) == before
    encode(mixed, [LITE0], tmp_path / "store", retry_failed=True)
    assert len(decoded) == before + len(BAD)


def test_a_fixed_image_is_encoded(mixed, tmp_path):
    encode(mixed, [LITE0], tmp_path / "store")
    (mixed / "data" / "truncated.jpg").write_bytes(saved(picture(7), "JPEG"))
    assert counts(encode(mixed, [LITE0], tmp_path / "store"), f"{LITE0}/pooled") == (1, len(GOOD), len(BAD))


def test_a_vector_that_float16_cannot_hold_is_a_failure(folder, tmp_path, monkeypatch):
    from encode_once.extract.encoders.glove import GloveCaptions

    original = GloveCaptions.encode

    second = iter([False, True, False, False])

    def overflowing(self, batch):
        features = original(self, batch)
        for mean in features["mean"]:
            mean[0] = 1e6 if next(second) else mean[0]
        return features

    monkeypatch.setattr(GloveCaptions, "encode", overflowing)
    report = encode(folder(4), [GLOVE], tmp_path / "store")
    assert counts(report, "glove-50/mean") == (3, 0, 1)
    assert counts(report, "glove-50/tokens") == (4, 0, 0)
    assert [failure.reason for failure in report.failures] == ["not-finite"]


def test_empty_captions_are_not_requested(folder, tmp_path):
    root = folder(3)
    (root / "train.csv").write_text('ImageID,Labels,Caption\n0.png,a,a dog\n1.png,a,""\n2.png,a,a cat\n')
    report = encode(root, [GLOVE], tmp_path / "store")
    assert counts(report, "glove-50/mean") == (2, 0, 0)
    assert report.failures == []
    assert any("caption" in warning and "1" in warning for warning in report.warnings)


def test_a_table_without_images_serves_text_encoders_only(folder, tmp_path):
    root = folder(3)
    shutil.rmtree(root / "data")
    assert counts(encode(root, [GLOVE], tmp_path / "store"), "glove-50/mean") == (3, 0, 0)
    with pytest.raises(DataError, match="no images for efficientnet-lite0"):
        encode(root, [LITE0], tmp_path / "store")


def test_other_weights_under_the_same_name_are_refused(folder, tmp_path):
    root, store = folder(2), tmp_path / "store"
    vectors = vectors_file(tmp_path / "vectors.txt")
    encode(root, ["glove-100"], store, weights={"glove-100": str(vectors)})
    other = tmp_path / "other.txt"
    other.write_text(vectors.read_text() + f"more {' '.join(['1'] * 100)}\n")
    with pytest.raises(SpecMismatchError, match="weights: stored blake2b"):
        encode(root, ["glove-100"], store, weights={"glove-100": str(other)})


def test_random_weights_have_a_name_of_their_own_and_are_used_only_by_it(folder, tmp_path):
    root, store = folder(12), Store(tmp_path / "store")
    report = encode(root, [ARCH], store, weights={ARCH: "random"})
    assert store.features() == [*report.features] == [f"{TRIAL}/image", f"{TRIAL}/text"]
    assert counts(encode(root, [TRIAL], store), f"{TRIAL}/image") == (0, 12, 0)
    with pytest.raises(DataError, match=r"RANDOM features only: .* --features open_clip:.*\+random/"):
        choose(store, [])
    encode(root, [GLOVE], store)
    assert [source.name for source in choose(store, [])] == ["glove-50/mean"]
    (warning,) = trials(store)
    assert warning.startswith(f"not used, as their weights are RANDOM: {TRIAL}/image, {TRIAL}/text")
    assert [source.name for source in choose(store, [TRIAL])] == [f"{TRIAL}/image", f"{TRIAL}/text"]


@pytest.mark.parametrize("name", [ARCH, GLOVE])
def test_an_encoder_that_cannot_be_loaded_leaves_no_table_and_no_feature(folder, tmp_path, name):
    weights = tmp_path / "weights"
    weights.write_text("not weights")
    root, store = folder(3), Store(tmp_path / "store")
    with pytest.raises(WeightsError, match="weights"):
        encode(root, [LITE0, name], store, weights={name: str(weights)})
    assert (store.features(), store.headers()) == ([], [])
    encode(root, [LITE0], store)
    assert store.features() == [f"{LITE0}/pooled"]


def test_the_default_precision_is_that_of_the_stored_rows(folder, tmp_path):
    root, store = folder(2), Store(tmp_path / "store")
    encode(root, [ARCH], store, weights={ARCH: "random"}, compute=ComputeOptions(precision="bfloat16"))
    picture(50).save(root / "data" / "0.png")
    assert counts(encode(root, [ARCH], store, weights={ARCH: "random"}), f"{TRIAL}/image") == (1, 1, 0)
    with pytest.raises(SpecMismatchError, match="precision: stored bfloat16 weights, asked for float32"):
        encode(root, [ARCH], store, weights={ARCH: "random"}, compute=ComputeOptions(precision="float32"))


def test_rows_keep_the_way_in_which_their_precision_is_computed(folder, tmp_path, monkeypatch):
    root, store = folder(2), Store(tmp_path / "store")
    monkeypatch.setattr(precision, "least_cosine", lambda _, lowered, *rest: 0.99 if lowered.is_cast else 1.0)
    tiny, name = "timm:test_vit", "timm:test_vit+random/pooled"
    options = {"weights": {tiny: "random"}}
    bfloat16 = ComputeOptions("bfloat16")
    encode(root, [tiny], store, **options, compute=bfloat16)
    assert store.feature(name).spec["precision"] == "bfloat16"  # autocast
    picture(50).save(root / "data" / "0.png")
    lenient = replace(bfloat16, min_cosine=0.9)  # which the weights reach, too
    report = encode(root, [tiny], store, **options, compute=lenient)
    assert counts(report, name) == (1, 1, 0)
    assert store.feature(name).record.provenance["backend"] == "torch, autocast to bfloat16"
    other = Store(tmp_path / "other")
    encode(root, [tiny], other, **options, compute=lenient)
    feature = other.feature(name)
    assert feature.spec["precision"] == "bfloat16 weights"
    assert feature.key != store.feature(feature.name).key


def test_shards_do_not_choose_by_speed(folder, tmp_path):
    with pytest.raises(UsageError, match="--precision fast: shards on other machines would differ"):
        encode(
            folder(2),
            [LITE0],
            tmp_path / "store",
            compute=ComputeOptions(precision="fast"),
            shard=Shard(0, 2),
        )


def test_fast_decides_the_precision_of_new_features_only(folder, tmp_path, monkeypatch):
    root, weights = folder(4), {ARCH: "random"}
    encode(root, [ARCH], tmp_path / "exact", weights=weights)
    monkeypatch.setattr(precision, "MIN_INPUTS", 1)
    monkeypatch.setattr(precision, "_speed", lambda exact, *_: 2.0 if "text" in exact.specs else 1.0)
    again = encode(
        root, [ARCH], tmp_path / "exact", weights=weights, compute=ComputeOptions(precision="fast")
    )
    assert counts(again, f"{TRIAL}/text") == (0, 4, 0)
    logged = []
    new = Store(tmp_path / "new")
    report = encode(
        root,
        [ARCH],
        new,
        weights=weights,
        compute=ComputeOptions(min_cosine=0.99, precision="fast"),
        log=logged.append,
    )
    assert logged == [line for line in report.warnings if "bfloat16" in line]
    assert f"{TRIAL}/text: bfloat16 is 2.0 times as fast" in logged[0]
    specs = {name: new.feature(name).spec["precision"] for name in new.features()}
    assert specs == {f"{TRIAL}/image": "float32", f"{TRIAL}/text": "bfloat16 weights"}
    provenance = new.feature(f"{TRIAL}/text").record.provenance
    assert provenance["backend"] == "torch, weights in bfloat16"
    assert 0.99 <= float(provenance["cosine to float32"]) < 1
    picture(50).save(root / "data" / "0.png")
    encode(root, [ARCH], new, weights=weights)
    assert {name: len(new.feature(name)) for name in new.features()} == {
        f"{TRIAL}/image": 5,
        f"{TRIAL}/text": 4,
    }
    part = Store(tmp_path / "part")
    encode(root, [ARCH], part, weights=weights, shard=Shard(0, 2))
    assert {part.feature(name).spec["precision"] for name in part.features()} == {"float32"}


def test_a_file_that_changes_during_extraction_is_a_failure(folder, tmp_path, monkeypatch):
    root = folder(3)
    original = workers.EncodingPass.encode

    def changing(encoding_pass):
        (root / "data" / "1.png").write_bytes(saved(picture(70), "PNG"))
        original(encoding_pass)

    monkeypatch.setattr(workers.EncodingPass, "encode", changing)
    report = encode(root, [LITE0], tmp_path / "store")
    assert counts(report, f"{LITE0}/pooled") == (2, 0, 1)
    assert [failure.reason for failure in report.failures] == ["changed"]


def test_a_replaced_image_of_the_same_size_and_time_is_noticed_when_it_is_read(folder, tmp_path):
    root, store = folder(4), tmp_path / "store"
    image, moment = root / "data" / "1.png", 1_600_000_000
    contents = [saved(picture(seed), "PNG") for seed in (70, 71)]
    longest = max(map(len, contents))
    first, second = (content.ljust(longest, b"\0") for content in contents)
    image.write_bytes(first)
    os.utime(image, (moment, moment))
    encode(root, [GLOVE], store)  # only the image's key is stored
    image.write_bytes(second)
    os.utime(image, (moment, moment))
    report = encode(root, [LITE0], store)
    assert [(failure.input, failure.reason) for failure in report.failures] == [(str(image), "changed")]
    assert counts(report, f"{LITE0}/pooled") == (3, 0, 1)
    report = encode(root, [LITE0], store)
    assert counts(report, f"{LITE0}/pooled") == (1, 3, 0)
    (table,) = Store(store).tables()
    assert table.keys("image")[1].tobytes() == content_key(second)
    image.write_bytes(first)  # the failure of the old content is not recorded
    os.utime(image, (moment + 1, moment + 1))
    assert counts(encode(root, [LITE0], store), f"{LITE0}/pooled") == (1, 3, 0)


def test_a_table_edited_while_its_images_are_read_is_outdated(folder, tmp_path, monkeypatch):
    root = folder(3)
    original = pipeline.add_keys

    def editing(*args, **options):
        (root / "train.csv").write_text((root / "train.csv").read_text().replace("dog", "cat"))
        return original(*args, **options)

    monkeypatch.setattr(pipeline, "add_keys", editing)
    encode(root, [GLOVE], tmp_path / "store")
    store = Store(tmp_path / "store")
    assert store.is_outdated(store.table())


def test_an_encoder_of_both_modalities_encodes_a_table_of_prompts(tmp_path):
    rows = [f"{name},a photo of a {name}" for name in ("cat", "dog")]
    (tmp_path / "prompts.csv").write_text("\n".join(["ImageID,Caption", *rows]) + "\n")
    store = Store(tmp_path / "store")
    report = encode(tmp_path / "prompts.csv", [ARCH], store, weights={ARCH: "random"})
    assert list(report.features) == store.features() == [f"{TRIAL}/text"]
    assert counts(report, f"{TRIAL}/text") == (2, 0, 0)
    assert any("has no images" in warning for warning in report.warnings)
    export(select(store.feature(f"{TRIAL}/text"), store.table()), "npy", tmp_path / "prompts.npy")
    assert (tmp_path / "prompts.npy.ids.txt").read_text() == "cat\ndog\n"
    with pytest.raises(DataError, match="has no images for efficientnet-lite0"):
        encode(tmp_path / "prompts.csv", [LITE0], store)
