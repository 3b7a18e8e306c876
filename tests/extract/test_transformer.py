import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from encode_once.cache import DataError, Store, UnknownFeatureError, UsageError
from encode_once.classify.heads import make
from encode_once.extract import EncoderTransformer, batches, encode
from encode_once.extract.encoders.base import Tower
from encode_once.extract.transformer import SOURCE

LITE0, GLOVE = "efficientnet-lite0", "glove-50"
CLIP = "open_clip:ViT-S-32-alt"


@pytest.fixture
def root(folder):
    return folder(12)


@pytest.fixture
def paths(root):
    return [str(root / "data" / f"{row}.png") for row in range(12)]


@pytest.fixture
def captions(root):
    return pd.read_csv(root / "train.csv")["Caption"].tolist()


@pytest.fixture
def transformer(tmp_path):
    def make_transformer(encoder, **options):
        return EncoderTransformer(encoder, tmp_path / "store", progress=False, **options)

    return make_transformer


@pytest.fixture
def encoded(monkeypatch):
    """How many inputs are prepared for an encoder."""
    calls = []
    original = batches.DecodedInput.prepared

    def counting(item, tower):
        calls.append(tower.modality)
        return original(item, tower)

    monkeypatch.setattr(batches.DecodedInput, "prepared", counting)
    return calls


@pytest.mark.parametrize(
    ("encoder", "feature"), [(LITE0, f"{LITE0}/pooled"), (f"{GLOVE}/mean", f"{GLOVE}/mean")]
)
def test_vectors_are_those_of_extract(encoder, feature, root, paths, captions, transformer, tmp_path):
    vectors = transformer(encoder).fit_transform(paths if encoder == LITE0 else captions)
    (table,) = encode(root, [LITE0, GLOVE], tmp_path / "other").tables
    stored = Store(tmp_path / "other").feature(feature)
    assert np.array_equal(vectors, stored.read(table.keys(stored.modality)))
    assert vectors.dtype == np.float32


def test_only_what_the_store_lacks_is_encoded(paths, transformer, encoded, monkeypatch, tmp_path):
    first = transformer(LITE0).transform(paths[:8])
    assert len(encoded) == 8
    assert np.array_equal(transformer(LITE0).transform(paths)[:8], first)
    assert len(encoded) == 12
    monkeypatch.setattr(Tower, "load", lambda *_: pytest.fail("a model was loaded needlessly"))
    moved = tmp_path / "moved.png"
    moved.write_bytes(Path(paths[3]).read_bytes())
    assert np.array_equal(transformer(LITE0).transform([moved, paths[0], paths[3]]), first[[3, 0, 3]])
    assert Store(tmp_path / "store").headers() == []


@pytest.mark.parametrize(
    "form",
    [
        list,
        tuple,
        np.array,
        lambda paths: np.array(paths, object),
        pd.Series,
        lambda paths: pd.DataFrame({"path": paths}),
        lambda paths: [*map(Path, paths)],
    ],
)
def test_paths_may_be_in_any_list_or_column(form, paths, transformer):
    expected = transformer(LITE0).transform(paths[:3])
    assert np.array_equal(transformer(LITE0).transform(form(paths[:3])), expected)


def test_paths_start_in_the_folder(root, paths, transformer, monkeypatch):
    expected = transformer(LITE0).transform(paths[:2])
    assert np.array_equal(transformer(LITE0, folder=root / "data").transform(["0.png", "1.png"]), expected)
    monkeypatch.chdir(root)
    assert np.array_equal(transformer(LITE0).transform(["data/0.png", "data/1.png"]), expected)


def test_it_is_cloned_pickled_and_shown(transformer, captions, tmp_path):
    for store in (tmp_path / "store", Store(tmp_path / "store")):
        original = EncoderTransformer(f"{GLOVE}/mean", store, progress=False)
        for copy in (clone(original), pickle.loads(pickle.dumps(original))):
            assert copy.get_params().keys() == original.get_params().keys()
            assert np.array_equal(copy.transform(captions), original.transform(captions))
    assert repr(transformer(LITE0)).startswith("EncoderTransformer(encoder='efficientnet-lite0'")
    assert "EncoderTransformer" in transformer(LITE0)._repr_html_()


def test_columns_have_names(transformer, captions):
    glove = transformer(f"{GLOVE}/mean")
    with pytest.raises(UnknownFeatureError):
        glove.get_feature_names_out()
    frame = glove.set_output(transform="pandas").fit_transform(pd.Series(captions, index=[*range(5, 17)]))
    assert frame.columns.tolist() == [f"glove-50/mean_{column}" for column in range(50)]
    assert frame.index.tolist() == [*range(5, 17)]


