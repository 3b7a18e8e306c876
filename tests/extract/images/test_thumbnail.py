import io

from PIL import Image

from encode_once.cache import content_key
from encode_once.extract.images.thumbnail import SIDE, thumbnail
from tests.conftest import picture


def test_a_thumbnail_is_a_small_jpeg_of_the_same_shape(tmp_path):
    path = tmp_path / "large.png"
    picture(0, (900, 300)).save(path)
    image = Image.open(io.BytesIO(thumbnail(str(path), content_key(path.read_bytes()))))
    assert image.format == "JPEG"
    assert image.size == (SIDE, SIDE // 3)


def test_another_image_than_the_one_that_was_encoded_is_not_shown(tmp_path):
    path = tmp_path / "a.png"
    picture(0).save(path)
    key = content_key(path.read_bytes())
    assert thumbnail(str(path), key)
    picture(1).save(path)
    assert thumbnail(str(path), key) is None


def test_a_file_that_is_gone_or_no_image_is_none(tmp_path):
    path = tmp_path / "a.png"
    assert thumbnail(str(path), b"") is None
    path.write_bytes(b"no image")
    assert thumbnail(str(path), content_key(b"no image")) is None
