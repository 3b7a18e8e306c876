"""The inner loop of stage 1: encode in batches what the store lacks, and store the rows.

The main thread stores the results of the workers in the order of the inputs.
"""

import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from encode_once.cache import Failure, Feature, Keys, Shard, Store, Table, content_key, spec_key
from encode_once.cache.format.feature_writer import FeatureWriter
from encode_once.cache.keys import KeyIndex, RowIndex, pack
from encode_once.cache.large_arrays import gathered, row_slices, rows_where
from encode_once.cache.progress import ProgressBar
from encode_once.extract.batches import (
    DecodedInput,
    Results,
    Row,
    TowerRunner,
    encode_in_batches,
)
from encode_once.extract.compute import ComputeOptions
from encode_once.extract.contents import Contents
from encode_once.extract.encoders import rights
from encode_once.extract.encoders.base import RANDOM, Modality, Tower, torch_threads
from encode_once.extract.encoders.precision import EXAMPLES
from encode_once.extract.errors import InputError, TooManyFailuresError
from encode_once.extract.images.decode import quiet_pillow
from encode_once.extract.images.hashing import hash_again, read_file
from encode_once.extract.remote.attempts import PASSING
from encode_once.extract.remote.urls import UrlPrefix

Failures = Mapping[str, Sequence[Failure]]  # output → the inputs that have no row
CHANGED = "changed"  # the reason of an image whose content no longer has its key
COMMIT_SECONDS = 1.0  # rows are buffered so long: each commit waits for the disk


@dataclass(frozen=True, slots=True)
class Input:
    """A distinct image or caption: `source` is the path of the file, or the text."""

    key: bytes
    source: str
    modality: Modality

    def open(self) -> "DecodedInput":
        """Read the input for towers to prepare.

        Raises:
            InputError: the file cannot be read, or its content no longer has this key.
        """
        if self.modality == "caption":
            return DecodedInput(text=self.source)
        content = read_file(self.source)
        if content_key(content) != self.key:
            raise InputError(CHANGED, "the file changed during extraction: run extract again")
        return DecodedInput(content=content)


@dataclass(frozen=True)
class EncodeSettings:
    """Settings for one extraction."""

    device: str
    threads: int  # of each process, where `compute.workers` is what the user asked for
    compute: ComputeOptions = field(default_factory=ComputeOptions)
    shard: Shard = field(default_factory=Shard)  # the part of the contents to encode
    is_helper: bool = False  # whether another process has opened the features, and divides the inputs
    retry_failed: bool = False
    max_failures: float = math.inf  # per encoder
    progress: bool = False
    urls: Sequence[UrlPrefix] = ()  # below which images may be read


def distinct_inputs(tables: Sequence[Table], modality: Modality) -> tuple[Keys, "Inputs"]:
    """The keys (n, 16) of all contents of a modality, and the distinct contents as inputs."""
    contents = Contents(tables, modality)
    keys, first = contents.requested()
    return keys, Inputs(contents, first, modality)


class Inputs(Sequence[Input]):
    """Distinct contents, which become inputs when they are looked at.

    Attributes:
        keys: theirs, (n, 16).
    """

    def __init__(self, contents: Contents, rows: RowIndex, modality: Modality) -> None:
        self._contents, self._rows, self._modality = contents, rows, modality
        self.keys = gathered(contents.keys, rows)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Input: ...
    @overload
    def __getitem__(self, place: slice) -> list[Input]: ...
    def __getitem__(self, place: int | slice) -> Input | list[Input]:
        if isinstance(place, slice):
            return self.at(np.arange(len(self))[place])
        (item,) = self.at(np.array([range(len(self))[place]]))
        return item

    def __iter__(self) -> Iterator[Input]:
        for block in row_slices(len(self)):
            yield from self.at(np.arange(block.start, block.stop))

    def at(self, places: RowIndex) -> list[Input]:
        """The inputs at these places, which ascend."""
        sources = self._contents.sources(self._rows[places])
        keys = map(bytes, self.keys[places])
        return [Input(key, source, self._modality) for key, source in zip(keys, sources, strict=True)]


