import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from encode_once.cache import Failure, UnknownFeatureError, UsageError
from encode_once.classify import FeatureDataset
from encode_once.classify.data.blocks import Matrix
from encode_once.classify.data.samples import load_samples


@pytest.fixture
def store(filled):
    """A store whose fourth image could not be encoded."""
    store = filled(50, missing=(3,))
    key = store.table().keys("image")[3].tobytes().hex()
    store.feature("e/image").record_failures([Failure(key, "truncated", "", "")])
    return store


def test_samples_are_the_rows_and_labels_that_fit_learns_from(store):
    dataset, samples = FeatureDataset(store), load_samples(store, (), store.table())
    assert len(dataset) == 50
    assert (dataset.ids, dataset.classes) == (store.table().ids, samples.classes)
    assert dataset.shapes == {"e/image": (1, 8), "e/text": (1, 8)}
    X, Y = map(torch.stack, zip(*dataset, strict=True))
    assert np.array_equal(X.numpy(), samples.X[:], equal_nan=True)
    assert np.array_equal(Y.numpy() == 1, samples.Y)
    assert X.dtype == Y.dtype == torch.float32
    assert X[3, :8].isnan().all()
    assert "1 of 50 rows have no vector" in dataset.warnings[0]


def test_features_and_tables_are_chosen(store):
    table = store.table()
    table.ids = table.ids[::-1]
    dataset = FeatureDataset(store.path, ["e/text"], table=table)
    assert dataset[0][0].shape == (8,)
    assert dataset.ids == table.ids
    assert repr(dataset) == "<FeatureDataset of e/text: 50 rows, 8 columns, 5 classes>"
    with pytest.raises(UnknownFeatureError, match="e/text"):
        FeatureDataset(store, ["e/txt"])
    with pytest.raises(UsageError, match="tfidf:9 is learned from the train rows of a run"):
        FeatureDataset(store, ["e/text", "tfidf:9"])


def test_rows_of_a_batch_are_read_together(store, monkeypatch):
    dataset, reads = FeatureDataset(store, ["e/text"]), []
    original = Matrix.__getitem__

    def counting(matrix, rows):
        reads.append(len(rows))
        return original(matrix, rows)

    monkeypatch.setattr(Matrix, "__getitem__", counting)
    batches = [X for X, _ in DataLoader(dataset, batch_size=20)]
    assert [len(batch) for batch in batches] == [20, 20, 10]
    assert reads == [20, 20, 10]
    rows = [batch for batch, _ in DataLoader(Subset(dataset, [7, 0, -1]), batch_size=3)]
    expected = torch.stack([dataset[row][0] for row in (7, 0, 49)])
    assert torch.equal(rows[0], expected)


def test_rows_out_of_range_end_a_loop(store):
    dataset = FeatureDataset(store, ["e/text"])
    assert torch.equal(dataset[-1][0], dataset[49][0])
    for row in (50, -51):
        with pytest.raises(IndexError):
            dataset[row]


@pytest.mark.slow
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_processes_of_a_loader_read_the_same(store, start):
    dataset = FeatureDataset(store, ["e/text"])
    copy = pickle.loads(pickle.dumps(dataset))
    loader = DataLoader(copy, batch_size=16, num_workers=1, multiprocessing_context=start)
    batches = torch.cat([X for X, _ in loader])
    assert torch.equal(batches, torch.stack([X for X, _ in dataset]))
