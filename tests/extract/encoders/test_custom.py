"""A user's own encoder, with the example of docs/extending.md."""

import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from encode_once.cache import SpecMismatchError, Store
from encode_once.extract import encode, encoders
from encode_once.extract.encoders.base import Options
from encode_once.extract.errors import UnknownEncoderError
from tests.conftest import picture

PAGE = (Path(__file__).parents[3] / "docs/extending.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"```python\n(.*?class Colours.*?)```", PAGE, re.S)


@pytest.fixture
def working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(EXAMPLE)
    return tmp_path


def test_the_example_of_the_documents_encodes_images(working_folder, folder):
    encode(folder(4), ["own.py:Colours"], "store")
    store = Store("store")
    (table,) = store.tables()
    vectors = store.feature("own.py:Colours/mean").read(table.keys("image"))
    expected = [
        np.asarray(picture(row, (40 + row % 7, 40 + row % 5))).mean(axis=(0, 1)) / 255 for row in range(4)
    ]
    np.testing.assert_allclose(vectors, expected, atol=1e-3)


def test_a_changed_file_is_another_encoder(working_folder, folder):
    root = folder(2)
    encode(root, ["own.py:Colours"], "store")
    (working_folder / "own.py").write_text(EXAMPLE + "\n# thought better of it\n")
    with pytest.raises(SpecMismatchError, match="source: stored"):
        encode(root, ["own.py:Colours"], "store")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.py:Colours", "cannot be imported"),
        ("own.py:Colors", "did you mean 'Colours'"),
        ("broken.py:Colours", "broken.py cannot be imported: no such thing"),
        ("/absolute/own.py:Colours", "below this folder"),
        ("../own.py:Colours", "below this folder"),
    ],
)
def test_an_invalid_encoder_is_an_error_with_its_cause(working_folder, name, message):
    (working_folder / "broken.py").write_text("raise ValueError('no such thing')")
    with pytest.raises(UnknownEncoderError, match=message):
        encoders.towers(name, Options())


def test_a_package_adds_encoders_through_an_entry_point(monkeypatch):
    tower, info = SimpleNamespace(specs={}), object()
    family = SimpleNamespace(ENCODERS={"theirs": info}, towers=lambda *_: [tower])
    monkeypatch.setattr(EntryPoint, "load", lambda _: family)
    point = EntryPoint("theirs", "their_package.encoders", "encode_once.encoders")
    monkeypatch.setattr(encoders, "entry_points", lambda group: [point])
    assert encoders.towers("theirs", Options()) == [tower]
    assert ("theirs", info) in encoders.listed()


def test_an_encoders_name_does_not_contain_the_folder_of_its_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "yolo.onnx").touch()
    file = str(tmp_path / "nets" / "yolo.onnx")
    for place in ("nets/yolo.onnx", "./nets/../nets/yolo.onnx", file):
        assert encoders.named(f"onnx:{place}") == ("onnx:yolo.onnx", file)
    for name in ("clip-vit-l", "timm:resnet18", "own.py:Colours", "open_clip:ViT-B-32/openai"):
        assert encoders.named(name) == (name, None)


def test_a_file_that_imports_the_packages_by_their_old_names_works_with_a_warning(working_folder, folder):
    assert "from encode_once.extract.encoders.base import Tower" in EXAMPLE
    (working_folder / "old.py").write_text(EXAMPLE.replace("encode_once.extract", "extract"))
    before = {name: module for name, module in sys.modules.items() if name.startswith("extract")}
    with pytest.warns(
        FutureWarning, match=r"old\.py imports extract\.encoders\.base: write encode_once\.extract"
    ):
        report = encode(folder(4), ["old.py:Colours"], "store")
    assert report.features["old.py:Colours/mean"].encoded == 4
    assert {name: module for name, module in sys.modules.items() if name.startswith("extract")} == before
    (working_folder / "other.py").write_text("from extract.nothing import Tower")
    with pytest.raises(UnknownEncoderError, match=r"other\.py cannot be imported"):
        encoders.towers("other.py:Tower", Options())
