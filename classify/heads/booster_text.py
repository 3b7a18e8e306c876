"""LightGBM's text of a booster: checked before LightGBM reads it, which ends the process at many faults.

Only what has passed the checks is handed on: the numbers of each tree, whose nodes form a tree, under a
header of our own.
"""

import re

import numpy as np

from encode_once.classify.arrays import FloatArray

INTEGER = re.compile(r"-?\d{1,9}", re.ASCII)
NUMBER = re.compile(r"-?\d{1,30}(\.\d{1,30})?(e[+-]?\d{1,3})?", re.ASCII)
# Name → form of the numbers, and whether a tree has one for each leaf; else for each inner node.
ROWS = {
    "split_feature": (INTEGER, False),
    "split_gain": (NUMBER, False),
    "threshold": (NUMBER, False),
    "decision_type": (INTEGER, False),
    "left_child": (INTEGER, False),
    "right_child": (INTEGER, False),
    "leaf_value": (NUMBER, True),
    "leaf_weight": (NUMBER, True),
    "leaf_count": (INTEGER, True),
    "internal_value": (NUMBER, False),
    "internal_weight": (NUMBER, False),
    "internal_count": (INTEGER, False),
}
SINGLE = {"num_leaves": INTEGER, "num_cat": INTEGER, "is_linear": INTEGER, "shrinkage": NUMBER}
DECISIONS = {0, 2, 4, 6, 8, 10}  # of numbers, by all treatments of missing ones
MAX_LEAVES = 1 << 20


def checked(text: str, columns: int) -> str:
    """The text of a booster of binary trees on that many columns, written again.

    Raises:
        ValueError: it is not such a text.
    """
    head, *trees = text.partition("\nend of trees\n")[0].split("\nTree=")
    if not head.startswith("tree\n") or f"\nmax_feature_idx={columns - 1}\n" not in head:
        raise ValueError(f"it is not the text of a booster of {columns} columns")
    if "\nobjective=binary sigmoid:1\n" not in head or "\nend of trees\n" not in text:
        raise ValueError("it is not the whole text of a booster with one output")
    bodies = [f"Tree={number}\n{_tree(tree, number, columns)}\n\n" for number, tree in enumerate(trees)]
    names = " ".join(f"Column_{column}" for column in range(columns))
    header = {
        "version": "v4",
        "num_class": 1,
        "num_tree_per_iteration": 1,
        "label_index": 0,
        "max_feature_idx": columns - 1,
        "objective": "binary sigmoid:1",
        "feature_names": names,
        "feature_infos": " ".join(["none"] * columns),
        "tree_sizes": " ".join(str(len(body)) for body in bodies),
    }
    lines = "".join(f"{name}={value}\n" for name, value in header.items())
    return f"tree\n{lines}\n{''.join(bodies)}end of trees\n\npandas_categorical:null\n"


def _tree(text: str, number: int, columns: int) -> str:
    """The lines of a tree, written again."""
    first, *lines = text.rstrip("\n").split("\n")
    entries = dict(line.split("=", 1) for line in lines)
    if first != str(number) or list(entries) != ["num_leaves", "num_cat", *ROWS, "is_linear", "shrinkage"]:
        raise ValueError(f"tree {number} has other lines than a tree")
    single = {name: _numbers(form, entries[name], 1)[0] for name, form in SINGLE.items()}
    leaves = int(single["num_leaves"])
    if single["num_cat"] or single["is_linear"] or not 1 <= leaves <= MAX_LEAVES:
        raise ValueError(f"tree {number} is not a tree of numbers with constant leaves")
    if leaves == 1:  # only the value counts, and the lines of inner nodes are empty
        entries |= {name: "" for name in ROWS if name != "leaf_value"}
    arrays = {
        name: _numbers(form, entries[name], leaves if of_leaves else leaves - 1)
        for name, (form, of_leaves) in ROWS.items()
        if entries[name] or leaves > 1
    }
    if leaves > 1:
        inner = np.arange(leaves - 1)
        children = np.stack([arrays["left_child"], arrays["right_child"]])
        # Nodes are numbered from the root on, leaves from -1 down: every number but the root's occurs once.
        is_tree = np.array_equal(np.sort(children.ravel()), np.delete(np.arange(-leaves, leaves - 1), leaves))
        if not is_tree or ((children >= 0) & (children <= inner)).any():
            raise ValueError(f"the nodes of tree {number} are no tree")
        if not set(arrays["decision_type"]) <= DECISIONS:
            raise ValueError(f"tree {number} has unknown decisions")
        if not ((arrays["split_feature"] >= 0) & (arrays["split_feature"] < columns)).all():
            raise ValueError(f"tree {number} splits by a column that is not there")
    return "".join(f"{name}={value}\n" for name, value in entries.items())


def _numbers(form: re.Pattern[str], text: str, count: int) -> FloatArray:
    """That many finite numbers, separated by single spaces."""
    words = text.split(" ")
    if len(words) != count or not all(map(form.fullmatch, words)):
        raise ValueError(f"there are no {count} numbers in {text[:40]!r}")
    numbers = np.array(words, np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError("a number is not finite")
    return numbers
