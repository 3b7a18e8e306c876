"""Each kind of file is written by its own library, and read back to the same numbers and names."""

import gzip
import json
import mmap

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from safetensors.numpy import save_file
from scipy import sparse
from sklearn.datasets import dump_svmlight_file

from encode_once.cache import DataError, UsageError, large_arrays
from encode_once.extract.imports import vector_files
from encode_once.extract.imports.vector_files import read_vectors, with_ids

ROWS, WIDTH = 7, 3
VECTORS = np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float32)
IDS = [f"photo-{row}" for row in range(ROWS)]


def lists():
    return pa.FixedSizeListArray.from_arrays(pa.array(VECTORS.reshape(-1)), WIDTH)


def write_npy(path):
    np.save(path, VECTORS)
    (path.parent / f"{path.name}.ids.txt").write_text("\n".join(IDS) + "\n")


def write_npz(path):
    np.savez(path, vectors=VECTORS, names=np.array(IDS))


def write_safetensors(path):
    save_file({"values": VECTORS}, path, {"ids": json.dumps(IDS)})


def write_parquet(path):
    pa.parquet.write_table(pa.table({"names": IDS, "vector": lists()}), path)


def write_parquet_of_lists(path):
    pa.parquet.write_table(pa.table({"names": IDS, "vector": pa.array(VECTORS.tolist())}), path)


def write_parquet_of_columns(path):
    columns = {f"x{i}": VECTORS[:, i] for i in range(WIDTH)}
    pa.parquet.write_table(pa.table({"names": IDS, **columns}), path)


def write_feather(path):
    pa.feather.write_feather(pa.table({"names": IDS, "vector": lists()}), str(path))


def write_stream(path):
    table = pa.table({"names": IDS, "vector": lists()})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


def write_csv(path):
    pd.DataFrame(VECTORS).assign(names=IDS).to_csv(path, index=False, sep="\t" if "tsv" in path.name else ",")


def write_lance(path):
    lance = pytest.importorskip("lance", reason="pylance is not installed")
    lance.write_dataset(pa.table({"names": IDS, "vector": lists()}), str(path))


def write_clip_retrieval(path):
    for part in ("img_emb", "text_emb", "metadata"):
        (path / part).mkdir(parents=True)
    for number, rows in enumerate((slice(0, 3), slice(3, ROWS))):
        np.save(path / "img_emb" / f"img_emb_{number}.npy", VECTORS[rows].astype(np.float16))
        np.save(path / "text_emb" / f"text_emb_{number}.npy", -VECTORS[rows].astype(np.float16))
        metadata = pa.table({"image_path": IDS[rows], "caption": ["a"] * len(IDS[rows])})
        pa.parquet.write_table(metadata, path / "metadata" / f"metadata_{number}.parquet")


WRITERS = {
    "x.npy": write_npy,
    "x.npz": write_npz,
    "x.safetensors": write_safetensors,
    "x.parquet": write_parquet,
    "y.parquet": write_parquet_of_lists,
    "z.parquet": write_parquet_of_columns,
    "x.feather": write_feather,
    "x.arrow": write_stream,
    "x.csv": write_csv,
    "x.csv.gz": write_csv,
    "x.tsv": write_csv,
    "x.lance": write_lance,
    "clip": write_clip_retrieval,
}


@pytest.mark.parametrize("name", WRITERS)
def test_numbers_and_names_come_back(name, tmp_path):
    WRITERS[name](tmp_path / name)
    file = read_vectors(tmp_path / name)
    tolerance = 1e-2 if name == "clip" else 1e-6
    np.testing.assert_allclose(file.values, VECTORS, rtol=tolerance, atol=tolerance)
    assert IDS in list(file.columns.values())
    assert file.labels is None


@pytest.mark.parametrize("name", ["x.parquet", "y.parquet", "z.parquet", "x.feather", "x.arrow", "x.lance"])
def test_a_few_rows_of_an_arrow_table_are_in_memory_at_a_time(name, tmp_path, monkeypatch):
    sizes, texts = [], vector_files._texts
    monkeypatch.setattr(vector_files, "BATCH_ROWS", 2)
    monkeypatch.setattr(large_arrays, "IN_MEMORY", 0)
    monkeypatch.setattr(
        vector_files, "_texts", lambda batch, column: (sizes.append(len(batch)), texts(batch, column))[1]
    )
    test_numbers_and_names_come_back(name, tmp_path)
    assert (max(sizes), sum(sizes)) == (2, ROWS)
    values = read_vectors(tmp_path / name).values
    assert isinstance(values.base.base.obj, mmap.mmap), "the vectors are in a temporary file"


