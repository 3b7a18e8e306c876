"""What each view shows an encoder, compared with the libraries called directly on what Pillow cuts."""

import io

import numpy as np
import open_clip
import pytest
import timm
import torch
from PIL import Image, ImageOps

from encode_once.cache import Store, UsageError
from encode_once.cache.views import View
from encode_once.extract import batches, encode
from encode_once.extract.encoders import towers
from encode_once.extract.encoders.base import Options
from encode_once.extract.encoders.image_network import ImageNetwork
from encode_once.extract.errors import UnknownEncoderError, WeightsError
from tests.conftest import picture

BICUBIC = Image.Resampling.BICUBIC
SIZES = [(90, 70), (70, 90), (64, 64), (200, 40)]
CNN, VIT, CLIP = "timm:test_efficientnet", "timm:test_vit", "open_clip:ViT-S-32-alt"


def loaded(name, regions=False, weights="random"):
    tower = towers(name, Options(weights, backend="torch", regions=regions))[0]  # of images
    tower.load("cpu")
    return tower


def encoded(tower, image, output="pooled"):
    return tower.encode([tower.prepare(image)])[output][0]


@pytest.fixture(scope="module")
def cnn():
    """timm's network, as a function from an RGB image of any size to its vector and its map (d, h, w)."""
    model = timm.create_model("test_efficientnet").eval()
    model.load_state_dict(loaded(CNN).build_model().state_dict())
    config = timm.data.resolve_data_config({}, model=model)

    def run(image):
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
        mean, std = (torch.tensor(config[name])[:, None, None] for name in ("mean", "std"))
        with torch.no_grad():
            grid = model.forward_features(((pixels - mean) / std)[None])
            return model.forward_head(grid, pre_logits=True)[0].numpy(), grid[0].numpy()

    return run


def whole(image, size):
    return image.resize((size, size), BICUBIC)


