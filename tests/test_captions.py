"""Generated captions from `extract` to `fit`, and for the new images of `predict`."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from encode_once.cache import Store, content_key
from encode_once.cache.keys import pack
from encode_once.classify.data.features import choose, load
from encode_once.extract import encode
from tests.conftest import WORDS, picture

pytestmark = pytest.mark.usefixtures("fit_once")
# Describes a picture of tests/conftest.py: its size depends on its row, and so do its words.
CAPTIONER = """
import numpy as np
from encode_once.extract.encoders.base import Tower
from encode_once.extract.errors import InputError

WORDS = "dog cat car bus boat bird".split()


class SizeCaptioner(Tower):
    modality = "image"

    def __init__(self, options):
        super().__init__({"text": {"encoder": "size", "weights": "none"}})

    def load(self, device):
        pass

    def prepare(self, image):
        if image.width == 66:
            raise InputError("no-idea", "")
        word = WORDS[image.width % 6]
        return f"a {word}" if image.height != 66 else ""

    def encode(self, batch):
        return {"text": [np.frombuffer(text.encode(), np.uint8)[:, None] for text in batch]}
"""
CAPTIONS = "captioner.py:SizeCaptioner"
MEAN = "glove-50/mean"


def generated(row):
    """The caption that the captioner generates for a row's picture."""
    return f"a {WORDS[(40 + row % 7) % 6]}"


def own(row):
    return f"a {WORDS[row % 6]} and a {WORDS[(row // 6) % 6]}, {row}"


@pytest.fixture(autouse=True)
def captioner(tmp_path):
    (tmp_path / "captioner.py").write_text(CAPTIONER)


def extract(run, *kinds):
    options = [word for kind in kinds for word in ("--captions", kind)]
    return json.loads(run("extract", "--encoder", "glove-50", *options, "--json").stdout)


def vectors(texts):
    return Store("store").feature(MEAN).read(pack(content_key(text.encode()) for text in texts))


def test_extract_encodes_generated_captions_and_the_tables_own(folder, run):
    folder(20)
    report = extract(run, CAPTIONS)
    assert report["features"][f"{CAPTIONS}/text"]["encoded"] == 20
    assert report["features"][MEAN] == {"encoded": 20, "present": 0, "failed": 0}
    assert len(Store("store").feature(MEAN)) == 6  # the distinct ones
    again = extract(run, "table", CAPTIONS, f"table+{CAPTIONS}")
    assert again["features"][f"{CAPTIONS}/text"]["encoded"] == 0
    assert again["features"][MEAN] == {"encoded": 40, "present": 20, "failed": 0}
    expected = [generated(3), own(3), f"{own(3)}. {generated(3)}"]
    assert len({row.tobytes() for row in vectors(expected)}) == 3


def test_a_run_on_generated_captions_predicts_and_evaluates_other_folders(folder, run):
    folder(60)
    extract(run, CAPTIONS, f"table+{CAPTIONS}")
    names = [f"{MEAN}@{CAPTIONS}", f"{MEAN}@table+{CAPTIONS}"]
    features = [word for name in names for word in ("--features", name)]
    run("fit", "--head", "linear", *features, "--run", "run")
    record = json.loads(Path("run/run.json").read_text())
    assert list(record["features"]) == names
    assert list(record["captioners"]) == [CAPTIONS]

    other = folder(12, name="other", extra={"note": ["x"] * 12})
    for row in range(12):  # new pictures for the captioner
        picture(700 + row, (40 + row % 7, 40)).save(other / "data" / f"{row}.png")
    result = run("predict", "run", "--data", other, "-o", "out.csv", "--store", "new", "--trust")
    assert "12 rows" in result.stderr
    store = Store("new")
    assert len(store.feature(f"{CAPTIONS}/text")) == 12
    assert store.feature(MEAN).has(pack([content_key(generated(5).encode())])).all()
    with open("out.csv") as file:
        first = list(csv.reader(file))
    run("predict", "run", "--data", other, "-o", "again.csv", "--trust")
    with open("again.csv") as file:
        assert list(csv.reader(file)) == first
    assert json.loads(run("evaluate", "run", "--data", other, "--trust", "--json").stdout)["n"] == 12


def test_a_row_gets_the_vector_of_its_own_generated_caption(folder, run):
    folder(20)
    extract(run, "table", CAPTIONS, f"table+{CAPTIONS}")
    store = Store("store")
    (table,) = store.tables()
    names = [MEAN, f"{MEAN}@{CAPTIONS}", f"{MEAN}@table+{CAPTIONS}"]
    matrix = load(choose(store, [*names, f"{MEAN}@table"]), table)
    assert list(matrix.shapes) == names  # the plain name means the table's captions
    rows = [int(name.split(".")[0]) for name in table.ids]
    expected = [[own(row), generated(row), f"{own(row)}. {generated(row)}"] for row in rows]
    by_hand = np.concatenate([vectors(texts) for texts in zip(*expected, strict=True)], axis=1)
    np.testing.assert_array_equal(matrix[:], by_hand.astype(np.float32))


