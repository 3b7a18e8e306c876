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

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, fields, replace
from functools import cache, partial
from operator import is_not
from pathlib import Path
from shutil import copymode
from typing import Any

import h5py
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from encode_once.cache import DataError, EncodeOnceError, Feature, MissingDataError, Spec, Table
from encode_once.cache.aliases import CHAMPION, check_no_alias, read_aliases, resolved
from encode_once.cache.csv_file import write_csv
from encode_once.cache.format.atomic import write_json
from encode_once.cache.format.files import open_without_links, typed
from encode_once.cache.format.hdf5 import create_hdf5, write_texts
from encode_once.cache.format.replacement import Replacement, replacing_together, whole
from encode_once.cache.format.spec_file import MODALITIES, EncoderRecord, encoder_records
from encode_once.cache.keys import KeyIndex, Keys, present
from encode_once.cache.names import JOINED, OWN, TEXT, FeatureName, captioner
from encode_once.cache.representation import html_heading, html_table, html_warnings, short_repr
from encode_once.cache.terminal import Log, print_message, short_list, short_path
from encode_once.classify import heads
from encode_once.classify.arrays import (
    BoolArray,
    IntArray,
    LabelMatrix,
    PartialLabels,
    Scores,
    State,
    Vectors,
)
from encode_once.classify.data.columns import is_of_column
from encode_once.classify.data.hierarchy import Hierarchy
from encode_once.classify.data.labels import MULTI, table_labels
from encode_once.classify.data.learned import make_vectoriser
from encode_once.classify.data.matrix import MatrixLike
from encode_once.classify.data.rows import content_keys, image_and_caption_keys
from encode_once.classify.data.split_lists import short_split, with_list_files
from encode_once.classify.data.standardise import Standardised
from encode_once.classify.data.text import Vectoriser
from encode_once.classify.decisions.rule import DecisionRule
from encode_once.classify.evaluation.evaluation import Evaluation, ScoredRows
from encode_once.classify.evaluation.metrics import Metrics
from encode_once.classify.evaluation.shown import metrics_html
from encode_once.classify.heads import state as states
from encode_once.classify.heads.base import Head
from encode_once.classify.heads.history import Epoch
from encode_once.classify.runs import own_files, upgrades
from encode_once.classify.runs.checksums import (
    CHECKSUMS,
    check_file,
    check_files,
    is_as_saved,
    write_checksums,
)
from encode_once.classify.runs.origin import Origin, library_versions
from encode_once.classify.runs.paths import absolute, relative
from encode_once.classify.runs.reading import (
    RunError,
    read_history,
    read_json,
    read_rule,
    read_scores,
    read_weights,
    reading,
)
from encode_once.classify.runs.upgrades import (
    FORMAT,
    SINCE,
    VERSION,
    WITH_CHECKSUMS,
    WITH_FOLD_RULES,
    WITH_HISTORY,
)
from encode_once.classify.spec import FitSpec

WEIGHTS, SCORES, RULE, HISTORY = "weights.safetensors", "scores.h5", "thresholds.json", "history.csv"
CHECKED = ("run.json", SCORES, RULE, HISTORY)  # when a run is loaded; its weights when its model is
CARD = "README.md"
FILES = (*CHECKED, WEIGHTS, "metrics.json", "predictions.csv", CARD, CHECKSUMS)
UNFINISHED = "unfinished"  # a file of versions before 7 while a decision rule was being written
PAGE = "report.html"  # the run as `fit --report` shows it, if that was asked for


@dataclass(frozen=True)
class FittedFeature:
    """A stored feature that a run was fitted on, and the encoder that made it."""

    key: str
    spec: Spec
    dim: int
    weights_file: str | None = None  # the encoder's local weights
    captions: str = OWN  # the kind of captions, if it encodes captions
    length: int = 1  # of its sequences, as the head takes them
    licence: str = ""  # of the encoder's published weights; "": not recorded
    trained_on: str = ""  # the data of these weights; "": not recorded
    libraries: dict[str, str] = field(default_factory=dict)  # package → version that encoded it

    __repr__ = short_repr

    @property
    def is_random(self) -> bool:
        """Whether it was made by an encoder with random weights, as a trial."""
        return str(self.spec.get("weights")).startswith("RANDOM")

    @classmethod
    def of(cls, feature: Feature, captions: str = OWN, length: int = 1) -> "FittedFeature":
        """The record of a feature as it is in the store."""
        provenance = feature.record.provenance
        rights = provenance.get("licence", ""), provenance.get("trained_on", "")
        return cls(
            feature.key,
            feature.spec,
            feature.width,
            feature.weights_file,
            captions,
            length,
            *rights,
            library_versions(provenance),
        )


