"""The model card of a run, `README.md`: what it predicts, from what, how well, and how to use it.

Its first lines are the metadata of Hugging Face's model cards. Names and texts of the data are escaped for
Markdown, and of paths only the last component is shown: a card is shared with people whom neither concerns.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import yaml

from encode_once.cache.terminal import one_line, short_list
from encode_once.cache.text_table import interval_text, markdown_text
from encode_once.classify.data.labels import MULTI
from encode_once.classify.data.split_lists import short_split
from encode_once.classify.decisions.rule import SETS
from encode_once.classify.evaluation.evaluation import Evaluation
from encode_once.classify.evaluation.metrics import MetricName, Metrics, applies
from encode_once.classify.evaluation.tables import of_one_class, threshold_cell, without_positives
from encode_once.classify.runs.record import FittedFeature
from encode_once.classify.runs.retune import evaluate_kept
from encode_once.classify.runs.run import Run

MAX_CLASSES = 30  # in the table of classes
MAX_OPTION = 200  # characters of an option's value
MAX_CELLS = 1_000_000  # eval rows × classes up to which intervals are computed, in 3 s
AVERAGES: dict[MetricName, str] = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "roc_auc": "ROC AUC",
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
    "samples_f1": "samples F1",
    "weighted_f1": "weighted F1",
    "mAP": "mAP",
    "precision": "precision (micro)",
    "recall": "recall (micro)",
}
TASKS = {  # of Hugging Face; the first that applies
    "images": "image-classification",
    "captions": "text-classification",
    "other columns of a table": "tabular-classification",
    "imported vectors": "tabular-classification",
}
CALLS = {  # inputs → the arguments of a predictor
    "images": '"photo.jpg"',
    "captions": 'None, "a caption"',
    "images and captions": '"photo.jpg", "a caption"',
}
MARKUP = re.compile(r"[\\`*_{}\[\]<>#~&$!]|:(?=//)|(?<=www)\.|@")
PATH = re.compile(r"(?<![\w./~-])~?/(?:[^\s/:;,()'\"]+/)+([^\s/:;,()'\"]*)")
UNKNOWN = "not recorded"


def model_card(run: Run, findings: Sequence[str] | None = None) -> str:
    """The text of a run's card, for its decision rule as it is.

    findings: of the checks that `report` makes, a line each; None if they were not made.
    """
    evaluation = evaluate_kept(run)
    metrics = evaluation.metrics
    sections = {
        "Use": _use(run),
        "Evaluation": _evaluation(run, _with_intervals(evaluation)),
        "What to know before trusting it": _caveats(run, findings),
        "Classes": _classes(run, metrics),
        "Data": _data(run),
        "Features": _features(run),
        "Head": _head(run),
        "How it was made": _origin(run),
    }
    parts = [f"---\n{yaml.safe_dump(_metadata(run, metrics), sort_keys=False, allow_unicode=True)}---"]
    parts += [f"# {escaped(run.path.resolve().name)}", _summary(run)]
    for title, paragraphs in sections.items():
        parts += [f"## {title}", *paragraphs]
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """A text of strangers in one line without meaning in Markdown; `markdown_text` escapes `|`."""
    return MARKUP.sub(lambda match: "\\" + match[0], one_line(text))


def named_values(values: Mapping[str, Any]) -> str:
    """Options or versions in a line: "dropout 0.5, epochs 40"."""
    return ", ".join(f"{name} {value}" for name, value in values.items())


def private(run: Run, text: str) -> str:
    """A message or a value with the last component of each path in place of the path."""
    record = run.record
    paths = [Path(record.table), Path(record.store), Path(record.corrections), run.path.resolve(), Path.cwd()]
    folders = {parent for path in paths for parent in path.parents if len(parent.parts) > 2}  # not /home
    for folder in sorted(map(str, folders), key=len, reverse=True):  # they may hold blanks
        text = text.replace(f"{folder}/", "")
    return PATH.sub(r"\1", text)


def _metadata(run: Run, metrics: Metrics) -> dict[str, Any]:
    """The front matter."""
    inputs = _inputs(run)
    task = next(task for kind, task in TASKS.items() if kind in inputs)
    table = re.sub(r"[^\w.-]+", "-", Path(run.record.table).name, flags=re.ASCII).strip("-") or "table"
    results = [
        {"type": "mean_average_precision" if name == "mAP" else name.rpartition("_")[2], "name": title,
         "value": round(value, 4)}
        for name, title in AVERAGES.items()
        if (value := metrics.get(name)) is not None
    ]  # fmt: skip
    result = {
        "task": {"type": task, "name": f"{_kind(run).capitalize()} classification"},
        "dataset": {"type": table, "name": table},
        "metrics": results,
    }
    name = re.sub(r"[^\w.-]+", "-", run.path.resolve().name, flags=re.ASCII).strip("-") or "run"
    return {
        "library_name": "encode-once",
        "pipeline_tag": task,
        "license": "unknown",
        "tags": ["encode-once", f"{_kind(run)}-classification", _head_name(run)],
        "model-index": [{"name": name, "results": [result]}],
    }


def _inputs(run: Run) -> str:
    """What the features are made of, one or several of `TASKS`: "images and captions"."""
    return " and ".join(kind for kind in TASKS if kind in run.record.inputs)


def _summary(run: Run) -> str:
    classes, verb = len(run.record.classes), "apply" if run.spec.task == MULTI else "applies"
    return (
        f"A {_kind(run)} classifier: it predicts which of {classes} classes {verb} to {_inputs(run)}. Its "
        f"head {escaped(_head_name(run))} was fitted on cached features by encode-once, on "
        f"{escaped(run.record.created[:10])}. The licence of this model is for its author to state, as "
        "`license` above; Features has the licences of the encoders that it needs."
    )


def _kind(run: Run) -> str:
    """How many labels it gives."""
    return "multi-label" if run.spec.task == MULTI else "single-label"


def _use(run: Run) -> Iterator[str]:
    yield "RUN is the folder of this file. Encoders are loaded when they are needed."
    inputs = _inputs(run)
    words = "photo.jpg 'photos/*.jpg'" if inputs == "images" else "--data FOLDER -o predictions.csv"
    yield f"```sh\nencode-once predict RUN {words}\n```"
    if inputs in CALLS:
        yield (
            "```python\nfrom encode_once import Predictor\n\n"
            f'predictor = Predictor("RUN")\npredictions = predictor({CALLS[inputs]})\n'
            "print(predictions[0].labels, predictions[0].scores)\n```"
        )
    if "imported vectors" in inputs:
        yield "Vectors of new rows are imported first: `encode-once store import NAME FILE --append`."


def _with_intervals(evaluation: Evaluation) -> Metrics:
    """The metrics, with intervals unless these take long."""
    metrics = evaluation.metrics
    return evaluation.with_intervals() if metrics["n"] * len(evaluation.classes) <= MAX_CELLS else metrics


def _evaluation(run: Run, metrics: Metrics) -> Iterator[str]:
    ends: Mapping[MetricName, list[float] | None] = metrics.get("intervals", {})
    yield markdown_text(
        [
            {"": title, "figure": metrics[name], "95 % interval": interval_text(ends.get(name))}
            for name, title in AVERAGES.items()
            if applies(metrics, name)
        ]
    )
    if "levels" in metrics:
        yield "By level of the hierarchy, from the classes without one above them:"
        yield markdown_text([*metrics["levels"]])
    notes = [
        f"{metrics['n']} eval rows (split {metrics['split']}). Labels: {metrics['decided']}; tuned on "
        f"{metrics['tuned_on']}.",
        metrics.get("guarantee", ""),
        *without_positives(metrics),
        *of_one_class(metrics),
    ]
    yield from (escaped(private(run, note)) for note in notes if note)
    if ends:
        yield "Intervals are for the population that the eval rows come from, with this model as it is."
    else:
        yield "`encode-once evaluate RUN` computes the intervals, which takes a while for so many rows."


def _caveats(run: Run, findings: Sequence[str] | None) -> Iterator[str]:
    lines = [escaped(private(run, line)) for line in (*run.record.warnings, *(findings or ()))]
    trained_on = {name: feature.trained_on for name, feature in _encoded(run) if feature.trained_on}
    lines += [
        f"{escaped(name)}: its weights were trained on {escaped(text)}. If the eval rows are among these "
        "data, the figures are too good."
        for name, text in trained_on.items()
    ]
    if lines:
        yield "\n".join(f"- {line}" for line in lines)
    if findings is None:
        yield "`encode-once report RUN` checks the run for duplicates, rare classes and more."
    elif not findings:
        yield "None of the checks of `encode-once report RUN` that read no vectors fired."


def _classes(run: Run, metrics: Metrics) -> Iterator[str]:
    """The figures of classes, and their thresholds: next to the F1 that they gave, or in a table below."""
    per_class, spec = metrics["per_class"], run.decision.spec
    own = [row["threshold"] for row in run.decision.per_class()]
    gave_these = any(row["threshold"] is not None for row in per_class)
    figures, thresholds = [], []
    for row, value in list(zip(per_class, own, strict=True))[:MAX_CLASSES]:
        threshold = {"class": escaped(row["label"]), "threshold": threshold_cell(value)}
        thresholds.append(threshold)
        cells = threshold if gave_these else {"class": threshold["class"]}
        values = {name: row[name] for name in ("precision", "recall", "f1", "ap")}
        figures.append({**cells, **values, "eval rows": row["support"]})
    yield markdown_text(figures)
    if len(own) > MAX_CLASSES:
        yield (
            f"These are the first {MAX_CLASSES} of {len(own)} classes; `metrics.json` and `thresholds.json` "
            "have all."
        )
    if gave_these or None in own:
        return
    if spec.decide in SETS:
        yield "Labels do not come from thresholds. For programs that only compare scores, there are these:"
    else:
        yield "The thresholds for new rows; each fold of the eval rows had its own:"
    yield markdown_text(thresholds)


def _data(run: Run) -> Iterator[str]:
    record, spec = run.record, run.spec
    validation = "the same as eval" if spec.tune_on == "eval" else f"{len(run.validation.ids)}"
    named = {kind: ", ".join(names) for kind, names in record.columns_to_read.items() if any(names)}
    facts = {
        "table": Path(record.table).name,
        "column of ids": record.id_column,
        **({"label set": spec.labels} if spec.labels else {}),
        "columns that were named": ", ".join(f"{kind}: {names}" for kind, names in named.items())
        or "none: extract found them",
        **({"marks of unknown labels": ", ".join(record.unknown_marks)} if record.unknown_marks else {}),
        **({"-1 next to 0 and 1": record.uncertain} if record.uncertain else {}),
        "corrections of labels": Path(record.corrections).name or "none",
        "rows that it was fitted or tuned on": len(run.fitted_on),
        "validation rows": f"{validation} ({spec.validation})",
        "eval rows": f"{len(run.eval.ids)} ({short_split(spec.split)})",
        "rows kept together": spec.groups,
        "classes without a row to fit on": short_list(record.untrained) or "none",
    }
    yield _facts(run, facts)


def _features(run: Run) -> Iterator[str]:
    rows = []
    for name, feature in run.record.features.items():
        if feature is None:
            cells = {"width": "", "weights": "learned from the train rows", "licence": ""}
        else:
            cells = _cells(run, feature)
        rows.append({"feature": escaped(name), **cells})
    for encoder, feature in run.record.captioners.items():
        rows.append({"feature": f"captions by {escaped(encoder)}", **_cells(run, feature)})
    yield markdown_text(rows)
    yield "The licence is that of the encoder's published weights."


def _cells(run: Run, feature: FittedFeature) -> dict[str, str]:
    is_imported = feature.spec["modality"] == "row"
    weights = "imported vectors" if is_imported else private(run, str(feature.spec.get("weights", UNKNOWN)))
    is_file = feature.weights_file and not feature.is_random
    local = f" (local file {Path(feature.weights_file or '').name})" if is_file else ""
    length = f"{feature.length} × " if feature.length > 1 else ""
    return {
        "width": f"{length}{feature.dim}",
        "weights": escaped(weights + local),
        "licence": escaped(feature.licence or UNKNOWN),
    }


def _encoded(run: Run) -> list[tuple[str, FittedFeature]]:
    """The features that encoders made, and the captioners."""
    return [*run.record.stored.items(), *run.record.captioners.items()]


def _head(run: Run) -> Iterator[str]:
    spec = run.spec
    options = {name: _option(value) for name, value in spec.options.items() if name != "classes"}
    defaults = {name: _option(value) for name, value in run.record.defaults.items()}
    unset = {"options at their defaults": named_values(defaults)} if defaults else {}
    yield _facts(
        run, {"head": _head_name(run), **options, **unset, "scale of columns": spec.scale, "seed": spec.seed}
    )


def _origin(run: Run) -> Iterator[str]:
    facts = run.record.origin.shown
    yield _facts(run, facts | {"seconds": run.record.seconds}) if facts else f"{UNKNOWN.capitalize()}."
    yield "`encode-once rerun RUN` fits it again, compares the scores, and lists what has changed since."


def _head_name(run: Run) -> str:
    """The name of the head; of a class of the user's own without the folder of its file."""
    return PurePath(run.spec.head).name


def _option(value: Any) -> str:
    """The value of a head's option; only the beginning of a long one, such as vectors of prompts."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_OPTION else f"{text[:MAX_OPTION]} … (all of it is in run.json)"


def _facts(run: Run, facts: Mapping[str, Any]) -> str:
    return markdown_text(
        [{"": escaped(name), " ": escaped(private(run, str(value)))} for name, value in facts.items()]
    )
