"""What a type checker knows of the public names; `make lint` checks it, and nothing runs it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, assert_type

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

import encode_once
import encode_once as eo
from encode_once import heads
from encode_once.cache import Feature, Table
from encode_once.classify.evaluation.metrics import ClassMetrics, Metrics
from encode_once.classify.systems.picture import Picture
from encode_once.extract import Report


def of_stores(store: encode_once.Store) -> None:
    assert_type(store.table(), Table)
    assert_type(store.feature("glove-50/mean"), Feature)
    assert_type(store.frame("glove-50/mean"), pd.DataFrame)
    assert_type(store.feature("glove-50/mean").to_numpy(), NDArray[Any])
    assert_type(encode_once.encode(Path("input"), ["glove-50"], store), Report)
    read = eo.ReadOptions(eo.Columns(labels=("tags",)), images=["photos"], uncertain="missing")
    encode_once.encode("input", ["glove-50"], read=read, compute=eo.ComputeOptions("float16", workers=2))


def of_runs(store: encode_once.Store, spec: encode_once.FitSpec) -> None:
    run, metrics = encode_once.fit(store, spec, run=Path("runs/a"))
    assert_type(run, encode_once.Run)
    assert_type(metrics, Metrics)
    assert_type(metrics["micro_f1"], float)
    assert_type(metrics["per_class"], list[ClassMetrics])
    assert_type(encode_once.load_run("runs/a"), encode_once.Run)
    encode_once.fit("store", "mlp", dropout=0.3, decision=encode_once.DecisionSpec("macro"))


def of_notebooks(run: eo.Run) -> None:
    data = eo.load("store").dataset("train", ["glove-50/mean"])
    assert_type(data, eo.Samples)
    assert_type(data.Y, NDArray[np.bool_] | NDArray[np.int8])
    assert_type(data.X[:10], NDArray[np.float32])
    assert_type(np.asarray(data.X), NDArray[Any])
    assert_type(data.ids, Sequence[str])
    assert_type(data.classes, list[str])
    assert_type(data.frame(), pd.DataFrame)
    assert_type(eo.evaluate(run, data), eo.Evaluation)
    assert_type(eo.predict("runs/a", Path("photos")), eo.Predictions)
    assert_type(eo.predict(run, data).frame(), pd.DataFrame)
    evaluation = eo.tune(run, "macro", at_least=1)
    assert_type(evaluation, eo.Evaluation)
    assert_type(evaluation.metrics["per_class"], list[ClassMetrics])
    assert_type(evaluation.frame(), pd.DataFrame)
    assert_type(eo.compare([run, "runs/a", Path("runs/b")]), eo.SystemComparison)
    assert_type(eo.compare([run]).frame(), pd.DataFrame)
    assert_type(eo.compare([run]).plot("mAP"), Picture)


def of_estimators(X: NDArray[np.float32], Y: NDArray[np.bool_]) -> None:
    assert_type(heads.Linear(Cs=[1.0]).fit(X, Y), heads.Linear)
    assert_type(heads.MLP(dropout=0.3).predict_proba(X), NDArray[np.float32])
    tuned = encode_once.ThresholdedClassifier(heads.GBM(), objective="micro")
    assert_type(tuned.fit(X, Y), encode_once.ThresholdedClassifier)
    assert_type(tuned.thresholds_, NDArray[np.float64])
    vectors = encode_once.EncoderTransformer("glove-50/mean").transform(["a dog"])
    assert_type(vectors, NDArray[np.float32])


def of_datasets(dataset: encode_once.FeatureDataset) -> None:
    assert_type(dataset[0], tuple[Tensor, Tensor])
    assert_type(dataset.classes, list[str])
    assert_type(DataLoader(dataset), DataLoader[tuple[Tensor, Tensor]])