def test_images_without_a_generated_caption_are_counted(folder, run):
    root = folder(30)
    picture(1, (66, 40)).save(root / "data" / "1.png")  # the captioner fails
    picture(2, (40, 66)).save(root / "data" / "2.png")  # it generates an empty caption
    words = ("extract", "--encoder", "glove-50", "--captions", CAPTIONS)
    assert "1.png: no-idea" in run(*words, status=1).stderr
    result = run("fit", "--head", "linear", "--features", f"{MEAN}@{CAPTIONS}", "--run", "run")
    assert f"{MEAN}@{CAPTIONS}: 2 of 30 rows have no vector" in result.stderr


def test_missing_captions_name_the_command_that_extracts_them(folder, run):
    folder(20)
    extract(run, CAPTIONS)
    missing = run("fit", "--features", f"{MEAN}@table+{CAPTIONS}", status=1).stderr
    assert f"{MEAN} lacks 20 of the 20 rows" in missing
    assert f"run extract --captions table+{CAPTIONS}" in missing
    picture(900).save("input/data/0.png")
    run("extract", "--encoder", "glove-50")
    assert (
        f"{CAPTIONS}/text lacks 1 of the 20"
        in run("fit", "--features", f"{MEAN}@{CAPTIONS}", status=1).stderr
    )


def test_texts_are_never_used_as_vectors(folder, run):
    folder(20)
    extract(run, "table", CAPTIONS)
    refused = run("fit", "--features", f"{CAPTIONS}/text", status=1).stderr
    assert f"{CAPTIONS}/text holds captions, not vectors" in refused
    assert f"NAME/text@{CAPTIONS}" in refused
    run("fit", "--head", "linear", "--run", "run")
    assert list(json.loads(Path("run/run.json").read_text())["features"]) == [MEAN]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["extract", "--encoder", "glove-50", "--captions", "glove-50"], "glove-50 writes no captions"),
        (["extract", "--encoder", "glove-50", "--captions", "coca-b3"], "did you mean 'coca-b32'"),
        (["fit", "--features", f"{CAPTIONS}/text@{CAPTIONS}"], "holds captions, not vectors"),
        (["fit", "--features", f"{MEAN}@glove-50"], "unknown feature"),
        (["fit", "--features", f"{MEAN}@table+captioner.py:SizeCaptoner"], f"did you mean '{CAPTIONS}/text'"),
    ],
)
def test_wrong_names_are_refused(folder, run, words, message):
    folder(12)
    extract(run, CAPTIONS)
    assert message in run(*words, status=1 if "not vectors" in message else 2).stderr


def test_gc_keeps_what_generated_captions_need(folder, run):
    folder(20)
    extract(run, CAPTIONS, f"table+{CAPTIONS}")
    before = len(Store("store").feature(MEAN))
    run("store", "gc", "--delete")
    assert len(Store("store").feature(MEAN)) == before
    run("fit", "--head", "linear", "--features", f"{MEAN}@table+{CAPTIONS}", "--run", "run")


def test_texts_and_the_vectors_of_generated_captions_can_be_recomputed(folder, run):
    folder(12)
    extract(run, CAPTIONS)
    stderr = run("store", "verify", "--recompute", "5", "--trust").stderr
    assert f"{CAPTIONS}/text: 5 rows encoded again differ by at most 0.0e+00" in stderr
    assert f"{MEAN}: 5 rows" in stderr


def test_from_python_with_several_kinds(folder, tmp_path, run):
    report = encode(
        folder(8), ["glove-50"], tmp_path / "s", captions=["table", CAPTIONS, "table"], device="cpu"
    )
    assert report.features[MEAN].encoded == 16
    assert np.isfinite(
        Store(tmp_path / "s").feature(MEAN).read(pack([content_key(generated(0).encode())]))
    ).all()


def test_shards_caption_their_own_images_and_encode_these_captions(folder, run):
    folder(20)
    for shard in ("1/2", "2/2"):
        run("extract", "--encoder", "glove-50", "--captions", CAPTIONS, "--shard", shard)
    report = extract(run, CAPTIONS)
    assert report["features"][f"{CAPTIONS}/text"]["encoded"] == report["features"][MEAN]["encoded"] == 0