@dataclass(frozen=True)
class RunRecord:
    """What `run.json` holds besides the spec: what the run was fitted on, by which program, and when."""

    features: dict[str, FittedFeature | None]  # by name; None: the run learned the feature itself
    classes: list[str]
    store: str
    table: str
    id_column: str
    label_separator: str
    created: str
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)
    captioners: dict[str, FittedFeature] = field(default_factory=dict)  # by encoder
    scales: dict[str, str] = field(default_factory=dict)  # by feature, see `standardise.standardisation`
    identity: str = ""  # `FitSpec.identity`
    code: str = ""  # `spec.code_key` of the program that fitted it
    # "id", "image", "captions", "labels" or "unknown" → the columns that the user named for it in extract
    named_columns: dict[str, list[str]] = field(default_factory=dict)
    corrections: str = ""  # the file by which labels were corrected in extract
    untrained: list[str] = field(default_factory=list)  # classes without a positive row to fit on
    own_code: dict[str, str] = field(default_factory=dict)  # file of the user's own → hash, see `own_files`
    # Runs of earlier programs have none of the following.
    defaults: dict[str, Any] = field(default_factory=dict)  # the head's options that were not set → value
    table_keys: dict[str, str] = field(default_factory=dict)  # by part, see `rows.part_keys`
    label_set_columns: list[str] = field(default_factory=list)  # if it learned a label set, `FitSpec.labels`
    origin: Origin = field(default_factory=Origin)
    asked_validation: str = ""  # that of the spec says what "auto" chose
    unknown_marks: list[str] = field(
        default_factory=list
    )  # of unknown labels, which the user named in extract
    uncertain: str = ""  # what the user said that -1 means; "": nothing

    __repr__ = short_repr

    @property
    def stored(self) -> dict[str, FittedFeature]:
        """The features that a store has to hold."""
        return {name: record for name, record in self.features.items() if record}

    @property
    def columns_to_read(self) -> dict[str, list[str]]:
        """The named columns by which other data is read: for labels, those of the label set it learned.

        A column of unknown labels is of the table's own labels, not of a label set.
        """
        own = {"labels": self.label_set_columns, "unknown": [""]}
        return self.named_columns | (own if self.label_set_columns else {})

    @property
    def names(self) -> dict[FeatureName, FittedFeature]:
        """The same by their parsed names."""
        return {FeatureName.parse(name, record.captions): record for name, record in self.stored.items()}

    @property
    def encoded(self) -> dict[FeatureName, FittedFeature]:
        """Those that encoders make; the others are imported."""
        return {name: record for name, record in self.names.items() if record.spec["modality"] != "row"}

    @property
    def inputs(self) -> set[str]:
        """What the features are made of: "images", "captions" and so on, as in `model_card.TASKS`."""
        inputs = set[str]()
        for name, feature in self.features.items():
            if feature is None:
                inputs.add("other columns of a table" if is_of_column(name) else "captions")
            elif feature.spec["modality"] != "caption":
                inputs.add("images" if feature.spec["modality"] == "image" else "imported vectors")
            else:
                generated = captioner(feature.captions)
                inputs |= {"images"} if generated else set()
                inputs |= {"captions"} if not generated or feature.captions.startswith(JOINED) else set()
        return inputs

    @property
    def requested(self) -> list[str]:
        """The values of `extract --encoder` that make all features."""
        captioners = (name.captioner for name in self.encoded if name.captioner)
        return list(
            dict.fromkeys([*(name.requested for name in self.encoded), *captioners, *self.captioners])
        )

    @property
    def encoders(self) -> dict[str, EncoderRecord]:
        """Encoder → what is recorded of it, for all encoders that the features need."""
        needed = dict.fromkeys(
            (encoder for name in self.encoded for encoder in name.encoders), EncoderRecord()
        )
        features = [
            *((name.encoder, feature) for name, feature in self.encoded.items()),
            *self.captioners.items(),
        ]
        return needed | encoder_records((encoder, f.weights_file, f.spec) for encoder, f in features)

    @property
    def bit_depth(self) -> int | None:
        """The bits by which 16-bit images were scaled; None without features of images."""
        specs = [feature.spec for feature in self.stored.values() if feature.spec["modality"] == "image"]
        depths = {int(spec.get("bit_depth", 16)) for spec in specs}
        return depths.pop() if len(depths) == 1 else None

    @property
    def specs(self) -> dict[str, dict[str, Spec]]:
        """Encoder → output → spec, of all that encoders have to make for the features."""
        specs: dict[str, dict[str, Spec]] = {}
        for name, feature in self.encoded.items():
            specs.setdefault(name.encoder, {})[name.output] = feature.spec
        for encoder, feature in self.captioners.items():
            specs.setdefault(encoder, {})[TEXT] = feature.spec
        return specs

    def with_paths(self, change: Callable[[str], str]) -> "RunRecord":
        """A copy in which every path is changed."""

        def changed(feature: FittedFeature) -> FittedFeature:
            is_path = feature.weights_file and not feature.is_random
            return replace(feature, weights_file=change(feature.weights_file or "")) if is_path else feature

        return replace(
            self,
            features={name: feature and changed(feature) for name, feature in self.features.items()},
            captioners={name: changed(feature) for name, feature in self.captioners.items()},
            store=change(self.store),
            table=change(self.table),
            corrections=change(self.corrections),
        )

    @property
    def captions(self) -> list[str]:
        """The kinds of captions that the features need."""
        records = [record for record in self.stored.values() if record.spec["modality"] == "caption"]
        return list(dict.fromkeys(record.captions for record in records)) or [OWN]


