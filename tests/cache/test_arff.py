import gzip

import numpy as np
import pytest

from encode_once.cache import DataError
from encode_once.cache.arff import read_arff
from tests.arff_samples import DENSE, SPARSE

pytest.importorskip("arff", reason="liac-arff is not installed")


def test_a_dense_file_is_an_array(tmp_path):
    (tmp_path / "x.arff").write_text(DENSE)
    file = read_arff(tmp_path / "x.arff")
    assert file.relation == "tiny: -C -2"
    assert [name for name, _ in file.columns] == ["weight", "a length", "red", "a tag"]
    np.testing.assert_array_equal(file.values, [[0.5, -20, 1, 0], [1, 3, 0, 1]])


def test_a_sparse_file_is_a_sparse_matrix(tmp_path):
    (tmp_path / "x.arff.gz").write_bytes(gzip.compress(SPARSE.encode()))
    file = read_arff(tmp_path / "x.arff.gz")
    assert [name for name, _ in file.columns] == ["0;", "a", "b", "TAG_x"]
    np.testing.assert_array_equal(file.values.toarray(), [[1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 1, 0]])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.5", "?", "has missing values"),
        ("{0, 1}", "{0, 1, 2}", "column 'a tag' is neither numeric nor"),
        ("{0, 1}", "string", "column 'a tag' is neither numeric nor"),
        ("@data", "", "x.arff: "),
        ("1,3,0,1", "1,3,0", "x.arff: "),
    ],
)
def test_other_files_are_refused_in_a_line(old, new, message, tmp_path):
    (tmp_path / "x.arff").write_text(DENSE.replace(old, new))
    with pytest.raises(DataError, match=message) as error:
        read_arff(tmp_path / "x.arff")
    assert "\n" not in str(error.value)