def five(image, size):
    """The corners and the centre, by NumPy, of the image with 8/7 as many pixels on its shorter side."""
    side, shorter = round(size / 0.875), min(image.size)
    pixels = np.asarray(image.resize([side * n // shorter for n in image.size], BICUBIC))
    h, w = pixels.shape[0] - size, pixels.shape[1] - size
    places = [(0, 0), (0, w), (h, 0), (h, w), (h // 2, w // 2)]
    return [Image.fromarray(pixels[top : top + size, left : left + size]) for top, left in places]


@pytest.mark.parametrize("shape", SIZES)
def test_views_of_a_network_are_those_of_the_squares_that_pillow_cuts(cnn, shape):
    image = picture(3, shape)
    own = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg("test_efficientnet").to_dict())
    size = own["input_size"][-1]
    grey = tuple(round(255 * mean) for mean in own["mean"])
    vector = lambda square: cnn(square)[0]  # noqa: E731
    mirror = ImageOps.mirror
    expected = {
        "whole": vector(whole(image, size)),
        "whole-96": vector(whole(image, 96)),
        "pad-96": vector(ImageOps.pad(image, (96, 96), BICUBIC, grey)),
        "whole-96-flip": (vector(whole(image, 96)) + vector(mirror(whole(image, 96)))) / 2,
        "five-crops-96": np.mean([vector(square) for square in five(image, 96)], axis=0),
        "five-crops-64-flip": np.mean(
            [vector(square) for cut in five(image, 64) for square in (cut, mirror(cut))], axis=0
        ),
    }
    for view, vectors in expected.items():
        np.testing.assert_allclose(encoded(loaded(f"{CNN}@{view}"), image), vectors, rtol=1e-3, atol=1e-4)


def test_the_own_crop_at_another_size_is_timms(cnn):
    image = picture(1, (90, 70))
    config = timm.data.resolve_data_config(
        pretrained_cfg=timm.get_pretrained_cfg("test_efficientnet").to_dict()
    )
    crop = timm.data.create_transform(**{**config, "input_size": (3, 96, 96)}, normalize=False)
    square = Image.fromarray(crop(image).permute(1, 2, 0).numpy())
    np.testing.assert_allclose(encoded(loaded(f"{CNN}@96"), image), cnn(square)[0], rtol=1e-3, atol=1e-4)


def test_the_own_view_is_named_and_keyed_as_before():
    (tower,) = towers("efficientnet-lite0", Options())
    assert "view" not in tower.specs["pooled"]
    assert tower.specs["pooled"]["preprocess"] == (
        "decode|exif_transpose|first_frame|16bit>>8|alpha_over_white|rgb|a JPEG at 1/2, 1/4 or 1/8 if that "
        "is >= 2 * 256|resize(224/0.875,bicubic,antialias)|crop(center,224)"
        "|normalize((0.5, 0.5, 0.5),(0.5, 0.5, 0.5))"
    )
    keys = [str(towers(f"efficientnet-lite0@{view}", Options())[0].specs) for view in VIEWS]
    assert len({*keys, str(tower.specs)}) == len(VIEWS) + 1


VIEWS = ["whole", "pad", "five-crops", "flip", "256", "whole-256", "whole-flip", "five-crops-flip"]


def test_regions_of_views_lie_where_they_are_in_the_image(cnn):
    """Those of the mirror image are mirrored back; those of five crops follow each other."""

    def means(grid):
        _, height, width = grid.shape
        cut = lambda size, i: slice(i * size // 4, -(-(i + 1) * size // 4))  # noqa: E731
        return np.array(
            [[grid[:, cut(height, i), cut(width, j)].mean((1, 2)) for j in range(4)] for i in range(4)]
        )

    image = picture(5, (90, 70))
    square = whole(image, 160)
    ours, theirs = means(cnn(square)[1]), means(cnn(ImageOps.mirror(square))[1])
    regions = encoded(loaded(f"{CNN}@whole-160-flip", regions=True), image, "regions")
    expected = (ours + theirs[:, ::-1]) / 2
    np.testing.assert_allclose(regions, expected.reshape(16, -1), rtol=1e-3, atol=1e-4)
    crops = encoded(loaded(f"{CNN}@five-crops-96", regions=True), image, "regions")
    each = [means(cnn(cut)[1]).reshape(16, -1) for cut in five(image, 96)]
    np.testing.assert_allclose(crops, np.concatenate(each), rtol=1e-3, atol=1e-4)


def test_position_embeddings_of_timm_are_interpolated_as_timm_does_it(tmp_path):
    image = picture(2, (90, 70))
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "vit.pt")
    tower = loaded(f"{VIT}@whole-256", weights=str(tmp_path / "vit.pt"))
    file = {"file": str(tmp_path / "vit.pt")}
    model = timm.create_model("test_vit", pretrained=True, pretrained_cfg_overlay=file, img_size=256).eval()
    pixels = tower.prepare(image)[None] / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (tower.mean, tower.std))
    with torch.no_grad():
        expected = model.forward_head(model.forward_features((pixels - mean) / std), pre_logits=True)
    assert torch.equal(pixels[0], torch.from_numpy(np.array(whole(image, 256))).permute(2, 0, 1) / 255)
    np.testing.assert_allclose(encoded(tower, image), expected[0], rtol=1e-3, atol=1e-4)


def test_position_embeddings_of_open_clip_are_interpolated_as_open_clip_does_it(tmp_path):
    image, weights = picture(2, (90, 70)), str(tmp_path / "clip.pt")
    torch.manual_seed(7)
    torch.save(open_clip.create_model("ViT-S-32-alt").state_dict(), weights)
    model, _, transform = open_clip.create_model_and_transforms(
        "ViT-S-32-alt", pretrained=weights, force_image_size=320
    )
    squash = open_clip.transform.image_transform(320, is_train=False, resize_mode="squash")
    for view, expected in (("320", transform(image)), ("whole-320", squash(image))):
        with torch.no_grad():
            vector = model.eval().encode_image(expected[None])[0].numpy()
        tower = loaded(f"{CLIP}@{view}", weights=weights)
        np.testing.assert_allclose(encoded(tower, image, "image"), vector, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("efficientnet-lite0@whol", UsageError, "unknown view 'whol': did you mean 'whole'?"),
        ("timm:test_vit@five-crop", UsageError, "did you mean 'five-crops'?"),
        ("timm:test_vit@whole-100", UsageError, "patches of 16; use a multiple, as 96"),
        ("timm:test_mlp@320", UnknownEncoderError, "has no model test_mlp"),
        ("minilm@whole", UnknownEncoderError, "minilm has no views"),
        ("coca-b32@whole", UnknownEncoderError, "coca-b32 has no views"),
        ("frcnn@320", UnknownEncoderError, "frcnn has no views"),
        ("timm:mixer_s32_224@256", WeightsError, "does not take images of 256 pixels"),
    ],
)
def test_a_view_that_an_encoder_cannot_have_is_an_error_of_one_line(name, error, message):
    with pytest.raises(error) as raised:
        towers(name, Options("random", backend="torch"))[0].load("cpu")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("size", "name"), [((90, 70), "small.png"), ((1400, 1200), "large.jpg")])
def test_each_image_is_decoded_once_for_all_views_of_an_encoder(tmp_path, monkeypatch, size, name):
    """Also one that the smallest view alone could have at a quarter of its size."""
    folder, decoded = tmp_path / "images", []
    folder.mkdir()
    picture(1, size).save(folder / name)

    def counted(content, side, depth):
        image = decode(content, side, depth)
        decoded.append(image.size)
        return image

    decode = batches.decode
    monkeypatch.setattr(batches, "decode", counted)
    names = [f"{CNN}@{view}" for view in ("whole-64", "five-crops-96", "whole-512", "flip")]
    encode(folder, names, tmp_path / "store", weights={CNN: "random"}, device="cpu", progress=False)
    assert decoded == [size]
    store = Store(tmp_path / "store")
    assert len(store.features()) == 4
    alone = encoded(loaded(f"{CNN}@whole-512"), Image.open(io.BytesIO((folder / name).read_bytes())))
    (row,) = store.feature(f"{CNN}+random@whole-512/pooled").to_numpy()
    np.testing.assert_allclose(row, alone, rtol=2e-3, atol=2e-3)
    report = encode(
        folder, [*names, f"{CNN}@128"], tmp_path / "store", weights={CNN: "random"}, progress=False
    )
    assert [counts.encoded for counts in report.features.values()] == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("view", ["", "@whole-64"])
def test_a_vector_of_a_large_jpeg_does_not_depend_on_the_views_beside_it(tmp_path, view):
    """A view of 1,024 pixels needs the whole picture, the own one an eighth of its size, others a half."""
    folder = tmp_path / "images"
    folder.mkdir()
    picture(1, (2100, 2100)).save(folder / "large.jpg", quality=90)

    def vector(store, *views):
        encode(folder, [f"{CNN}{name}" for name in views], store, weights={CNN: "random"}, progress=False)
        return Store(store).feature(f"{CNN}+random{view}/pooled").to_numpy()

    alone = vector(tmp_path / "alone", view)
    np.testing.assert_array_equal(alone, vector(tmp_path / "beside", "@whole-1024", view))


def test_a_users_network_that_knows_no_views_does_not_pretend_to():
    """Its `transform` is for one size, and it passes no `Framing` on."""

    class Network(ImageNetwork):
        def __init__(self, view):
            options = Options(view=View.parse(view), backend="torch")
            super().__init__({"pooled": {"encoder": "own"}}, options, 64, (0.5,) * 3, (0.5,) * 3)

        def build_model(self):
            return torch.nn.Conv2d(3, 2, 1)

        def transform(self):
            return lambda image: torch.zeros(3, 64, 64, dtype=torch.uint8)

        def vectors(self, model, images):
            return (model(images).mean((2, 3)),)

    Network("flip").load("cpu")
    with pytest.raises(UsageError, match="view whole: this encoder cuts its own squares only"):
        Network("whole")
    with pytest.raises(UsageError, match="view 96: this encoder takes 64 pixels only"):
        Network("96").load("cpu")