WORDS = sparse.csr_matrix(np.where(np.abs(VECTORS) < 0.8, 0, VECTORS))


@pytest.mark.parametrize("matrix", [WORDS, sparse.csr_array(WORDS)])
def test_a_matrix_of_scipy_stays_sparse(matrix, tmp_path):
    sparse.save_npz(tmp_path / "words.npz", matrix)
    assert not read_vectors(tmp_path / "words.npz").columns
    (tmp_path / "words.npz.ids.txt").write_text("\n".join(IDS) + "\n")
    file = read_vectors(tmp_path / "words.npz")
    assert file.is_sparse
    assert [*file.columns.values()] == [IDS]
    np.testing.assert_array_equal(file.values.toarray(), WORDS.toarray())


def test_numbers_of_a_sparse_matrix_that_are_given_twice_are_added(tmp_path):
    twice = sparse.csr_matrix(([1.0, 2.0, 3.0], [2, 0, 2], [0, 3]), shape=(1, 4))
    sparse.save_npz(tmp_path / "words.npz", twice)
    values = read_vectors(tmp_path / "words.npz").values
    assert (values.indices.tolist(), values.data.tolist()) == ([0, 2], [2, 4])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": b"coo"}, "another form than CSR: save matrix.tocsr()"),
        ({"indices": WORDS.indices + 3}, "indices must be < 3"),
        ({"indices": WORDS.indices - 3}, "indices must be >= 0"),
        ({"indices": WORDS.indices + 0.5}, "indices are not whole numbers"),
        ({"indptr": WORDS.indptr[:-1]}, "index pointer size"),
        ({"shape": np.array(["x", "y"])}, "shape are not whole numbers"),
        ({"shape": np.array([10**15, 3])}, "index pointer size"),
        ({"data": WORDS.data.astype(complex)}, "complex128, not numbers"),
    ],
)
def test_a_sparse_matrix_that_is_broken_is_an_error_of_one_line(changes, message, tmp_path):
    sparse.save_npz(tmp_path / "words.npz", WORDS)
    with np.load(tmp_path / "words.npz") as file:
        arrays = {name: file[name] for name in file.files} | changes
    np.savez(tmp_path / "words.npz", **arrays)
    with pytest.raises(DataError) as raised:
        read_vectors(tmp_path / "words.npz")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_parts_of_different_types_are_joined_without_loss(tmp_path):
    (tmp_path / "img_emb").mkdir()
    np.save(tmp_path / "img_emb" / "img_emb_0.npy", VECTORS[:3].astype(np.float16))
    np.save(tmp_path / "img_emb" / "img_emb_1.npy", VECTORS[3:])
    np.testing.assert_array_equal(read_vectors(tmp_path).values[3:], VECTORS[3:])
    np.save(tmp_path / "img_emb" / "img_emb_1.npy", VECTORS[3:, :1])
    with pytest.raises(DataError, match="match exactly"):
        read_vectors(tmp_path)


def test_the_other_part_of_a_clip_retrieval_folder(tmp_path):
    write_clip_retrieval(tmp_path / "clip")
    file = read_vectors(tmp_path / "clip", "text_emb")
    np.testing.assert_array_equal(file.values, -VECTORS.astype(np.float16))


def test_numbered_files_are_in_the_order_of_their_numbers(tmp_path):
    for part in ("img_emb", "metadata"):
        (tmp_path / part).mkdir()
    for number in range(12):
        np.save(tmp_path / "img_emb" / f"img_emb_{number}.npy", np.full((1, 2), number, np.float32))
        pa.parquet.write_table(
            pa.table({"key": [str(number)]}), tmp_path / "metadata" / f"metadata_{number}.parquet"
        )
    file = read_vectors(tmp_path)
    assert file.values[:, 0].tolist() == list(range(12))
    assert file.columns["key"] == [str(number) for number in range(12)]


def test_parts_of_vectors_and_metadata_belong_together(tmp_path):
    write_clip_retrieval(tmp_path / "clip")
    first = tmp_path / "clip" / "metadata" / "metadata_0.parquet"
    content = first.read_bytes()
    first.unlink()
    with pytest.raises(DataError, match=r"files of different numbers \(0 in one only\)"):
        read_vectors(tmp_path / "clip")
    first.write_bytes((first.parent / "metadata_1.parquet").read_bytes())
    with pytest.raises(DataError, match="different numbers of rows"):
        read_vectors(tmp_path / "clip")
    pa.parquet.write_table(pa.table({"key": ["a", "b", "c"]}), first)  # a column that the other has not
    assert read_vectors(tmp_path / "clip").columns == {}
    first.write_bytes(content)
    assert IDS in list(read_vectors(tmp_path / "clip").columns.values())


