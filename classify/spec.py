"""What a run is asked for, and the identity by which an existing run is recognised."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from encode_once.cache import Store, Table, content_key, own_code
from encode_once.cache.errors import UsageError, unknown_name
from encode_once.cache.representation import short_repr
from encode_once.classify import heads
from encode_once.classify.data import features as featuring
from encode_once.classify.data.features import FeatureSource, StoredFeature
from encode_once.classify.data.groups import CONTENT, Grouping
from encode_once.classify.data.hierarchy import Hierarchy
from encode_once.classify.data.labels import MULTI, SINGLE, TASKS
from encode_once.classify.data.rows import image_and_caption_keys, json_key
from encode_once.classify.data.split_lists import with_list_files
from encode_once.classify.data.standardise import SCALES
from encode_once.classify.data.tables import table_to_fit
from encode_once.classify.decisions.rule import DecisionSpec

TUNE_ON = ("inner", "eval")
VALIDATION = ("auto", "tenth", "folds")
BY_TASK = DecisionSpec()  # is replaced by the rule of the task; an equal spec is not, as somebody chose it
ARGMAX = DecisionSpec(decide="argmax")  # the decision rule of the task "single"
DECISION_DEFAULTS = {field.name: field.default for field in fields(DecisionSpec)}


@dataclass(frozen=True)
class FitSpec:
    """What to fit: all that decides a run except the contents of the store.

    A run stores it, a sweep and an ablation vary it, and a recipe is one.

    Args:
        head: name of a head of `classify.heads`; `file.py:Name` and `sklearn.module:Name` are others.
        features: names of features; by default every feature of the store with one vector per row.
            `clip-vit-l/text@coca-b32` encodes the captions that coca-b32 wrote, `@table+coca-b32` both.
        options: of the head. Arrays and paths are stored as JSON values.
        split: the eval rows, a SPEC of `classify.data.splits`. Paths of lists become relative to the working
            folder.
        groups: the rows that every split keeps together, a SPEC of `classify.data.groups`.
        decision: the decision rule, or only the objective of its thresholds, as `--tune` takes it; by default
            that of the task.
        tune_on: "inner", the validation rows, or "eval", the eval rows themselves, as some reports do.
        validation: which rows are validation rows: "tenth", a tenth of the train rows, on which the head is
            not fitted, or "folds", all train rows, each scored by a head that was fitted without its fold;
            the run's head is then fitted on all. "auto": see `head_fitter.FOLDS_UP_TO`.
        data: the data folder whose table to learn from, if the store has several.
        scale: how columns are scaled, one of `classify.data.standardise.SCALES`.
        seed: of the split, the validation rows and the head.
        task: "multi", any number of labels per row, or "single", exactly one: the decision rule is argmax,
            and heads that can do so minimise the cross entropy of the softmax.
        labels: the label set to learn, see `extract --label-set`; by default the table's own labels.
        only_classes: the labels to learn, in any order; by default all that occur.
        hierarchy: pairs of a class and one above it, as `read_hierarchy` reads them: each label implies those
            above it, in the table and in what is predicted.

    Raises:
        UsageError: unknown `tune_on`, `validation`, `scale`, `task`, objective or decision rule; a decision
            rule or a hierarchy that is not for the task.
        DataError: a class is above itself in the hierarchy.
    """

    head: str = "mlp"
    features: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    split: str = "stratified:0.1"
    groups: str = CONTENT
    decision: DecisionSpec = BY_TASK
    tune_on: str = "inner"
    validation: str = "auto"
    data: str | None = None
    scale: str = "auto"
    seed: int = 0
    task: str = MULTI
    labels: str = ""
    only_classes: Sequence[str] = ()
    hierarchy: Sequence[Sequence[str]] = ()

    __repr__ = short_repr

    def __post_init__(self) -> None:
        for option, chosen, choices in (
            ("--tune-on", self.tune_on, TUNE_ON),
            ("--validation", self.validation, VALIDATION),
            ("--scale", self.scale, SCALES),
            ("--task", self.task, TASKS),
        ):
            if chosen not in choices:
                raise unknown_name(option, chosen, choices)
        decision = DecisionSpec(self.decision) if isinstance(self.decision, str) else self.decision
        options = {name: _as_json(value) for name, value in self.options.items()}
        values = {
            "decision": decision_of(self.task, decision),
            "options": options,
            "features": tuple(self.features),
            "only_classes": tuple(self.only_classes),
            "hierarchy": Hierarchy(tuple(map(tuple, self.hierarchy))).edges,
            "split": with_list_files(self.split, os.path.relpath),
        }
        if self.task == SINGLE and self.hierarchy:
            raise UsageError(
                "task single gives each row one label, and a hierarchy all above it: use --task multi"
            )
        for name, value in values.items():
            object.__setattr__(self, name, value)  # the class is frozen

    @classmethod
    def of(cls, head: str, **values: Any) -> "FitSpec":
        """The spec of a head; values: of other fields, and of the head's options.

        Raises:
            UsageError: unknown head, field or option.
        """
        own, options = [field.name for field in fields(cls)], heads.options_of(head)
        for name in values:
            if name not in [*own, *options]:
                raise unknown_name(f"field of a spec or option of head {head!r}", name, [*own, *options])
        of_spec = {name: value for name, value in values.items() if name in own}
        of_head = {name: value for name, value in values.items() if name not in own}
        return cls(head, **{**of_spec, "options": {**of_spec.get("options", {}), **of_head}})

    def __getstate__(self) -> dict[str, Any]:
        """The fields and, for processes that fit for this one, the own code that they name and it trusts."""
        names = own_code.names_in([self.head, dict(self.options)])
        return {**vars(self), "own_code": [source for name in names if (source := own_code.meant(name))]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for source in state.pop("own_code"):
            own_code.allow(source)
        vars(self).update(state)

    @property
    def head_options(self) -> dict[str, Any]:
        """The options with which the head is made: with the spec's seed, unless they have one, and its task.

        Raises:
            EncodeOnceError: there is no such head.
        """
        of_task = {"task": self.task} if self.task != MULTI and "task" in heads.options_of(self.head) else {}
        return {**heads.with_seed(self.head, self.options, self.seed), **of_task}

    @property
    def own_code(self) -> dict[str, str]:
        """File → hash of the user's own code that the head and its options name.

        Raises:
            UntrustedError: a file is not trusted.
        """
        return own_code.identities_in([self.head, dict(self.options)])

    def identity(
        self,
        store: Store,
        table: Table | None = None,
        references: Sequence[FeatureSource] = (),
        grouping: Grouping | None = None,
    ) -> str:
        """A hash of all that decides the scores of the run, including the program's code.

        A run of the same identity need not be fitted again. The decision rule does not count, and an option
        set to its default is the same as one left out.

        Args:
            table, references, grouping: those that the spec names, if they are at hand already.

        Raises:
            EncodeOnceError: a name, the store or the table cannot be used.
        """
        table = table or table_to_fit(store, self.data, self.split, self.labels)
        references = references or featuring.choose(store, self.features)
        grouping = grouping or Grouping.parse(self.groups, store, table)
        decisive = {
            "head": self.head,
            "options": heads.defaults_of(self.head) | self.head_options,
            "own_code": self.own_code,
            "features": [(reference.name, _keys(reference)) for reference in references],
            "split": self.split,
            "groups": grouping.identity,
            "tune_on": self.tune_on,
            "validation": None if self.split.startswith("kfold") else self.validation,
            "scale": self.scale,
            "seed": self.seed,
            "task": self.task,
            "only_classes": sorted(self.only_classes),
            "hierarchy": sorted(map(list, self.hierarchy)),
            "ids": table.ids,
            "labels": table.labels,
            **({"unknown": table.unknown} if table.unknown else {}),
            "columns": table.columns,
            "code": code_key(),
        }
        contents = image_and_caption_keys(table)
        return content_key(json_key(decisive) + contents.tobytes()).hex()


def decision_from(values: Mapping[str, Any]) -> DecisionSpec:
    """The decision rule with these fields; `BY_TASK` if all have their defaults."""
    chosen = {name: value for name, value in values.items() if value != DECISION_DEFAULTS[name]}
    return DecisionSpec(**chosen) if chosen else BY_TASK


def decision_of(task: str, decision: DecisionSpec) -> DecisionSpec:
    """The decision rule for a task: argmax in place of `BY_TASK`, if the task is "single".

    Raises:
        UsageError: see `check_decision`.
    """
    if task == SINGLE and decision is BY_TASK:
        return ARGMAX
    check_decision(task, decision)
    return decision


def check_decision(task: str, decision: DecisionSpec) -> None:
    """Refuse a decision rule that may give a row another number of labels than one, if the task is "single".

    Raises:
        UsageError: it does.
    """
    if task == SINGLE and decision.decide != ARGMAX.decide:
        raise UsageError(
            f"task single gives each row the class of its highest score, so that the rule {decision.decide} "
            "does not apply: leave out options of the decision rule, or fit with --task multi"
        )


def check_options(spec: FitSpec) -> None:
    """Refuse options of the head that `fit` adds.

    Raises:
        UsageError: the spec has one.
    """
    if reasons := [reason for option, reason in heads.FILLED_IN.items() if option in spec.options]:
        raise UsageError("; ".join(reasons))


@cache
def code_key() -> str:
    """A hash of the source of `classify`, so that runs of different code are not taken for the same.

    The version does not do: it stays the same between releases, when results change too, and a refit takes
    seconds.
    """
    root, digest = Path(__file__).parent, hashlib.blake2b(digest_size=16)
    for path in sorted(root.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _keys(reference: FeatureSource) -> list[str]:
    """The keys in the store of what a feature is read from; none for a feature that a run learns."""
    if not isinstance(reference, StoredFeature):
        return []
    return [feature.key for feature in (reference.feature, reference.written) if feature]


def _as_json(value: Any) -> Any:
    """An option as run.json can hold it."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.tolist() if isinstance(value, np.ndarray) else value