@pytest.mark.slow
def test_images_and_captions_are_columns_of_a_pipeline_with_a_head(root, tmp_path, encoded, transformer):
    frame = pd.read_csv(root / "train.csv")
    Y = frame.pop("Labels").str.get_dummies(" ").to_numpy()
    columns = ColumnTransformer(
        [
            ("image", transformer(LITE0, folder=root / "data"), "ImageID"),
            ("text", transformer(f"{GLOVE}/mean"), "Caption"),
        ]
    )
    model = make_pipeline(columns, StandardScaler(), make("linear"))
    search = GridSearchCV(model, {"linear__Cs": [[0.01], [1.0]]}, scoring="f1_micro", cv=2).fit(frame, Y)
    assert len(encoded) == 24
    assert search.predict(frame).shape == Y.shape
    assert len(columns.fit(frame).get_feature_names_out()) == 1280 + 50


def test_rows_without_a_vector_are_an_error_or_missing(paths, captions, transformer, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    rows = [paths[0], str(broken), str(tmp_path / "none.png"), ""]
    with pytest.raises(
        DataError, match=r"3 of 4 rows have no vector of efficientnet-lite0/pooled, such as row 1"
    ):
        transformer(LITE0).transform(rows)
    vectors = transformer(LITE0, missing="nan").transform(rows)
    assert np.isnan(vectors).all(axis=1).tolist() == [False, True, True, True]
    assert np.isfinite(SimpleImputer().fit_transform(vectors)).all()
    with pytest.raises(DataError, match=r"1 of 2 rows .* row 1, '' \(empty\)"):
        transformer(f"{GLOVE}/mean").transform([captions[0], None])
    with pytest.raises(DataError, match=r"row 1, .*none.png' \(missing\)"):
        transformer(LITE0).transform([paths[0], tmp_path / "none.png"])
    assert transformer(LITE0).transform([]).shape == (0, 1280)


def test_the_output_decides_whether_texts_are_paths_or_captions(paths, captions, transformer, recwarn):
    clip = {"weights": "random"}
    with pytest.raises(
        UsageError, match=f"encoder {CLIP} has several outputs: write {CLIP}/image or {CLIP}/text"
    ):
        transformer(CLIP, **clip).fit(paths)
    of_images = transformer(f"{CLIP}/image", **clip).transform(paths)
    of_texts = transformer(f"{CLIP}/text", **clip).transform(captions)
    assert of_images.shape == of_texts.shape
    names = transformer(f"{CLIP}/text", **clip).get_feature_names_out()
    assert names[0] == f"{CLIP}+random/text_0"
    warnings = {str(warning.message) for warning in recwarn if "RANDOM" in str(warning.message)}
    assert warnings == {f"{CLIP}+random has RANDOM weights: its vectors are meaningless"}
    assert not [warning for warning in recwarn if SOURCE in str(warning.message)]


@pytest.mark.parametrize(
    ("encoder", "options", "message"),
    [
        ("efficientnet-lite", {}, "unknown encoder"),
        (f"{LITE0}/poled", {}, "unknown output of efficientnet-lite0 'poled': did you mean 'pooled'"),
        ("clip-vit-l/regions", {}, "no vector for each image or caption"),
        (LITE0, {"missing": "drop"}, "unknown missing 'drop'"),
    ],
)
def test_wrong_options_are_found_by_fit(encoder, options, message, transformer):
    with pytest.raises(UsageError, match=message):
        transformer(encoder, **options).fit(["a.jpg"])


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ("a.jpg", r"not a single one: write \['a.jpg'\]"),
        ([Image.new("RGB", (8, 8))], "row 0 is of the type Image: .* save it and pass the path"),
        ([3.5], "row 0 is of the type float"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"not an array of the shape \(2, 8, 8, 3\)"),
    ],
)
def test_other_inputs_are_refused_in_a_line(X, message, transformer):
    with pytest.raises(UsageError, match=message):
        transformer(LITE0).transform(X)


def test_sequences_are_refused(captions, transformer):
    with pytest.raises(UsageError, match="glove-50/tokens holds a sequence"):
        transformer(f"{GLOVE}/tokens").transform(captions)
    assert transformer(GLOVE).transform(captions).shape == (12, 50)  # its other output