@dataclass(frozen=True)
class Model:
    """A fitted head with the standardisation of its features."""

    mean: Vectors  # (d,)
    scale: Vectors  # (d,)
    head: Head
    vectorisers: Mapping[str, Vectoriser]  # by the name of the learned feature
    task: str = MULTI  # see `FitSpec`

    __repr__ = short_repr

    def standardise(self, X: MatrixLike) -> Standardised:
        """Features (n, d) as the head takes them; a missing vector (NaN) is replaced by the training mean."""
        return Standardised(X, self.mean, self.scale)

    def scores(self, X: MatrixLike) -> Scores:
        """Probabilities (n, c) of features (n, d); of the task "single", they sum to 1."""
        return of_task(self.task, self.head.predict_proba(self.standardise(X)))


def of_task(task: str, scores: Scores) -> Scores:
    """A head's scores (n, c); of the task "single", divided by their sum, which a softmax leaves at 1."""
    if task == MULTI:
        return scores
    total = scores.sum(axis=1, keepdims=True)
    equal = np.float32(1 / scores.shape[1])  # of a row whose scores are all 0
    return np.where(total > 0, scores / np.maximum(total, np.finfo(np.float32).tiny), equal)


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
        saved = self.path / "metrics.json"
        metrics = metrics_html(read_json(saved)) if saved.exists() else ""
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
        return _shapes(self.record, self.model.vectorisers)

    def once(self, evaluate: "Callable[[Run], Evaluation]") -> Evaluation:
        """What `evaluate` returns for the run as it is: computed again only after a part was replaced."""
        parts = (self.path, self.spec, self.record, self.validation, self.eval, self.decision)
        if self._evaluated is None or any(map(is_not, parts, self._evaluated[0])):
            self._evaluated = parts, evaluate(self)
        return self._evaluated[1]

    def check_code(self) -> None:
        """Raise if the run names code that is not trusted.

        Raises:
            UntrustedError: it does.
        """
        with own_files.using(self.path, self.record.own_code):
            pass

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
            save_file(_arrays(self.model), new(WEIGHTS))
            own_files.save(self.path, self.record.own_code)
            self._write_scores(new)
            write_csv(new(HISTORY), [field.name for field in fields(Epoch)], map(astuple, self.history))
            self._write_decision(new, metrics, predictions)
            self._write_record(new)
            copymode(new("run.json"), new(WEIGHTS))  # safetensors lets nobody else read its files
            self._write_card(new, card)
        own_files.forget_others(self.path, self.record.own_code)
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
        write_json(new("metrics.json"), metrics)
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


