"""A cached encoder as a transformer of scikit-learn."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from encode_once.cache import DataError, Feature, Store, Table, UsageError
from encode_once.cache.errors import unknown_name
from encode_once.cache.names import REGIONS, FeatureName
from encode_once.cache.views import split_view, without_view
from encode_once.extract import encoders
from encode_once.extract.compute import ComputeOptions
from encode_once.extract.encoders.base import RANDOM, TRIAL, Options
from encode_once.extract.pipeline import NOT_ENCODED, encode

SOURCE = "EncoderTransformer"  # of the tables that it makes, in messages
MISSING = ("raise", "nan")
Vectors = NDArray[np.float32]  # (n, d)


class EncoderTransformer(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Images or captions → the vectors of an encoder, which are kept in a store: nothing is encoded twice.

    It learns nothing, so `fit` does nothing. Where several processes call it, as in `GridSearchCV(n_jobs=2)`,
    call `transform` on all rows before: a feature has a single writer, and any number of readers.

    Args:
        encoder: its name, or that of the output, such as `clip-vit-l/image`, where it has several.
        store: the store, or its path.
        folder: where relative paths of images start; by default the current folder.
        missing: what rows without a vector are, such as broken images and empty captions: an error ("raise"),
            or NaN ("nan").
        weights, device, progress: see `extract.encode`.
        precision, batch_size, workers: see `ComputeOptions`.

    Examples:
        >>> model = make_pipeline(EncoderTransformer("efficientnet-lite0"), StandardScaler(), Linear())
        >>> model.fit(paths, Y).predict(["new.jpg"])
    """

    def __init__(
        self,
        encoder: str,
        store: Store | str | os.PathLike[str] = "store",
        *,
        folder: str | os.PathLike[str] | None = None,
        missing: str = "raise",
        weights: str | None = None,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int | None = None,
        workers: int | None = None,
        progress: bool = True,
    ) -> None:
        self.encoder = encoder
        self.store = store
        self.folder = folder
        self.missing = missing
        self.weights = weights
        self.device = device
        self.precision = precision
        self.batch_size = batch_size
        self.workers = workers
        self.progress = progress

    def fit(self, X: Any, y: Any = None) -> "EncoderTransformer":
        """Do nothing but check the options.

        Raises:
            UsageError: an option is unknown, or the encoder has several outputs.
        """
        self._outputs()
        return self

    def transform(self, X: Any) -> Vectors:
        """The vectors (n, d) of images or captions; those that the store lacks are encoded.

        Args:
            X: n paths, or n captions, depending on the encoder.

        Raises:
            EncodeOnceError: an input cannot be encoded, an option is unknown, or the store cannot be used.
        """
        modality, outputs = self._outputs()
        texts = _texts(X)
        if not texts:
            return np.empty((0, self._feature(outputs).dim or 0), np.float32)
        images = [str(Path(self.folder or "", text)) if text else "" for text in texts]
        nothing = [""] * len(texts)
        table = Table(
            SOURCE,
            [str(row) for row in range(len(texts))],
            images if modality == "image" else nothing,
            texts if modality == "caption" else nothing,
            None,
        )
        name = FeatureName.parse(self.encoder)
        report = encode(
            table,
            [name.requested],
            self._store,
            weights={without_view(name.encoder): self.weights} if self.weights else None,
            device=self.device,
            compute=ComputeOptions(self.precision, batch_size=self.batch_size, workers=self.workers),
            progress=self.progress,
            keep_tables=False,
        )
        for warning in report.warnings:
            if not warning.endswith(NOT_ENCODED):  # of the other modality
                warnings.warn(warning, stacklevel=2)
        feature = self._feature(outputs)
        rows = feature.find(table.keys(modality))
        lacking = np.flatnonzero(rows < 0)
        if len(lacking) and self.missing == "raise":
            reasons = {failure.input: failure.reason for failure in report.failures}
            row = int(lacking[0])
            content = table.contents(modality)[row]
            raise DataError(
                f"{len(lacking)} of {len(texts)} rows have no vector of {feature.name}, such as row {row}, "
                f"{content!r} ({reasons.get(content, 'empty')}): leave them out, or set missing='nan'"
            )
        vectors = np.full((len(texts), feature.dim or 0), np.nan, np.float32)
        vectors[rows >= 0] = feature.take(rows[rows >= 0])
        return vectors

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """The names of the columns, `ENCODER/OUTPUT_NUMBER`, (d,).

        Raises:
            UnknownFeatureError: nothing has been encoded.
        """
        feature = self._feature(self._outputs()[1])
        return np.array([f"{feature.name}_{column}" for column in range(feature.dim or 0)], object)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.two_d_array, tags.input_tags.one_d_array = False, True
        tags.input_tags.string = True
        return tags

    @property
    def _store(self) -> Store:
        return self.store if isinstance(self.store, Store) else Store(self.store)

    def _outputs(self) -> tuple[str, list[str]]:
        """The modality that is encoded, and the outputs that may be meant."""
        if self.missing not in MISSING:
            raise unknown_name("missing", self.missing, MISSING)
        name = FeatureName.parse(self.encoder)
        if name.output == REGIONS or name.captioner:
            raise UsageError(f"{self.encoder} is no vector for each image or caption: take another output")
        towers = encoders.towers(name.encoder, Options(self.weights or encoders.named(name.encoder)[1]))
        view = split_view(name.encoder)[1]
        towers = [tower for tower in towers if tower.view == view]
        modality_of = {output: tower.modality for tower in towers for output in tower.specs}
        outputs = [name.output] if name.output else ["pooled"] if "pooled" in modality_of else [*modality_of]
        for output in outputs:
            if output not in modality_of:
                raise unknown_name(f"output of {name.encoder}", output, modality_of)
        modalities = {modality_of[output] for output in outputs}
        if len(modalities) > 1:
            raise self._several(name.encoder, outputs)
        return modalities.pop(), outputs

    def _feature(self, outputs: Sequence[str]) -> Feature:
        """The feature of the output that has a vector for each row."""
        encoder = FeatureName.parse(self.encoder).encoder
        is_trial = self.weights == RANDOM or without_view(encoder).endswith(TRIAL)
        stored = encoders.trial_name(encoder) if is_trial else encoders.named(encoder)[0]
        features = [self._store.feature(f"{stored}/{output}") for output in outputs]
        vectors = [feature for feature in features if not feature.ragged and not feature.holds_texts]
        if not vectors:
            raise UsageError(
                f"{features[0].name} holds a sequence or a text for each row: take another output"
            )
        if len(vectors) > 1:
            raise self._several(stored, [feature.output for feature in vectors])
        return vectors[0]

    @staticmethod
    def _several(encoder: str, outputs: Sequence[str]) -> UsageError:
        names = " or ".join(f"{encoder}/{output}" for output in outputs)
        return UsageError(f"encoder {encoder} has several outputs: write {names}")


def _texts(X: Any) -> list[str]:
    """Paths or captions as texts; a missing one is empty."""
    if isinstance(X, str | bytes | os.PathLike):
        raise UsageError(f"{SOURCE} takes a list of paths or captions, not a single one: write [{X!r}]")
    values = X if isinstance(X, list | tuple) else np.asarray(X)
    if isinstance(values, np.ndarray):
        if values.ndim == 2 and values.shape[1] == 1:  # a column of a DataFrame
            values = values[:, 0]
        if values.ndim != 1:
            raise UsageError(
                f"{SOURCE} takes n paths or captions, (n,), not an array of the shape {values.shape}"
            )
    return [_text(row, value) for row, value in enumerate(values)]


def _text(row: int, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    raise UsageError(
        f"{SOURCE} takes paths or captions, but row {row} is of the type {type(value).__name__}: the store "
        "finds images by the bytes of their files, so save it and pass the path (Predictor takes it as it is)"
    )
