"""Label images and captions with a run from Python, as often as wanted, without files and without a store."""

import os
import warnings
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np

from encode_once.cache import DataError, SpecMismatchError, UsageError
from encode_once.cache.captions import caption_columns, text_of
from encode_once.cache.names import TEXT, FeatureName, captioner
from encode_once.classify.arrays import RowIndex
from encode_once.classify.data.blocks import Block, MemoryRows, StoredBlock, TextBlock
from encode_once.classify.data.columns import column_of, is_of_column
from encode_once.classify.data.features import side_by_side
from encode_once.classify.data.learned import texts_of
from encode_once.classify.runs.loading import load_run
from encode_once.classify.runs.predict import label_rows, unused_warnings
from encode_once.classify.runs.prevalence import check_method
from encode_once.classify.runs.prevalence import text as prevalence_text
from encode_once.classify.runs.record import FittedFeature
from encode_once.classify.runs.run import Run
from encode_once.deploy.encoding import Weights, approved, weights_of
from encode_once.deploy.inputs import Caption, InputRows, input_rows
from encode_once.deploy.predictions import Predictions, PredictionWarning
from encode_once.extract.batches import Row, TowerRunner
from encode_once.extract.compute import ComputeOptions
from encode_once.extract.errors import InputError
from encode_once.extract.in_memory import QUIET, LoadedEncoders
from encode_once.extract.trust import Trust

Rows = Sequence[Row | InputError | None]  # of n inputs; None: there is no input