def find_run(folders: Iterable[Path], identity: str | None = None) -> Run | None:
    """The run in the first of the folders that holds a whole run, of this identity if it is given."""
    for folder in folders:
        try:
            run = load_run(folder)
        except EncodeOnceError:
            continue
        if identity in (None, run.record.identity):
            return run
    return None


def load_run(path: str | os.PathLike[str], *, trust: bool = False, log: Log = print_message) -> Run:
    """Read a run's folder; the model is built when it is first used.

    Args:
        path: the folder, or FOLDER@ALIAS, see `cache.aliases`: the run is then the one of now.
        trust: use the code that the run names, if its copies have the recorded hashes, and a classifier that
            is restored as it was saved. Without, `model` of such a run raises `UntrustedError`.
        log: called with a line about each of these; by default it is printed on stderr.

    Raises:
        MissingDataError: there is no run there.
        RunError: one of its files is missing, altered or of an unknown version.
        UntrustedError: with `trust`, a copy has another hash.
    """
    path = resolved(os.fspath(path))
    with whole(path, FILES):
        return _load(path, trust, log)


def _load(path: Path, trust: bool, log: Log) -> Run:
    if not (path / "run.json").exists():
        inside = sorted(str(file.parent) for file in path.glob("*/run.json"))
        hint = f"; it holds the runs {short_list(inside)}" if inside else ""
        if aliases := read_aliases(path).aliases:
            hint += f"; {path}@{CHAMPION if CHAMPION in aliases else min(aliases)} is one of them"
        raise MissingDataError(f"{path} is not a run: it has no run.json{hint}")
    content = read_json(path / "run.json")
    with reading(path / "run.json"):
        version = _version(path, content)
        spec, record = _parsed(path, upgrades.record(content, version))
    has_checksums = version >= WITH_CHECKSUMS or (path / CHECKSUMS).exists()
    checksums, weights = check_files(path, CHECKED) if has_checksums else None, path / WEIGHTS
    with reading(weights), open_without_links(weights), safe_open(weights, "numpy") as file:
        restored = any(states.is_restored(name) for name in file.keys())  # noqa: SIM118 — it is no mapping
    checksum = checksums.get(WEIGHTS, "") if checksums is not None else None
    if trust:
        own_files.approve(path, record.own_code, trust, log)
        if restored:
            own_files.approve_restoring(weights, checksum or "", trust, log)

    @cache
    def load_model() -> Model:
        with own_files.using(path, record.own_code):
            if restored:
                own_files.approve_restoring(weights, checksum or "", trust, lambda line: None)
            return _load_model(weights, checksum, version, spec, record)

    scores = read_scores(path / SCORES, record.classes, len(record.features), version)
    folds = 0 if scores.eval.folds is None else int(scores.eval.folds.max()) + 1
    decision = read_rule(path / RULE, record.classes, folds, version)
    history = read_history(path / HISTORY) if version >= WITH_HISTORY or (path / HISTORY).exists() else []
    validation, evaluated, fitted_on = scores.validation, scores.eval, scores.fitted_on
    learns = spec.tune_on == "inner" and decision.spec.learns
    if version < WITH_FOLD_RULES and learns and evaluated.folds is not None and not decision.folds:
        rules = decision.spec.fit_folds(evaluated.scores, evaluated.labels, evaluated.folds)
        decision = replace(decision, folds=rules)
    decision = decision.with_pairs(Hierarchy(spec.hierarchy).pairs(record.classes))
    return Run(path, spec, record, load_model, validation, evaluated, fitted_on, decision, history, version)


