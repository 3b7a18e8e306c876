"""Runs of earlier versions, as the current version would hold them: a step from each version to the next.

Before any other module looks at the content of a run's file, the steps from its version on are applied to
it, in memory. So no other module has to know the content of old files, and a new version takes one entry in
`STEPS`; CONTRIBUTING.md says when a change needs one. Released steps stay as they are: tests/golden has runs
of each version. What an old run does not hold gets the value that means "not recorded". Not all programs of a
version wrote the same entries: a step supplies those that the first of them did not write.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from encode_once.classify.arrays import State
from encode_once.classify.data.labels import MULTI
from encode_once.classify.data.split_lists import with_list_files
from encode_once.classify.heads.state import INFINITE
from encode_once.classify.runs.paths import absolute

Content = dict[str, Any]  # of a JSON file

FORMAT, VERSION = "encode-once run", 8
WITH_KEYS = 4  # the first version whose scores.h5 has the content keys of its rows
WITH_FOLD_RULES = 4  # … and whose thresholds.json has the rules of the folds
WITH_HISTORY = 5  # … that always has a history.csv
WITH_BYTES = 5  # the first version whose scores.h5 has texts as bytes with offsets, not in HDF5's heap
WITH_CHECKSUMS = 7

# Fields of the spec that were added to run.json without a new version, and what they are in runs that lack
# them, which need not be the default of new fits. A field of the record that is missing has its default,
# which means "not recorded".
OPTIONAL: Content = {"task": MULTI, "labels": "", "only_classes": [], "hierarchy": []}


@dataclass(frozen=True)
class Step:
    """From a version to the next: what becomes of run.json, of thresholds.json, and of the weights."""

    changes: str
    record: Callable[[Content], Content] = lambda content: content
    rule: Callable[[Content], Content] = lambda content: content
    weights: Callable[[State], State] = lambda arrays: arrays


def record(content: Content, version: int) -> Content:
    """The content of a run.json of that version."""
    for number in range(version, VERSION):
        content = STEPS[number].record(content)
    return {**OPTIONAL, **content}


def rule(content: Content, version: int) -> Content:
    """The content of a thresholds.json."""
    for number in range(version, VERSION):
        content = STEPS[number].rule(content)
        content = content | {"folds": [STEPS[number].rule(fold) for fold in content.get("folds", [])]}
    return content


def weights(arrays: State, version: int) -> State:
    """The arrays of a weights.safetensors."""
    for number in range(version, VERSION):
        arrays = STEPS[number].weights(arrays)
    return arrays


# ------------------------------------------------------------------------------------------------ from 2 to 3


def _with_tuning(content: Content) -> Content:
    without = {name: value for name, value in content.items() if name != "objective"}
    return without | {"tuning": _exact(content["objective"])}


def _exact(objective: str) -> Content:
    """The decision rule of version 2: the thresholds that were best on the tuning rows."""
    return {"objective": objective, "shrink": False, "decide": "thresholds", "calibrate": "none",
            "at_least": 0, "at_most": None}  # fmt: skip


def _with_rule(content: Content) -> Content:
    thresholds = content["thresholds"]
    return {
        **_exact(content["objective"]),
        "thresholds": thresholds,
        "intervals": dict.fromkeys(thresholds),
        "expected_loss": None,
        "calibrated_by": "none",
        "calibration": None,
    }


# ------------------------------------------------------------------------------------------------ from 3 to 4


def _with_groups(content: Content) -> Content:
    return {"groups": "none", **content, "tuning": _renamed(content["tuning"])}


def _with_calibration(content: Content) -> Content:
    by_sets, method = content["decide"] == "expected-f1", content["calibrate"]
    usual = "sigmoid" if by_sets else "none"
    return {"calibrated_by": usual if method == "auto" else method, **_renamed(content)}


def _renamed(rule: Content) -> Content:
    return rule | {"decide": "thresholds"} if rule["decide"] == "cuts" else rule


# ------------------------------------------------------------------------------------------------ from 4 to 5


def _with_validation(content: Content) -> Content:
    new = {"validation": "tenth", "scale": "auto", "scales": {}, "code": ""}
    return {**new, **content, "tuning": _renamed(content["tuning"])}


def _with_folds(content: Content) -> Content:
    return {"guarantee": None, "folds": [], **_renamed(content)}


def _with_listed_leaves(arrays: State) -> State:
    """Forests list the shares above 0 of each leaf; before, they had those of all nodes, (nodes, c).

    A scale is never infinite, since infinity counts as damage.
    """
    new = dict(arrays) | {"scale": np.minimum(arrays["scale"], INFINITE)}
    for prefix in _prefixes(arrays, "roots"):
        if f"{prefix}starts" in arrays:
            continue
        of_leaves = arrays[f"{prefix}shares"][arrays[f"{prefix}left"] < 0]
        leaves, labels = np.nonzero(of_leaves)
        counts = np.bincount(leaves, minlength=len(of_leaves))
        new |= {
            f"{prefix}shares": of_leaves[leaves, labels],
            f"{prefix}labels": labels,
            f"{prefix}starts": np.concatenate([[0], np.cumsum(counts)]),
            f"{prefix}classes": np.array([of_leaves.shape[1]]),
        }
    return new


# ------------------------------------------------------------------------------------------------ from 5 to 6


def _with_untrained(content: Content) -> Content:
    return {"named_columns": {}, "untrained": [], **content}


def _with_orders(arrays: State) -> State:
    """Networks have an order of columns and classes; before, it was that of the run."""
    new, numbers = dict(arrays), sum(array.size for array in arrays.values())
    for prefix in _prefixes(arrays, "size"):
        if f"{prefix}columns" not in arrays and any(name.startswith(f"{prefix}networks.") for name in arrays):
            columns, classes = arrays[f"{prefix}size"].tolist()
            if not (0 < columns <= numbers and 0 < classes <= numbers):
                raise ValueError(f"no network in it has {columns} columns and {classes} classes")
            new |= {f"{prefix}columns": np.arange(columns), f"{prefix}classes": np.arange(classes)}
    return new


# ------------------------------------------------------------------------------------------------ from 6 to 7


def _with_sizes(content: Content) -> Content:
    """The sizes of label sets replace whether a set may be empty; the greatest is not recorded."""
    sizes = [0, len(content["thresholds"])] if content.get("may_be_empty") else None
    return {"sizes": sizes, **{name: value for name, value in content.items() if name != "may_be_empty"}}


# ------------------------------------------------------------------------------------------------ from 7 to 8


def _with_paths_of_folder(content: Content) -> Content:
    """Paths are relative to the run's folder, or absolute; before, they were of the working folder."""

    def feature(record: Content | None) -> Content | None:
        file = record and record.get("weights_file")
        if not record or not file or str(record["spec"].get("weights")).startswith("RANDOM"):
            return record
        return record | {"weights_file": _absolute(file)}

    def features(records: Content) -> Content:
        return {name: feature(entry) for name, entry in records.items()}

    return {
        **content,
        "features": features(content["features"]),
        "captioners": features(content["captioners"]),
        "store": _absolute(content["store"]),
        "table": _absolute(content["table"]),
        "corrections": _absolute(content.get("corrections", "")),
        "split": with_list_files(content["split"], _absolute),
    }


