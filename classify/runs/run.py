"""A run: a fitted model as a folder of plain files, `runs/NAME`. No pickle.

run.json             the spec, and everything else that is needed to repeat the run; its paths are relative
                     to the folder
weights.safetensors  the standardisation and what the head learned
history.csv          a row for each epoch, see `heads.history.Epoch`; only the header if the head has none
scores.h5            groups `tune` (the validation rows) and `eval`: ids (UTF-8 `bytes` and n + 1 `offsets`),
                     content keys (n, 16), scores and labels (n, classes), which are int8 with -1 if some are
                     unknown. If cross-validated, `folds` (n,): the fold whose model gave the scores. If a
                     vector is missing, `missing` (n, features). If rows belong together, `groups` (n,). At
                     the top `classes`, as ids, and `fitted_on`: the content keys (m, 16) of the rows that the
                     run was fitted or tuned on, which evaluation leaves out
thresholds.json      the decision rule: what was asked for, and a threshold for each label. If cross-validated
                     also `folds`: the rule of each fold, which labelled its rows of `eval`
metrics.json         the metrics of the decision rule on `eval`
predictions.csv      its labels for the rows of `eval`
README.md            the model card, see `model_card`; only if whoever saved the decision rule wrote one.
                     Another one, or a card that was edited, is kept in its place, see `Run.card_warnings`
checksums.json       of all other files, see `checksums`
code/                copies of the user's own code that it names, see `own_files`

All but the last are replaced together, see `cache.format.replacement`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, field, fields
from functools import partial
from operator import is_not
from pathlib import Path
from shutil import copymode
from typing import Any

import h5py
import numpy as np
from safetensors.numpy import save_file

from encode_once.cache import DataError, Table
from encode_once.cache.aliases import check_no_alias
from encode_once.cache.csv_file import write_csv
from encode_once.cache.format.atomic import write_json
from encode_once.cache.format.hdf5 import create_hdf5, write_texts
from encode_once.cache.format.replacement import Replacement, replacing_together
from encode_once.cache.keys import KeyIndex, Keys, present
from encode_once.cache.representation import html_heading, html_table, html_warnings
from encode_once.cache.terminal import short_list, short_path
from encode_once.classify.arrays import (
    BoolArray,
    IntArray,
    LabelMatrix,
    PartialLabels,
)
from encode_once.classify.data.hierarchy import Hierarchy
from encode_once.classify.data.labels import table_labels
from encode_once.classify.data.rows import content_keys, image_and_caption_keys
from encode_once.classify.data.split_lists import short_split, with_list_files
from encode_once.classify.decisions.rule import DecisionRule
from encode_once.classify.evaluation.evaluation import Evaluation, ScoredRows
from encode_once.classify.evaluation.metrics import Metrics
from encode_once.classify.evaluation.shown import metrics_html
from encode_once.classify.heads.history import Epoch
from encode_once.classify.runs import own_files
from encode_once.classify.runs.checksums import (
    CHECKSUMS,
    METRICS,
    is_as_saved,
    read_metrics,
    write_checksums,
)
from encode_once.classify.runs.model import Model, arrays_of, shapes_of
from encode_once.classify.runs.paths import relative
from encode_once.classify.runs.record import RunRecord
from encode_once.classify.runs.upgrades import (
    FORMAT,
    VERSION,
)
from encode_once.classify.spec import FitSpec

WEIGHTS, SCORES, RULE, HISTORY = "weights.safetensors", "scores.h5", "thresholds.json", "history.csv"
CHECKED = ("run.json", SCORES, RULE, HISTORY)  # when a run is loaded; its weights when its model is
CARD = "README.md"
FILES = (*CHECKED, WEIGHTS, METRICS, "predictions.csv", CARD, CHECKSUMS)
PAGE = "report.html"  # the run as `fit --report` shows it, if that was asked for


@dataclass
class Run:
    """A fitted model with its decision rule and saved scores, and their folder.

    spec: what was asked for, with features, options and table as they were chosen. Its decision rule is the
        one asked for at first; `decision` is the current one.
    load_model: builds the model, which takes seconds and much memory; the same one each time.
    version: of the files. All of them are written in the current version if any is.
    """

    path: Path
    spec: FitSpec
    record: RunRecord
    load_model: Callable[[], Model] = field(repr=False)
    validation: ScoredRows
    eval: ScoredRows
    fitted_on: Keys  # (m, 16) content keys of the rows it was fitted or tuned on
    decision: DecisionRule
    history: Sequence[Epoch] = ()
    version: int = VERSION  # of the files
    _evaluated: tuple[tuple[Any, ...], Evaluation] | None = field(
        default=None, init=False, repr=False, compare=False
    )

    def __repr__(self) -> str:
        table = f"{len(self.eval.ids):,} eval rows of {short_path(self.record.table)}"
        return f"<Run {self.path}: {self._fitted}; {table}; {self.decision.spec}>"

    def _repr_html_(self) -> str:
        facts = {
            "fitted": self._fitted,
            "table": short_path(self.record.table),
            "rows": f"{len(self.validation.ids):,} validation, {len(self.eval.ids):,} eval",
            "split": short_split(self.spec.split),
            "labels": str(self.decision.spec),
        }
        saved = read_metrics(self.path)
        metrics = metrics_html(saved) if saved else ""
        warnings = html_warnings(self.record.warnings)
        return html_heading(str(self.path)) + html_table([facts]) + metrics + warnings

    @property
    def pairs(self) -> IntArray | None:
        """The pairs of classes in the hierarchy, see `Hierarchy.pairs`."""
        return Hierarchy(self.spec.hierarchy).pairs(self.record.classes)

    def labels_of(self, table: Table) -> PartialLabels:
        """The labels (n, c) of a table's rows, closed upward, without those that the run does not know."""
        return table_labels(Hierarchy(self.spec.hierarchy).close(table), self.record.classes)

    @property
    def _fitted(self) -> str:
        """What the model is, in a few words."""
        features = short_list([*self.record.features])
        return f"{self.spec.head} on {features}, {len(self.record.classes)} classes"

    @property
    def model(self) -> Model:
        """The fitted model.

        Raises:
            RunError: the weights do not fit the head or the features.
        """
        return self.load_model()

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Feature → length and width of its block of columns, side by side in this order."""
        return shapes_of(self.record, self.model.vectorisers)

    def once(self, evaluate: "Callable[[Run], Evaluation]") -> Evaluation:
        """What `evaluate` returns for the run as it is: computed again only after a part was replaced."""
        parts = (self.path, self.spec, self.record, self.validation, self.eval, self.decision)
        if self._evaluated is None or any(map(is_not, parts, self._evaluated[0])):
            self._evaluated = parts, evaluate(self)
        return self._evaluated[1]

    def has_seen(self, keys: Keys) -> BoolArray:
        """Which rows, by their content keys (n, 16), it was fitted or tuned on; none without content."""
        return present(keys) & (KeyIndex(self.fitted_on).find(keys) >= 0)

    def has_seen_rows(self, table: Table) -> BoolArray:
        """Which rows (n,) of a table it was fitted or tuned on; none without content.

        Runs before version 4 recorded keys of a row's image and all its captions.
        """
        return self.has_seen(content_keys(table)) | self.has_seen(image_and_caption_keys(table))

    def save(
        self, metrics: Metrics, predictions: LabelMatrix, card: str = "", *, keep_page: bool = False
    ) -> None:
        """Write the folder; a run that is there is replaced as a whole, or not at all.

        card: of `model_card`; without one, the card of the run that is there is removed. A README.md of the
            user's is neither replaced nor removed, see `card_warnings`.
        keep_page: the page that is there shows the run as it is saved.
        """
        check_place(self.path, overwrite=True)
        with replacing_together(self.path, FILES) as new:
            save_file(arrays_of(self.model), new(WEIGHTS))
            own_files.save(self.path, self.record.own_code, self.record.encoder_code)
            self._write_scores(new)
            write_csv(new(HISTORY), [field.name for field in fields(Epoch)], map(astuple, self.history))
            self._write_decision(new, metrics, predictions)
            self._write_record(new)
            copymode(new("run.json"), new(WEIGHTS))  # safetensors lets nobody else read its files
            self._write_card(new, card)
        own_files.forget_others(self.path, self.record.encoder_code | self.record.own_code)
        if not keep_page:
            self._remove_page()
        self.version = VERSION

    def save_decision(self, metrics: Metrics, predictions: LabelMatrix, card: str = "") -> None:
        """Write the decision rule, and what depends on it: metrics, predictions and card; or none of them.

        card: as for `save`.
        """
        if self.version < VERSION:
            self.save(metrics, predictions, card)
            return
        with replacing_together(self.path, FILES) as new:
            self._write_decision(new, metrics, predictions)
            self._write_card(new, card)
        self._remove_page()

    def save_rows(self, metrics: Metrics, predictions: LabelMatrix, card: str = "") -> None:
        """Write the kept rows, the record, and what `save_decision` writes; or none of them.

        card: as for `save`.
        """
        if self.version < VERSION:
            self.save(metrics, predictions, card)
            return
        with replacing_together(self.path, FILES) as new:
            self._write_scores(new)
            self._write_record(new)
            self._write_decision(new, metrics, predictions)
            self._write_card(new, card)
        self._remove_page()

    def save_card(self, card: str) -> None:
        """Replace the card alone."""
        with replacing_together(self.path, FILES) as new:
            self._write_card(new, card)

    @property
    def card_warnings(self) -> list[str]:
        """A warning if the folder holds a README.md of the user's, which no card replaces."""
        path = self.path / CARD
        if not path.exists() or is_as_saved(path):
            return []
        return [
            f"{path} was written or edited by hand: it is kept as it is; without it, a model card is written"
        ]

    def _write_record(self, new: Replacement) -> None:
        record = self.record.with_paths(partial(relative, folder=self.path))
        content = {"format": FORMAT, "version": VERSION, **asdict(self.spec), **asdict(record)}
        content["split"] = with_list_files(self.spec.split, partial(relative, folder=self.path))
        content["tuning"] = content.pop("decision")  # its name in the file
        del content["data"]  # the same as `table`
        write_json(new("run.json"), content)

    def _write_scores(self, new: Replacement) -> None:
        with create_hdf5(new(SCORES)) as file:
            self._put_scores(file)

    def _write_card(self, new: Replacement, card: str) -> None:
        """Write the last files: the card, or none, as the old one shows the run as it was; and checksums."""
        if self.card_warnings:
            write_checksums(new, without=CARD)
        elif card:
            new(CARD).write_text(card, encoding="utf-8")
            write_checksums(new)
        else:
            write_checksums(new, without=CARD)
            (self.path / CARD).unlink(missing_ok=True)  # before the new files count: never one of another run

    def _remove_page(self) -> None:
        """Remove the page, which shows the run as it was."""
        (self.path / PAGE).unlink(missing_ok=True)

    def _put_scores(self, file: h5py.File) -> None:
        write_texts(file, "classes", self.record.classes)
        file["fitted_on"] = self.fitted_on
        for name, rows in (("tune", self.validation), ("eval", self.eval)):
            group = file.create_group(name)
            write_texts(group, "ids", rows.ids)
            group["keys"] = rows.keys
            group["scores"], group["labels"] = rows.scores, rows.labels
            if rows.folds is not None:
                group["folds"] = rows.folds
            if rows.missing is not None and rows.missing.any():
                group["missing"] = rows.missing
            if rows.groups is not None and len(np.unique(rows.groups)) < len(rows.ids):
                group["groups"] = rows.groups

    def _write_decision(self, new: Replacement, metrics: Metrics, predictions: LabelMatrix) -> None:
        write_json(new(RULE), self.decision.as_json(self.record.classes))
        write_json(new(METRICS), metrics)
        rows = self.eval
        self.write_predictions(
            new("predictions.csv"), self.record.id_column, rows.ids, predictions, rows.missing
        )

    def write_predictions(
        self,
        path: Path,
        id_column: str,
        ids: Sequence[str],
        predictions: LabelMatrix,
        missing: BoolArray | None,
        *,
        excel_safe: bool = False,
    ) -> None:
        """Write predictions (n, c) as CSV, each row's labels joined by the separator.

        If features are missing (n, features), a third column names those that the training mean replaced.
        excel_safe: see `write_csv`.
        """
        columns = {"Labels": (self.record.classes, predictions)}
        if missing is not None and missing.any():
            columns["Missing"] = ([*self.record.features], missing)

        def cells(row: int) -> Iterator[str]:
            yield ids[row]
            for names, has in columns.values():
                yield self.record.label_separator.join(names[i] for i in np.flatnonzero(has[row]))

        rows = ([*cells(row)] for row in range(len(ids)))
        write_csv(path, [id_column, *columns], rows, excel_safe=excel_safe)


def check_place(path: Path, overwrite: bool) -> None:
    """Refuse to write a run over anything but the remains of an interrupted fit or, with `overwrite`, a run.

    Raises:
        DataError: the folder holds something else.
        UsageError: its name would be taken for FOLDER@ALIAS.
    """
    if not (path / "run.json").exists():
        check_no_alias(path)
    elif not overwrite:
        raise DataError(f"{path} holds a run: replace it with --overwrite, or name another folder with --run")
    files = ("run.json", WEIGHTS)  # an interrupted fit leaves only a part of the second, as a new file
    names = [file.name for file in path.iterdir()] if path.is_dir() else []
    if path.is_file() or (names and not any(name.startswith(files) for name in names)):
        raise DataError(f"{path} exists and is not a run: choose another folder with --run")