def _version(folder: Path, content: dict[str, Any]) -> int:
    """The version of a run, by the content of its `run.json`."""
    name, version = content["format"], content["version"]
    if name != FORMAT or type(version) is not int:
        raise RunError(f"{folder} is no {FORMAT}, but version {version} of {name!r}")
    if version > VERSION:
        raise RunError(
            f"{folder} was written by a newer encode-once (version {version}; this program reads versions "
            f"{SINCE} to {VERSION}): update encode-once"
        )
    if version < SINCE:
        raise RunError(
            f"{folder} holds version {version}, but this program reads versions {SINCE} to {VERSION}: fit it "
            "again"
        )
    if (folder / UNFINISHED).exists() and version < WITH_CHECKSUMS:
        raise RunError(
            f"{folder} has files of two decision rules, as a command was interrupted: tune it with the "
            "program that wrote it, or fit it again"
        )
    return version


def _parsed(folder: Path, content: dict[str, Any]) -> tuple[FitSpec, RunRecord]:
    """The spec and the record in the content of a `run.json` of the current version."""
    recorded = {field.name for field in fields(RunRecord)} & content.keys()
    record = typed(RunRecord, {name: content[name] for name in recorded})
    if len(set(record.classes)) < len(record.classes) or not record.classes:
        raise ValueError("classes occur twice, or there are none")
    features = [*record.stored.values(), *record.captioners.values()]
    paths = [record.store, record.table, *(feature.weights_file or "" for feature in features)]
    if any("\0" in text for text in [*paths, content["split"]]):
        raise ValueError("a path holds the character 0")
    record = record.with_paths(partial(absolute, folder=folder))
    content["split"] = with_list_files(content["split"], partial(absolute, folder=folder))
    for feature in features:
        if feature.spec.get("modality") not in MODALITIES or feature.dim < 1 or feature.length < 1:
            raise ValueError("a feature has no modality, width or length")
    assert record.encoders is not None  # raises for a name that is none
    content = content | {"decision": content["tuning"], "data": record.table}
    spec = {field.name: content[field.name] for field in fields(FitSpec)}
    parsed = typed(FitSpec, spec | {"features": [*record.features]})
    own_files.check_record(record.own_code, [parsed.head, dict(parsed.options)])
    return parsed, record


def _arrays(model: Model) -> State:
    """Everything a model learned, as named arrays."""
    parts: dict[str, Head | Vectoriser] = {"head": model.head, **model.vectorisers}
    arrays = {"mean": model.mean, "scale": np.minimum(model.scale, states.INFINITE), **states.merge(parts)}
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _load_model(path: Path, checksum: str | None, version: int, spec: FitSpec, record: RunRecord) -> Model:
    """The inverse of `_arrays`; the model has scored two rows, so that it is known to fit the run.

    checksum: None for a version that has none.
    """
    if checksum is not None:
        check_file(path, checksum)
    with reading(path):
        arrays = read_weights(path, version)
        vectorisers = {}
        for name in record.features.keys() - record.stored.keys():
            vectorisers[name] = make_vectoriser(name)
            vectorisers[name].load_state(states.state_of(name, arrays))
            vectorisers[name].transform(["a caption"]).take(np.arange(1))
        shapes = _shapes(record, vectorisers)
        d = sum(length * width for length, width in shapes.values())
        mean, scale = arrays["mean"], arrays["scale"]
        if {(mean.shape, mean.dtype), (scale.shape, scale.dtype)} != {((d,), np.dtype(np.float32))}:
            raise ValueError(f"mean and scale are not of {d} columns")
        if not (scale > 0).all():
            raise ValueError("scale is not positive")
        head = heads.make(spec.head, **heads.with_shapes(spec.head, spec.options, shapes))
        head.load_state(states.state_of("head", arrays))
        scale = np.where(scale == states.INFINITE, np.float32(np.inf), scale)
        model = Model(mean, scale, head, vectorisers, spec.task)
        scores = model.scores(np.stack([mean, np.full(d, np.nan, np.float32)]))
        if scores.shape != (2, len(record.classes)) or not np.isfinite(scores).all():
            raise ValueError(f"it does not score {len(record.classes)} classes")
        return model


def _shapes(record: RunRecord, vectorisers: Mapping[str, Vectoriser]) -> dict[str, tuple[int, int]]:
    """Feature → length and width of its block of columns."""
    return {
        name: (feature.length, feature.dim) if feature else vectorisers[name].shape
        for name, feature in record.features.items()
    }