class Predictor:
    """A run with its encoders, loaded once: call it with images, captions or both, from any thread.

    Images are decoded, prepared and encoded as `extract` does, so that scores are those of `predict`. A PIL
    image whose pixels are read, and an array, are taken in their own size, where `extract` reads a large
    JPEG at a reduced one.

    Args:
        run: the folder of a run, or the run.
        device: "auto", "cpu", "cuda", "cuda:1", …
        weights: encoder → local file, if the run's encoders need any; the file alone if there is one encoder.
        trust: use the code and weights files that the run names, if their hashes match.
        compute: what makes the encoders fast; the run decides precision and bit depth.

    Raises:
        UsageError: the run is fitted on imported vectors, `weights` names an encoder that it does not use, or
            `compute` has what the run decides.
        SpecMismatchError: an encoder does not make the features that the run was fitted on, as other weights.
        UntrustedError: the run names code or files, and neither `trust` nor `weights` allows them.
        WeightsError: weights are missing, or do not fit.

    Examples:
        >>> predictor = Predictor("runs/mlp")                                         # doctest: +SKIP
        >>> predictor("photo.jpg")[0].labels                                          # doctest: +SKIP
        ['dog', 'boat']
        >>> predictor(["a.jpg", array], ["a dog", None]).frame()                      # doctest: +SKIP
    """

    def __init__(
        self,
        run: str | os.PathLike[str] | Run,
        *,
        device: str = "auto",
        weights: Weights = None,
        trust: bool = False,
        compute: ComputeOptions = ComputeOptions(),
    ) -> None:
        self.run = run if isinstance(run, Run) else load_run(os.fspath(run), trust=trust)
        record = self.run.record
        if imported := [str(name) for name in record.names if name not in record.encoded]:
            raise UsageError(
                f"{self.run.path} is fitted on imported vectors ({', '.join(imported)}), which no encoder "
                "makes: import those of the new rows, and use predict"
            )
        files = weights_of(weights, list(record.encoders))
        try:
            with approved(self.run, Trust((), files, trust)) as local_weights:
                self._encoders = LoadedEncoders(record.specs, local_weights, device=device, compute=compute)
        except SpecMismatchError as error:
            raise SpecMismatchError(f"{self.run.path} was fitted on other features: {error}") from error
        self._model = self.run.model
        self._columns = {column_of(name)[0] for name in record.features if is_of_column(name)}
        self._reported = set[str]()  # remarks of encoders, and what is so for rows of all calls
        self._reporting = Lock()

    @property
    def device(self) -> str:
        """The device of the encoders."""
        return self._encoders.device

    @property
    def runners(self) -> list[TowerRunner]:
        """The loaded towers of the encoders."""
        return self._encoders.runners

    def __repr__(self) -> str:
        record = self.run.record
        features = ", ".join(record.features)
        return f"<Predictor {self.run.path}: {features} → {len(record.classes)} classes, on {self.device}>"

    def __call__(
        self, images: Any = None, captions: Any = None, *, prevalence: str | None = None
    ) -> Predictions:
        """Label rows: one or several images, captions, or both; or the rows of a DataFrame.

        A row whose image cannot be read is labelled by the rest; so is a row without an image or caption.

        Args:
            images: paths, bytes of files, open files, PIL images, or arrays (h, w), (h, w, 3) or (h, w, 4) of
                uint8; None for a row without an image. Or a DataFrame, with columns named as in the run's
                data, or such as `image` and `caption`.
            captions: as many texts; a list of texts for a row with several captions.
            prevalence: "em" corrects scores for how frequent classes are in these rows, 50 or more, which is
                estimated from the scores alone.

        Raises:
            UsageError: the input is of another type, or the run's scores cannot be corrected.
            DataError: no image can be read, or there are too few rows to correct scores.
        """
        record = self.run.record
        rows = input_rows(images, captions, record.named_columns, self._columns)
        check_method(self.run, prevalence, len(rows))
        if not rows:
            shape = 0, len(record.classes)
            nothing = np.empty((0, len(record.features)), np.bool_)
            return Predictions(
                [],
                record.classes,
                np.empty(shape),
                np.empty(shape, np.bool_),
                [*record.features],
                nothing,
                [],
            )
        with QUIET():  # scikit-learn, too, changes the warning filters of the process and restores them
            by_image = self._of_images(rows)
            blocks = self._blocks(rows, by_image)
            if all(block.missing().all() for block in blocks):
                raise DataError(
                    f"no row has what {self.run.path} is fitted on ({', '.join(record.features)}): pass "
                    f"{' and '.join(sorted(self._needed()))}"
                )
            predicted = label_rows(self.run, side_by_side(blocks, _random(self.run)), prevalence)
        present = {"images": any(rows.images), "captions": any(any(column) for column in rows.captions)}
        unused = unused_warnings(self.run, present)
        notes = [*unused, *_failures(rows, by_image), *self._remarks(), *predicted.warnings]
        notes += [prevalence_text(predicted.prevalence)] if predicted.prevalence else []
        of_all_rows = {*unused, *_random(self.run)}
        repeated = of_all_rows - self._new(of_all_rows)
        for note in notes:
            if note not in repeated:  # `QUIET` makes Python forget that it showed a warning
                warnings.warn(note, PredictionWarning, stacklevel=2)
        return Predictions(
            rows.ids,
            record.classes,
            predicted.probabilities,
            predicted.labels,
            [*record.features],
            predicted.missing,
            notes,
            predicted.prevalence,
        )

    def _needed(self) -> set[str]:
        """What rows have to have for the run's features."""
        columns = {f"a DataFrame with the column {name}" for name in self._columns}
        return self.run.record.inputs & {"images", "captions"} | columns

    def _remarks(self) -> list[str]:
        """What encoders say of all inputs so far, such as how many captions they cut, if it is new."""
        lines = {
            f"{', '.join(runner.names.values())}: {remark}, so far"
            for runner in self.runners
            for remark in runner.tower.remarks()
        }
        return sorted(self._new(lines))

    def _new(self, lines: set[str]) -> set[str]:
        """Those that this method was not called with before."""
        with self._reporting:
            new = lines - self._reported
            self._reported |= new
        return new

    def _of_images(self, rows: InputRows) -> dict[str, Rows]:
        """Feature in the store → the row of each image, (n,); with the texts of captioners.

        Raises:
            DataError: no image can be encoded.
        """
        record = self.run.record
        features = {
            name.stored for name, feature in record.names.items() if feature.spec["modality"] == "image"
        }
        features |= {str(FeatureName(encoder, TEXT)) for encoder in record.captioners}
        present = [(row, image) for row, image in enumerate(rows.images) if image is not None]
        encoded = self._encoders.encode(features, [image for _, image in present])
        by_feature: dict[str, Rows] = {}
        for name, vectors in encoded.items():
            if present and all(isinstance(vector, InputError) for vector in vectors):
                row, error = present[0][0], vectors[0]
                assert isinstance(error, InputError)
                raise DataError(
                    f"none of the {len(present)} images can be encoded, such as {rows.ids[row]}: "
                    f"{error.reason} ({error})"
                )
            placed: list[Row | InputError | None] = [None] * len(rows)
            for (row, _), vector in zip(present, vectors, strict=True):
                placed[row] = vector
            by_feature[name] = placed
        return by_feature

    def _blocks(self, rows: InputRows, by_image: Mapping[str, Rows]) -> list[Block]:
        """The run's features of the rows, in its order."""
        of_captions = self._of_captions(rows, by_image)
        blocks: list[Block] = []
        for text, feature in self.run.record.features.items():
            if feature is None:
                blocks.append(TextBlock(text, texts_of(text, rows.texts), self._model.vectorisers[text]))
                continue
            name = FeatureName.parse(text, feature.captions)
            if feature.spec["modality"] == "image":
                values, places = by_image[name.stored], np.arange(len(rows))[None]  # (1, n)
            else:
                values, places = of_captions[name]
            blocks.append(_block(text, feature, values, places))
        return blocks

    def _of_captions(
        self, rows: InputRows, by_image: Mapping[str, Rows]
    ) -> dict[FeatureName, tuple[Rows, RowIndex]]:
        """Feature of captions → the rows of all distinct captions, and where each row's k are, (k, n)."""
        names = [name for name, f in self.run.record.names.items() if f.spec["modality"] == "caption"]
        encoded: dict[FeatureName, tuple[Rows, RowIndex]] = {}
        for kind in dict.fromkeys(name.captions for name in names):
            texts = by_image.get(str(FeatureName(captioner(kind) or "", TEXT)), [])
            generated = [text_of(text) if isinstance(text, np.ndarray) else "" for text in texts]
            columns = caption_columns(kind, rows.captions, generated)
            distinct = {text: i for i, text in enumerate(dict.fromkeys(t for c in columns for t in c if t))}
            places = np.array([[distinct.get(text, -1) for text in column] for column in columns], np.intp)
            of_kind = [name for name in names if name.captions == kind]
            vectors = self._encoders.encode({name.stored for name in of_kind}, [*map(Caption, distinct)])
            encoded |= {name: (vectors[name.stored], places) for name in of_kind}
        return encoded


