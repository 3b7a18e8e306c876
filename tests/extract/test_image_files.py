import pytest

from encode_once.cache import MissingDataError
from encode_once.extract.image_files import table_of_images
from tests.conftest import picture


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder with images, one of them in a subfolder, and another file."""
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    for name in ("a.jpg", "b.PNG", "deep/c.jpg", "[1].jpg"):
        picture(1).save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("names", "images"),
    [
        (["photos/a.jpg"], ["photos/a.jpg"]),
        (["photos/*.jpg"], ["photos/[1].jpg", "photos/a.jpg"]),
        (["photos"], ["photos/[1].jpg", "photos/a.jpg", "photos/b.PNG", "photos/deep/c.jpg"]),
        (["photos/[1].jpg"], ["photos/[1].jpg"]),  # a file before a pattern
        (["photos/a.jpg", "photos/*.jpg"], ["photos/a.jpg", "photos/[1].jpg"]),
        (["photos/notes.txt"], ["photos/notes.txt"]),  # what it is, its content says
    ],
)
def test_files_patterns_and_folders_are_images_in_order_each_once(photos, names, images):
    table = table_of_images(names, "a dog")
    assert table.images == table.ids == images
    assert table.captions == ["a dog"] * len(images)
    assert table.labels is None


def test_a_caption_alone_is_a_row(photos):
    table = table_of_images([], "a dog")
    assert (table.images, table.captions) == ([""], ["a dog"])


@pytest.mark.parametrize("name", ["nothing.jpg", "photos/*.webp", "photos/deep/none"])
def test_what_names_no_image_is_refused(photos, name):
    with pytest.raises(MissingDataError, match="no such image"):
        table_of_images(["photos/a.jpg", name])