def _absolute(path: str) -> str:
    return absolute(path, Path())


def _prefixes(arrays: State, name: str) -> list[str]:
    """What precedes a name in those of arrays: "head|", or "head|0|" of a head in a stack."""
    return [key.removesuffix(name) for key in arrays if key.endswith(f"|{name}")]


STEPS = {  # the version that a step leads from → the step
    2: Step(
        "Decision rules of several kinds replace one objective.",
        record=_with_tuning,
        rule=_with_rule,
    ),
    3: Step(
        "Rows may be grouped, and scores.h5 has their content keys; decision rules name their calibration.",
        record=_with_groups,
        rule=_with_calibration,
    ),
    4: Step(
        "Validation rows, scales and the program's code are recorded, the training in history.csv; each fold "
        "has its decision rule; forests list their leaves' shares; texts in scores.h5 are bytes.",
        record=_with_validation,
        rule=_with_folds,
        weights=_with_listed_leaves,
    ),
    5: Step(
        "Named columns and classes without a positive train row are recorded; networks keep the order of "
        "columns and classes.",
        record=_with_untrained,
        weights=_with_orders,
    ),
    6: Step(
        "Decision rules have the sizes of label sets; files have checksums and are replaced together.",
        rule=_with_sizes,
    ),
    7: Step(
        "A file of corrections is recorded; paths are relative to the run's folder.",
        record=_with_paths_of_folder,
    ),
}
SINCE = min(STEPS)  # the oldest version that is read