class Job(TowerRunner):
    """A tower that encodes the inputs missing in its features, which are declared once it is loaded.

    Raises:
        SpecMismatchError: the store has rows of a feature with another spec.
    """

    def __init__(self, encoder: str, tower: Tower, store: Store, weights: str | None) -> None:
        super().__init__(encoder, tower, weights)
        self.into = store
        self.find_features()
        self._writers: dict[str, FeatureWriter] = {}
        self._buffer: dict[str, list[tuple[Input, Row]]] = {output: [] for output in self.names}
        self._committed = time.monotonic()
        self.failed = 0

    def find_features(self) -> None:
        """Look up the tower's features; again once loading has decided its precision, and so its specs."""
        self._features: dict[str, Feature] = {}  # output → its feature, if the store has it
        stored = self.into.features()
        for output, name in self.names.items():
            spec = self.tower.specs[output]
            if name in stored:
                feature = self.into.feature(name)
                feature.recover()
                is_same = feature.key == spec_key(spec)
                if feature.has_rows or is_same:  # else it may be declared with this spec
                    feature.check(spec)
                    self._features[output] = feature

    def keep(self, names: Collection[str]) -> None:
        """Store only the features of these names, of those that the tower makes."""
        self.names = {output: name for output, name in self.names.items() if name in names}
        self.find_features()

    @property
    def is_declared(self) -> bool:
        """Whether the store has a feature of the encoder with the tower's spec."""
        return bool(self._features)

    @property
    def has_rows(self) -> bool:
        """Whether the store has rows of the encoder."""
        return any(feature.has_rows for feature in self._features.values())

    def set_bit_depth(self, bits: int) -> None:
        """Set that of the tower; as it changes the spec, the store must not have rows."""
        self.tower.set_bit_depth(bits)
        self.find_features()

    def has(self, keys: Keys) -> dict[str, NDArray[np.bool_]]:
        """Feature name → whether it has each key, (n,)."""
        nothing = np.zeros(len(keys), np.bool_)
        return {
            name: self._features[output].has(keys) if output in self._features else nothing
            for output, name in self.names.items()
        }

    def failures(self) -> dict[str, dict[bytes, Failure]]:
        """Feature name → key → failure."""
        return {feature.name: feature.failures() for feature in self._features.values()}

    def lacks(self, keys: Keys, *, retry_failed: bool) -> NDArray[np.bool_]:
        """Whether each key is missing in a feature, (n,), and did not fail before (or is to be retried)."""
        failures = {} if retry_failed else self.failures()
        lacking = np.zeros(len(keys), np.bool_)
        for name, has in self.has(keys).items():
            errors = failures.get(name, {})
            failed = pack(key for key, failure in errors.items() if failure.reason not in (CHANGED, *PASSING))
            lacking |= ~has & ~KeyIndex(failed).has(keys)
        return lacking

    def unfinished_helpers(self, shard: Shard, names: Mapping[str, str] | None = None) -> list[Path]:
        """The parts in progress of helpers of a shard's writer, also of those that died.

        names: feature → the name of the only helper to look for.
        """
        return [
            path
            for feature in self._features.values()
            for path in feature.unfinished_helpers(shard)
            if names is None or path.suffixes[-2] == f".{names.get(feature.name)}"
        ]

    def recover(self) -> None:
        """Seal what dead writers committed, and read what is sealed."""
        for feature in self._features.values():
            feature.recover()
            feature.reload()

    def writer_names(self) -> dict[str, str]:
        """Feature → the name under which it is written."""
        return {self.names[output]: writer.name for output, writer in self._writers.items()}

    def open(
        self, settings: EncodeSettings, cleanup: ExitStack, provenance: Mapping[str, str] | None = None
    ) -> None:
        """Declare the features, and open them for writing.

        provenance: of the tower, if it is loaded in other processes only.
        """
        provenance = {**(provenance or self.tower.provenance())} | rights(self.encoder)
        first = provenance | self._weights_file()
        for output, name in self.names.items():
            feature = self._features[output] = self.into.declare(name, self.tower.specs[output], first)
            feature.add_provenance(provenance)
            writer = feature.writer(self.tower.expected, settings.shard, is_helper=settings.is_helper)
            self._writers[output] = cleanup.enter_context(writer)
        cleanup.callback(self.commit)  # keep encoded rows even after an error

    def _weights_file(self) -> dict[str, str]:
        """The local weights as a feature records them, wherever the next command is run."""
        if self.weights is None:
            return {}
        return {"weights_file": self.weights if self.weights == RANDOM else str(Path(self.weights).resolve())}

    def store(self, inputs: Sequence[Input], results: Results) -> Failures:
        """Buffer results; write them if the last commit was more than COMMIT_SECONDS ago.

        Returns the failures, for `record`.
        """
        failures: dict[str, list[Failure]] = {}
        for output, rows in results.items():
            pairs = [*zip(inputs, rows, strict=True)]
            self._buffer[output] += [(item, row) for item, row in pairs if not isinstance(row, InputError)]
            errors = [(item, error) for item, error in pairs if isinstance(error, InputError)]
            failures[output] = [
                Failure(item.key.hex(), error.reason, str(error), item.source) for item, error in errors
            ]
        if time.monotonic() - self._committed > COMMIT_SECONDS:
            self.commit()
        return failures

    def record(self, failures: Failures, most: float) -> None:
        """Record and count failures.

        Raises:
            TooManyFailuresError: more than `most` inputs have failed.
        """
        failed: dict[str, Failure] = {}  # by key
        for output, errors in failures.items():
            self._features[output].record_failures(errors)
            failed |= {error.key: error for error in errors}
        if changed := [failure.input for failure in failed.values() if failure.reason == CHANGED]:
            hash_again(changed, self.into.files)
        self.failed += len(failed)
        if self.failed > most:
            raise TooManyFailuresError(
                f"{self.encoder}: {self.failed} inputs failed, more than --max-failures allows; "
                "failures.jsonl in the store's features lists them; encoded rows are kept"
            )

    def commit(self) -> None:
        """Write the buffered rows."""
        for output, writer in self._writers.items():
            rows, self._buffer[output] = self._buffer[output], []
            if not rows:
                continue
            keys = pack(item.key for item, _ in rows)
            vectors = [row for _, row in rows]
            if vectors[0].ndim == 1:
                writer.append(keys, np.stack(vectors))
            else:
                writer.append(keys, np.concatenate(vectors), np.array([len(row) for row in vectors]))
        self._committed = time.monotonic()


