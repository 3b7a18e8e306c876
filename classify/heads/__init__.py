"""The heads by name. A new head is a file here and a line in `HEADS`; `own` finds those of others."""

import inspect
import json
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any, get_type_hints

from encode_once.cache import own_code
from encode_once.cache.errors import DataError, UsageError, brief, unknown_name
from encode_once.classify.arrays import PartialLabels
from encode_once.classify.heads import option_values, own
from encode_once.classify.heads.base import CrossFittingHead, Head
from encode_once.classify.partial import count, is_partial

# name → module, class and the options that the name sets; the module is imported when the head is used
HEADS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "linear": (".linear", "Linear", {}),
    "mlp": (".mlp", "MLP", {}),
    "knn": (".knn", "KNN", {}),
    "prototype": (".prototype", "Prototype", {}),
    "forest": (".forest", "Forest", {}),
    "gbm": (".gbm", "GBM", {}),
    "bilstm": (".fused", "Fused", {"reader": "bilstm"}),
    "bigru": (".fused", "Fused", {"reader": "bigru"}),
    "transformer": (".fused", "Fused", {"reader": "transformer"}),
    "concat": (".fused", "Fused", {"fusion": "concat"}),
    "bilinear": (".fused", "Fused", {"fusion": "bilinear", "width": 64}),
    "mutan": (".fused", "Fused", {"fusion": "mutan"}),
    "gated": (".fused", "Fused", {"fusion": "gated"}),
    "attention": (".attention", "Attention", {}),
    "label-rnn": (".label_rnn", "LabelRNN", {}),
    "stack": (".stack", "Stack", {}),
    "auto": (".auto", "Auto", {}),
}

# What others call a head → its name here, for messages.
ALIASES = {
    "logistic": "linear",
    "logistic-regression": "linear",
    "logreg": "linear",
    "nn": "mlp",
    "perceptron": "mlp",
    "nearest-neighbours": "knn",
    "zero-shot": "prototype",
    "random-forest": "forest",
    "extra-trees": "forest",
    "lightgbm": "gbm",
    "boosting": "gbm",
    "lstm": "bilstm",
    "gru": "bigru",
    "ensemble": "stack",
    "automl": "auto",
}

# Options that `fit` adds, and what is said to who sets them.
FILLED_IN = {
    "classes": "classes are those of the table: fit --classes chooses some of them",
    "shapes": "shapes are those of the features, and cannot be set",
    "task": "task is an option of fit: --task single",
}


def make(name: str, **options: Any) -> Head:
    """A new head with these options.

    Raises:
        UsageError: the name or an option is unknown; the message suggests the nearest one.
    """
    check_options(name, options)
    try:
        head = class_of(name)(**{**_set_by(name), **options})
    except TypeError as error:
        if name in HEADS:
            raise
        raise UsageError(f"head {name} cannot be made: {brief(error)}") from error
    head.check()
    return head


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Check the names and values of a head's options.

    Raises:
        UsageError: a name or a value is wrong; the message says what it may be.
    """
    head_class = class_of(name)
    defaults, types, choices = defaults_of(name), types_of(name), head_class.CHOICES
    for option, value in options.items():
        if option not in defaults:
            raise unknown_name(f"option of head {name!r}", option, defaults)
        if option in head_class.OWN and isinstance(value, str) and own_code.is_own(value):
            continue
        option_values.check(name, option, value, defaults[option], types[option], choices.get(option, ()))


def class_of(name: str) -> type[Head]:
    """The class of a head.

    Raises:
        UsageError: the name is unknown.
    """
    if name not in HEADS:
        if head := own.find(name):
            return head
        raise unknown_name("head", name, [*HEADS, *own.plugins()], aliases=ALIASES)
    module, class_name, _ = HEADS[name]
    head_class: type[Head] = getattr(import_module(module, __name__), class_name)
    return head_class


def check_labels(name: str, Y: PartialLabels) -> None:
    """Check that a head can learn from labels Y (n, c).

    Raises:
        DataError: some are unknown, and the head does not leave these out; the message names heads that do.
    """
    if not is_partial(Y) or class_of(name).PARTIAL:
        return
    able = ", ".join(head for head in HEADS if class_of(head).PARTIAL)
    raise DataError(
        f"head {name} needs every label of a row, and {count(Y):,} of {Y.size:,} entries are unknown: choose "
        f"another --head ({able})"
    )


def cross_fits(name: str) -> bool:
    """Whether a head has `fit_out_of_fold`.

    Raises:
        UsageError: the name is unknown.
    """
    return issubclass(class_of(name), CrossFittingHead)


def options_of(name: str) -> list[str]:
    """The names of a head's options. A head with the option `shapes` can take sequences."""
    return [*inspect.signature(class_of(name)).parameters]


def defaults_of(name: str) -> dict[str, Any]:
    """The default of every option of a head."""
    parameters = inspect.signature(class_of(name)).parameters
    return {option: parameter.default for option, parameter in parameters.items()} | _set_by(name)


def unset_defaults(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of the options that are not set, as JSON has them; without those that it cannot hold.

    Infinity, which JSON lacks, is the text "inf".
    """
    defaults = {}
    for option, value in defaults_of(name).items():
        if option not in options:
            with suppress(TypeError, ValueError):
                defaults[option] = json.loads(json.dumps(value), parse_constant=lambda text: str(float(text)))
    return defaults


def _set_by(name: str) -> dict[str, Any]:
    """The options that a name of `HEADS` sets."""
    return HEADS[name][2] if name in HEADS else {}


def types_of(name: str) -> dict[str, Any]:
    """The annotation of every option of a head."""
    try:
        hints = get_type_hints(class_of(name).__init__)
    except NameError:  # of a class in a file of the user's own
        hints = {}
    return {option: hints.get(option, Any) for option in options_of(name)}


def with_seed(name: str, options: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The options of a head with a seed, if it has this option and none is given."""
    return {**({"seed": seed} if "seed" in options_of(name) else {}), **options}


def with_shapes(
    name: str, options: Mapping[str, Any], shapes: Mapping[str, tuple[int, int]]
) -> dict[str, Any]:
    """The options of a head for features of these lengths and widths: `shapes` is added if it is an option.

    Raises:
        DataError: a feature holds sequences and the head has no option `shapes`.
    """
    if "shapes" in options_of(name):
        return {**options, "shapes": [*shapes.values()]}
    sequences = [feature for feature, (length, _) in shapes.items() if length > 1]
    if sequences:
        able = ", ".join(head for head in HEADS if "shapes" in options_of(head))
        raise DataError(f"{sequences[0]} holds a sequence per row, which head {name} cannot take; {able} can")
    return dict(options)