def test_a_list_of_ids_of_another_length_is_refused(tmp_path):
    write_npy(tmp_path / "x.npy")
    (tmp_path / "x.npy.ids.txt").write_text("\n".join([*IDS, "one more"]))
    with pytest.raises(DataError, match="7 vectors, and 8 ids"):
        read_vectors(tmp_path / "x.npy")


def test_a_first_column_of_distinct_whole_numbers_names_the_rows(tmp_path):
    pd.DataFrame(VECTORS).assign(id=range(ROWS))[["id", 0, 1, 2]].to_csv(tmp_path / "x.csv", index=False)
    file = read_vectors(tmp_path / "x.csv")
    assert file.shape == (ROWS, WIDTH)
    assert file.columns == {"id": [str(row) for row in range(ROWS)]}


def test_such_a_column_is_no_number_where_texts_name_the_rows_too(tmp_path):
    (tmp_path / "x.csv").write_text("id,file,a\n1,a.jpg,.5\n2,b.jpg,.25\n")
    file = read_vectors(tmp_path / "x.csv")
    assert file.values.tolist() == [[0.5], [0.25]]
    assert file.columns == {"id": ["1", "2"], "file": ["a.jpg", "b.jpg"]}


def test_ids_are_not_read_as_numbers(tmp_path):
    (tmp_path / "x.csv").write_text("id,a,b\n007,1,2\n1e3,3,4\nNA,5,6\n")
    assert read_vectors(tmp_path / "x.csv").columns == {"id": ["007", "1e3", "NA"]}


def test_ids_of_a_file_of_lines(tmp_path):
    np.save(tmp_path / "x.npy", VECTORS)
    (tmp_path / "ids").write_text("\n".join(IDS))
    file = with_ids(read_vectors(tmp_path / "x.npy"), tmp_path / "ids")
    assert [*file.columns.values()] == [IDS]
    (tmp_path / "ids").write_text("\n".join(IDS[1:]))
    with pytest.raises(DataError, match="has 6 lines"):
        with_ids(file, tmp_path / "ids")


# ---------------------------------------------------------------------------------------- with labels

LABELS = np.array([[1, 0], [0, 0], [1, 1], [0, 1]])
MATRIX = np.array([[0, 1.5, 0], [2, 0, 0], [0, 0, 0], [0, 0, 3]], np.float32)
NAMES_OF_ROWS = [("sad",), (), ("sad", "calm"), ("calm",)]


def arff(relation="r", first=False, is_sparse=False, kind="{0,1}"):
    names = [("sad", kind), ("calm", kind)]
    numbers = [(f"x{i}", "numeric") for i in range(3)]
    columns = [*names, *numbers] if first else [*numbers, *names]
    rows = np.concatenate([LABELS, MATRIX] if first else [MATRIX, LABELS], axis=1)
    if is_sparse:
        lines = ["{" + ", ".join(f"{i} {x:g}" for i, x in enumerate(row) if x) + "}" for row in rows]
    else:
        lines = [",".join(f"{x:g}" for x in row) for row in rows]
    head = [f"@relation '{relation}'", *(f"@attribute {name} {kind}" for name, kind in columns), "@data"]
    return "\n".join([*head, *lines]) + "\n"


@pytest.mark.parametrize("is_sparse", [False, True])
@pytest.mark.parametrize(
    ("relation", "first", "option"),
    [("m: -C 2", True, None), ("m: -C -2", False, None), ("r", True, "first:2"), ("r", False, "last:2"),
     ("r", False, None)],
)  # fmt: skip
def test_arff_with_labels_first_or_last(relation, first, option, is_sparse, tmp_path):
    pytest.importorskip("arff", reason="liac-arff is not installed")
    (tmp_path / "x.arff").write_text(arff(relation, first, is_sparse))
    file = read_vectors(tmp_path / "x.arff", labels=option)
    assert file.is_sparse == is_sparse
    np.testing.assert_array_equal(file.values.toarray() if is_sparse else file.values, MATRIX)
    assert file.labels == NAMES_OF_ROWS


def test_gzipped_arff(tmp_path):
    pytest.importorskip("arff", reason="liac-arff is not installed")
    with gzip.open(tmp_path / "x.arff.gz", "wt") as file:
        file.write(arff())
    assert read_vectors(tmp_path / "x.arff.gz").labels == NAMES_OF_ROWS


