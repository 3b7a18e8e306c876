"""Options that the commands of a run in use share: how other data are encoded for it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from encode_once.cache.options import device_option, grouped, say, warn
from encode_once.extract.options import (
    INPUT_OPTIONS,
    table_inputs,
    trust_option,
    warn_of_failures,
    weights_by_encoder,
    weights_option,
)

if TYPE_CHECKING:
    from encode_once.cache import Store, Table
    from encode_once.classify.runs.run import Run
    from encode_once.extract.readers import Columns
    from encode_once.extract.report import Report
    from encode_once.extract.trust import Trust

    Choose = Callable[[Sequence[Table]], Table]


@dataclass(frozen=True)
class Encoding:
    """How `predict` and `evaluate` encode other data for their runs."""

    store: str | None
    device: str
    weights: Sequence[str]
    trust: bool
    inputs: dict[str, Any]

    def trusted(self, runs: Sequence["Run"]) -> "Trust":
        """The code and files that the user trusts, of the encoders that the runs name."""
        from encode_once.extract.trust import Trust

        encoders = [*dict.fromkeys(name for run in runs for name in run.record.encoders)]
        return Trust((), weights_by_encoder(encoders, self.weights), self.trust, say)

    def encode(
        self, run: "Run", data: "str | Table", store: "Store", trust: "Trust", choose: "Choose"
    ) -> "Table":
        """Encode the features that a run needs of the table that is chosen among those of the data.

        What could not be encoded is reported, and where the rest is kept.
        """
        from encode_once.classify.runs.predict import check

        check(run, store)
        record = run.record
        if self.store is None and store.base and not store.base.path.resolve().is_relative_to(Path.cwd()):
            warn([f"{run.path} names the store {store.base.path}, which is read: --store DIR names another"])
        if self.store is None and not store.base:
            line = f"{record.store}, the store of {run.path}, is not there: rows are encoded again"
            warn([f"{line}; --store DIR names it"])
        report = self.extend(run, data, store, trust, lambda tables: [choose(tables)], keep_tables=False)
        if self.store is None or store.base:
            self._say_where_kept(run, store, report)
        return report.tables[0]

    def extend(
        self,
        run: "Run",
        data: "str | Table",
        store: "Store",
        trust: "Trust",
        select: "Callable[[Sequence[Table]], Sequence[Table]]",
        **options: Any,
    ) -> "Report":
        """Encode the features that a run needs of selected tables of the data, and report what failed.

        options: of `extract.encode`, beside those that the user passed.
        """
        from encode_once.extract import encode
        from encode_once.extract.trust import approve

        record = run.record
        weights = approve(str(run.path), record.encoders, trust)
        self._declare(run, store, weights)
        report = encode(
            data,
            record.requested,
            store,
            weights=weights,
            device=self.device,
            captions=record.captions,
            bit_depth=record.bit_depth,
            select=select,
            **{**self.inputs, "columns": self._columns(record.named_columns), **options},
        )
        warn_of_failures(report)
        return report

    @staticmethod
    def _declare(run: "Run", store: "Store", weights: Mapping[str, str]) -> None:
        """Declare the run's features in a store that lacks them: they are then encoded as the run needs them.

        Raises:
            SpecMismatchError: the encoders make them in another way here.
        """
        from encode_once.cache.names import FeatureName
        from encode_once.extract.in_memory import recorded_towers

        present = store.features()
        for encoder, specs in run.record.specs.items():
            names = {str(FeatureName(encoder, output)): spec for output, spec in specs.items()}
            lacking = names.keys() - present
            if lacking:
                recorded_towers(encoder, specs, weights.get(encoder))
            for name in sorted(lacking):
                store.declare(name, names[name])

    def _columns(self, of_run: Mapping[str, Sequence[str]]) -> "Columns":
        """The columns that the user names or, without any, those of the run's data, where there are such."""
        from encode_once.extract.readers import Columns

        columns: Columns = self.inputs["columns"]
        return columns if columns.named else Columns.preferring(of_run)

    @staticmethod
    def _say_where_kept(run: "Run", store: "Store", report: "Report") -> None:
        encoded = [f"{name}: {counts.encoded}" for name, counts in report.features.items() if counts.encoded]
        if not encoded:
            return
        where = f"kept in {store.path}"
        if store.base:
            where += f", as {store.base.path} is only read"
        if not (store.path.parent / "run.json").exists():
            where = f"gone when this command ends, as {run.path} cannot be written"
        say(f"encoded rows ({', '.join(encoded)}) are {where}; --store DIR keeps them in another store")


def _encoding(store: str | None, device: str, weights: Sequence[str], trust: bool, **inputs: Any) -> Encoding:
    return Encoding(store, device, weights, trust, table_inputs(**inputs))


other_store_option = click.option(
    "--store", help="Store to read and extend. [default: the run's store, read only, and RUN/store]"
)
OF_DATA = (other_store_option, device_option, weights_option, trust_option, *INPUT_OPTIONS)
encoding_options = grouped(
    "encoding",
    _encoding,
    other_store_option,
    weights_option,
    trust_option,
    device_option,
    *INPUT_OPTIONS,
)


measured_table_option = click.option(
    "--table", default="auto", show_default=True, metavar="SPLIT",
    help="train, test, val …; auto: train if it has labels, else another.",
)  # fmt: skip

new_table_option = click.option(
    "--table", "split", default="auto", show_default=True, metavar="SPLIT",
    help="train, test, val …; auto: test if there is one, else train.",
)  # fmt: skip