def prepared(inputs: Sequence[Input], runner: TowerRunner) -> list[Any]:
    """Those of the inputs that can be read, prepared for a tower."""
    items: list[Any] = []
    with quiet_pillow():
        for item in inputs:
            with suppress(InputError):  # it is reported when it is encoded
                items.append(item.open().prepared(runner.tower))
    return items


class MissingInputs(Sequence[tuple[Input, list[Job]]]):
    """The inputs that a job lacks, each with these jobs.

    Args:
        lacking: for each job whether it lacks an input, (n,).
    """

    def __init__(self, inputs: Inputs, lacking: Mapping[Job, NDArray[np.bool_]]) -> None:
        self._inputs, self._lacking = inputs, lacking
        self._places = rows_where(np.any([*lacking.values()], axis=0))

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> tuple[Input, list[Job]]: ...
    @overload
    def __getitem__(self, place: slice) -> list[tuple[Input, list[Job]]]: ...
    def __getitem__(self, place: int | slice) -> tuple[Input, list[Job]] | list[tuple[Input, list[Job]]]:
        if not isinstance(place, slice):
            place = range(len(self))[place]
            return self[place : place + 1][0]
        places = self._places[place]
        return [
            (item, [job for job, lacks in self._lacking.items() if lacks[at]])
            for item, at in zip(self._inputs.at(places), places.tolist(), strict=True)
        ]

    def __iter__(self) -> Iterator[tuple[Input, list[Job]]]:
        for block in row_slices(len(self)):
            yield from self[block]

    def of(self, job: Job, most: int) -> list[Input]:
        """Up to so many inputs that a job lacks, from all over the data."""
        places = rows_where(self._lacking[job])
        return self._inputs.at(places[:: max(1, len(places) // most)][:most])


class EncodingPass:
    """The distinct contents of tables in one modality, and the jobs that encode those that are missing.

    Args:
        tables: with keys.
        jobs: of the modality, at least one.
    """

    def __init__(self, tables: Sequence[Table], jobs: Sequence[Job], settings: EncodeSettings) -> None:
        self.tables, self.jobs, self.settings = tables, jobs, settings
        self.modality: Modality = jobs[0].tower.modality
        self.keys, self.inputs = distinct_inputs(tables, self.modality)  # keys: (n, 16)
        lacking = {job: job.lacks(self.inputs.keys, retry_failed=settings.retry_failed) for job in jobs}
        self.missing = MissingInputs(self.inputs, lacking)
        counts = {job: int(lacks.sum()) for job, lacks in lacking.items()}
        self.expected = {job: count for job, count in counts.items() if count}  # of those with missing inputs

    def sources(self, keys: Collection[bytes]) -> dict[tuple[str, bytes], None]:
        """Source and key of all inputs with these keys; of equal images each file, in the tables' order."""
        if not keys:
            return {}
        contents = Contents(self.tables, self.modality)
        rows = rows_where(KeyIndex(pack(keys)).has(contents.keys))
        return dict.fromkeys(zip(contents.sources(rows), map(bytes, contents.keys[rows]), strict=True))

    def remarks(self, job: Job) -> list[str]:
        """Warnings about the inputs that a job has encoded, a line each."""
        return job.tower.remarks()

    def progress(self, description: str) -> ProgressBar:
        """A bar over the missing inputs."""
        shown = self.settings.progress and self.missing
        return ProgressBar(
            total=len(self.missing), unit=self.modality, desc=description, disable=None if shown else True
        )

    def load(self) -> None:
        """Load the towers that have inputs to encode. Nothing is written to the store.

        Raises:
            WeightsError: an encoder's weights are missing or do not fit.
        """
        if not self.expected:
            return
        settings = self.settings
        with torch_threads(1), self.progress("loading") as bar:  # more threads would only compete
            for job, expected in self.expected.items():
                bar.set_description(f"loading {', '.join(job.names.values())}")
                examples = partial(prepared, self.examples(job), job)
                job.load(settings.device, settings.threads, settings.compute.batch_size, expected, examples)
                job.find_features()

    def examples(self, job: Job) -> list[Input]:
        """Up to EXAMPLES of the missing inputs of a job, from all over the data."""
        return self.missing.of(job, EXAMPLES)

    def encode(self) -> None:
        """Encode and store the missing inputs.

        Raises:
            TooManyFailuresError: more inputs than `settings.max_failures` failed for an encoder; encoded rows
                are kept.
        """
        todo, settings = self.missing, self.settings
        if not todo:
            return
        with ExitStack() as cleanup:
            cleanup.enter_context(torch_threads(1))
            cleanup.enter_context(quiet_pillow())
            bar = cleanup.enter_context(self.progress("encoding"))
            for job in self.expected:
                job.open(settings, cleanup)
            pool = cleanup.enter_context(ThreadPoolExecutor(settings.threads))
            cleanup.callback(pool.shutdown, cancel_futures=True)
            for number, encoded in encode_in_batches(todo, self.expected, settings.threads, pool):
                for job, inputs, results in encoded:
                    job.record(job.store(inputs, results), settings.max_failures)
                self.show(bar, number)

    def show(self, bar: ProgressBar, encoded: int) -> None:
        """Show that so many more inputs are encoded, and how many failed."""
        bar.update(encoded)
        if failed := sum(job.failed for job in self.expected):
            bar.set_postfix(failed=failed, refresh=False)