def _block(name: str, feature: FittedFeature, values: Rows, places: RowIndex) -> StoredBlock:
    """A feature of rows, from encoded values and where those of each row are, (k, n); -1: nowhere."""
    encoded = [i for i, value in enumerate(values) if isinstance(value, np.ndarray)]
    compact = np.full(len(values) + 1, -1, np.intp)  # the last is for -1
    compact[encoded] = np.arange(len(encoded))
    arrays = [value for value in values if isinstance(value, np.ndarray)]
    ragged = arrays[0].ndim == 2 if arrays else feature.length > 1
    return StoredBlock(name, MemoryRows(arrays, ragged, feature.dim), compact[places], feature.length)


def _random(run: Run) -> list[str]:
    """Warnings about features of random weights."""
    features = run.record.stored.items()
    return [
        f"{name} has RANDOM weights: its vectors mean nothing"
        for name, feature in features
        if feature.is_random
    ]


def _failures(rows: InputRows, by_image: Mapping[str, Rows]) -> list[str]:
    """A warning about images that could not be encoded."""
    errors: dict[int, InputError] = {}
    for values in by_image.values():
        errors |= {row: value for row, value in enumerate(values) if isinstance(value, InputError)}
    if not errors:
        return []
    row, error = next(iter(errors.items()))
    return [
        f"{len(errors)} of {len(rows)} images could not be encoded, such as {rows.ids[row]}: "
        f"{error.reason} ({error})"
    ]