def test_arff_whose_labels_are_not_clear(tmp_path):
    pytest.importorskip("arff", reason="liac-arff is not installed")
    binary = arff().replace("numeric", "{0,1}").replace("1.5", "1").replace("2,", "1,").replace("3,", "1,")
    (tmp_path / "x.arff").write_text(binary)
    with pytest.raises(UsageError, match="which of its 5 columns are labels is not clear"):
        read_vectors(tmp_path / "x.arff")
    # A filter may have moved the columns that MEKA's -C counts.
    (tmp_path / "x.arff").write_text(binary.replace("'r'", "'m: -C 2-weka.filters.Remove-R1'"))
    with pytest.raises(UsageError, match="not clear"):
        read_vectors(tmp_path / "x.arff")


@pytest.mark.parametrize("header", [b"", b"4 4 2\n"])
def test_libsvm(header, tmp_path):
    path = tmp_path / "x.svm"
    dump_svmlight_file(sparse.csr_matrix(MATRIX), LABELS, str(path), multilabel=True, zero_based=False)
    path.write_bytes(header + path.read_bytes())
    file = read_vectors(path)
    np.testing.assert_array_equal(file.values.toarray()[:, 1:], MATRIX)  # as numbered: 0 is in no row
    assert file.labels == [("0",), (), ("0", "1"), ("1",)]


def test_columns_of_libsvm_are_those_that_are_written(tmp_path):
    """A part in which no row has column 0 must not be taken for one that counts from 1."""
    (tmp_path / "a.svm").write_text("1 0:1 2:3\n")
    (tmp_path / "b.svm").write_text("1 1:1 2:3\n")
    (tmp_path / "c.svm.gz").write_bytes(gzip.compress(b"1 5 1\n1 1:1 2:3\n"))
    files = [read_vectors(tmp_path / name) for name in ("a.svm", "b.svm", "c.svm.gz")]
    assert [file.values.toarray().tolist() for file in files] == [[[1, 0, 3]], [[0, 1, 3]], [[0, 1, 3, 0, 0]]]


def test_blank_lines_of_libsvm_are_counted(tmp_path):
    (tmp_path / "x.svm").write_text("1 1:2\n\n2 1:3\n")
    file = read_vectors(tmp_path / "x.svm")
    assert file.shape == (2, 2)
    assert file.warnings == [
        f"{tmp_path / 'x.svm'}: 1 blank lines are left out: they have no number and no label"
    ]


# --------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda p: (p / "x.bin").write_bytes(b"?"), "vectors are read from .npy"),
        (lambda p: (p / "x.npy").write_bytes(b"no array"), "x.npy: "),
        (lambda p: np.save(p / "x.npy", np.zeros(3)), r"array of shape \(3,\)"),
        (lambda p: np.save(p / "x.npy", np.zeros((0, 3))), r"shape \(0, 3\)"),
        (lambda p: np.save(p / "x.npy", np.array([["a"]])), "not numbers"),
        (lambda p: np.save(p / "x.npy", np.array([[{}]]), allow_pickle=True), "x.npy: "),
        (lambda p: np.savez(p / "x.npz", a=VECTORS, b=VECTORS), r"several \(a, b\)"),
        (lambda p: np.savez(p / "x.npz", names=np.array(IDS)), "has none"),
        (lambda p: (p / "x.csv").write_text("a,b\nx,y\n"), "no column has numbers in every row"),
        (lambda p: (p / "x.svm").write_text("1,2 x:y\n"), "x.svm: "),
        (lambda p: (p / "x.parquet").write_bytes(b"PAR1"), "x.parquet: "),
        (lambda p: pa.parquet.write_table(pa.table({"v": [[1.0], [1.0, 2.0]]}), p / "x.parquet"), "lengths"),
        (lambda p: pa.parquet.write_table(pa.table({"v": [[1.0], None]}), p / "x.parquet"), "1 rows of"),
        (lambda p: pa.parquet.write_table(pa.table({"v": [[1], [None]]}), p / "x.parquet"), "lack 1 numbers"),
        (lambda p: (p / "x").mkdir(), "img_emb/ or text_emb/"),
        (lambda p: (p / "x.svm.gz").write_bytes(gzip.compress(b"1 1:2\n")[:-9] + b"damaged.."), "x.svm.gz"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_line(write, message, tmp_path):
    write(tmp_path)
    (path,) = tmp_path.iterdir()
    with pytest.raises((DataError, UsageError), match=message) as error:
        read_vectors(path)
    assert "\n" not in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_vectors(tmp_path / "x.npy")


def test_no_pickle_is_read(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.array([[None]], object))
    with pytest.raises(DataError):
        read_vectors(tmp_path / "x.npz")
