"""Other data encoded for a run, as the run needs it."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from encode_once.cache import Store, Table, UsageError, own_code
from encode_once.cache.names import FeatureName
from encode_once.cache.terminal import Log
from encode_once.cache.views import without_view
from encode_once.classify.runs import own_files
from encode_once.classify.runs.predict import check
from encode_once.classify.runs.run import Run
from encode_once.extract import Columns, ComputeOptions, ReadOptions, Report, encode
from encode_once.extract.encoders import custom
from encode_once.extract.readers import Uncertain
from encode_once.extract.recorded import recorded_towers
from encode_once.extract.trust import Trust, approve

Weights = Mapping[str, str] | str | os.PathLike[str] | None


@dataclass(frozen=True)
class Encoding:
    """How other data are encoded for runs.

    store: read and extended; None: the run's, which is only read, and RUN/store.
    weights: the local files that the user names, of these encoders: encoder → file.
    trust: whether code and files that the run names are used, if their hashes match.
    read, compute: as for `extract.encode`; the run decides what `read` leaves open, and the bit depth.
    say, warn: called with a message, and with warnings.
    """

    store: str | None
    device: str
    weights: Callable[[Sequence[str]], Mapping[str, str]]
    trust: bool
    say: Log
    warn: Callable[[Sequence[str]], None]
    read: ReadOptions = field(default_factory=ReadOptions)
    compute: ComputeOptions = field(default_factory=ComputeOptions)
    progress: bool = True

    def trusted(self, runs: Sequence[Run]) -> Trust:
        """The code and files that the user trusts, of the encoders that the runs name."""
        encoders = [*dict.fromkeys(name for run in runs for name in run.record.encoders)]
        return Trust((), self.weights(encoders), self.trust, self.say)

    def encode(
        self,
        run: Run,
        data: str | os.PathLike[str] | Table,
        store: Store,
        trust: Trust,
        choose: Callable[[Sequence[Table]], Table],
    ) -> Table:
        """Encode the features that a run needs of the table that is chosen among those of the data.

        What could not be encoded is reported, and where the rest is kept.
        """
        check(run, store)
        record = run.record
        base = store.base if self.store is None else None
        if base and (base.mirror or not base.path.resolve().is_relative_to(Path.cwd())):
            line = f"{run.path} names the store {base.location}, which is read: --store DIR names another"
            self.warn([line])
        if self.store is None and not store.base:
            line = f"{record.store}, the store of {run.path}, is not there: rows are encoded again"
            self.warn([f"{line}; --store DIR names it"])
        read = self._read_as(run, record.columns_to_read)
        report = self._encode(
            run, data, store, trust, read, lambda tables: [choose(tables)], keep_tables=False
        )
        if self.store is None or store.base:
            self._say_where_kept(run, store, report)
        return report.tables[0]

    def extend(
        self,
        run: Run,
        data: str | os.PathLike[str] | Table,
        store: Store,
        trust: Trust,
        select: Callable[[Sequence[Table]], Sequence[Table]],
    ) -> Report:
        """Encode the features that a run needs of selected tables of the data, and keep these tables.

        Labels are corrected as the user says or else as in the run's data. What failed is reported.
        """
        read = self._read_as(run, run.record.named_columns)
        read = replace(read, corrections=read.corrections or run.record.corrections or None)
        return self._encode(run, data, store, trust, read, select, keep_tables=True)

    def _encode(
        self,
        run: Run,
        data: str | os.PathLike[str] | Table,
        store: Store,
        trust: Trust,
        read: ReadOptions,
        select: Callable[[Sequence[Table]], Sequence[Table]],
        *,
        keep_tables: bool,
    ) -> Report:
        record = run.record
        self.compute.check_recorded()
        with approved(run, trust) as weights:
            _declare(run, store, weights)
            report = encode(
                data,
                record.requested,
                store,
                weights=weights,
                captions=record.captions,
                features=record.encoder_features,
                read=read,
                device=self.device,
                compute=replace(self.compute, bit_depth=record.bit_depth),
                keep_tables=keep_tables,
                progress=self.progress,
                select=select,
            )
        self.warn(report.remarks)
        return report

    def _read_as(self, run: Run, columns: Mapping[str, Sequence[str]]) -> ReadOptions:
        """How the user reads the data or, where that is open, how the data of the run were read.

        columns: those of the run's data, which are preferred if the user names none.
        """
        read, record = self.read, run.record
        return replace(
            read,
            columns=read.columns if read.columns.named else Columns.preferring(columns),
            unknown=read.unknown or tuple(record.unknown_marks),
            uncertain=read.uncertain or cast("Uncertain | None", record.uncertain or None),
        )

    def _say_where_kept(self, run: Run, store: Store, report: Report) -> None:
        encoded = [f"{name}: {counts.encoded}" for name, counts in report.features.items() if counts.encoded]
        if not encoded:
            return
        where = f"kept in {store.location}"
        if store.base:
            where += f", as {store.base.location} is only read"
        if not (store.path.parent / "run.json").exists():
            where = f"gone when this command ends, as {run.path} cannot be written"
        self.say(f"encoded rows ({', '.join(encoded)}) are {where}; --store DIR keeps them in another store")


@contextmanager
def approved(run: Run, trust: Trust) -> Iterator[dict[str, str]]:
    """Let the run's encoders be used in the block: their local weights, for `encode`.

    An encoder of the user's own is the copy that the run holds, whatever the file of that path is now.

    Raises:
        UntrustedError: the user does not allow the code or files, or they have another hash.
    """
    encoders = run.record.encoders
    copies = own_files.copied(run.path, run.record.encoder_code)
    sources = own_files.approve(run.path, copies, trust.recorded, trust.log)
    own = [name for name in encoders if custom.is_custom(name) and str(custom.file_of(name)) in copies]
    for source in sources:
        with suppress(UsageError):  # it is not here
            if own_code.read(f"{source.path}:").identity != source.identity:
                copy = own_files.place(run.path, source.path, source.identity)
                trust.log(f"{source.path} is not the file that {run.path} was fitted with: {copy} is used")
    trust = replace(trust, encoders=[*trust.encoders, *own])
    with custom.using(sources):
        yield approve(str(run.path), encoders, trust)


def _declare(run: Run, store: Store, weights: Mapping[str, str]) -> None:
    """Declare the run's features in a store that lacks them: they are then encoded as the run needs them.

    Raises:
        SpecMismatchError: the encoders make them in another way here.
    """
    present = store.features()
    for encoder, specs in run.record.specs.items():
        names = {str(FeatureName(encoder, output)): spec for output, spec in specs.items()}
        lacking = names.keys() - present
        if lacking:
            recorded_towers(encoder, specs, weights.get(without_view(encoder)))
        for name in sorted(lacking):
            store.declare(name, names[name])


def weights_of(weights: Weights, encoders: Sequence[str]) -> dict[str, str]:
    """Encoder → file, also if only a file is named, for the only encoder.

    Raises:
        UsageError: the run uses no such encoder, or the file may be of any of several.
    """
    if weights is None:
        return {}
    if isinstance(weights, Mapping):
        unknown = [name for name in weights if name not in encoders]
        if unknown:
            raise UsageError(f"weights of {unknown[0]}: the run's encoders are {', '.join(encoders)}")
        return {name: os.fspath(file) for name, file in weights.items()}
    if len(encoders) != 1:
        raise UsageError(f"weights={os.fspath(weights)!r} for any of {', '.join(encoders)}: pass a mapping")
    return {encoders[0]: os.fspath(weights)}
