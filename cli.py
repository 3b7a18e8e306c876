"""The command line: one thin command per verb. Results go to files and stdout, everything else to stderr."""

import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import click

if __name__ == "__main__":
    # `python cli.py`: the package is the folder of this file, even if another version is installed; and its
    # rooms are not top-level modules.
    _FOLDER = Path(__file__).resolve().parent
    sys.path[:] = [path for path in sys.path if Path(path).resolve() != _FOLDER]
    _SPEC = spec_from_file_location("encode_once", _FOLDER / "__init__.py")
    assert _SPEC is not None
    assert _SPEC.loader is not None
    sys.modules["encode_once"] = module_from_spec(_SPEC)
    _SPEC.loader.exec_module(sys.modules["encode_once"])

from encode_once.cache import (
    DataError,
    EncodeOnceError,
    MissingDataError,
    Shard,
    Store,
    StoreError,
    UsageError,
)
from encode_once.cache.process import keep_freed_memory

INTERRUPTED = 130  # exit status after Ctrl-C, by the shells' convention
NAMED = 20  # failed inputs listed one by one; the rest are counted


class Verbs(click.Group):
    """A group whose errors are one line, with exit status 1, or 2 for a name that does not exist."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn this project's errors, and the system's, into click's."""
        try:
            return super().invoke(ctx)
        except UsageError as error:
            raise click.UsageError(str(error), ctx) from error
        except (EncodeOnceError, OSError) as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            say("interrupted; stored rows are kept: run the same command to continue")
            ctx.exit(INTERRUPTED)


def say(message: str) -> None:
    """Print a message on stderr."""
    click.echo(message, err=True)


def warn(messages: Sequence[str]) -> None:
    """Print warnings on stderr."""
    for message in messages:
        say(f"warning: {message}")


data_option = click.option(
    "--data", default="input", show_default=True, help="Folder with train.csv and images, or another input."
)
store_option = click.option(
    "--store", default="store", show_default=True, help="Folder of the feature store."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, …")

groups_option = click.option(
    "--groups",
    default="content",
    show_default=True,
    metavar="SPEC",
    help="Rows to keep together in every split.",
)
weights_option = click.option(
    "--weights", multiple=True, metavar="[ENCODER=]FILE", help="Local weights file, or `random`."
)
trust_option = click.option(
    "--trust", is_flag=True, help="Use code and weights files named there, if they have the recorded hash."
)
backend_option = click.option(
    "--backend",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "torch", "onnxruntime"]),
    help="Runtime of image networks on a CPU. auto: the faster one, if there are many images.",
)


def input_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The columns and folders of a table, for commands that read data."""
    for option in (
        click.option("--images", metavar="DIR", help="Folder of the images, if not next to the table."),
        click.option("--label-column", metavar="NAME", help="Column of the labels."),
        click.option(
            "--caption-column", metavar="NAME", multiple=True, help="Column of captions; repeatable."
        ),
        click.option("--image-column", metavar="NAME", help="Column of the images: paths or bytes."),
        click.option("--id-column", metavar="NAME", help="Column of the rows' ids."),
    ):
        command = option(command)
    return command


def _inputs(options: dict[str, Any]) -> dict[str, Any]:
    """Move the values of `input_options` out of a command's options, as arguments of `extract.encode`."""
    from encode_once.extract import Columns

    id_, image, captions, label = (
        options.pop(f"{name}_column") for name in ("id", "image", "caption", "label")
    )
    return {"columns": Columns(id_, image, captions, label), "images": options.pop("images")}


class DecisionRuleName(click.ParamType):  # type: ignore[type-arg]  # generic in new versions only
    """A decision rule's name; the old name `cuts` is accepted with a deprecation line."""

    name = "RULE"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Replace the old name."""
        if value == "cuts":
            warn(["--decide cuts is deprecated: use --decide thresholds"])
            return "thresholds"
        return value


def tuning_options(objective: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Options of the decision rule; `objective` is the command's own name of that option."""

    def options(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            click.option("--at-most", type=click.IntRange(0),
                         help="Maximum number of labels per row (0: no limit)."),
            click.option("--at-least", type=click.IntRange(0),
                         help="Minimum number of labels per row; adds those nearest to their thresholds."),
            click.option("--calibrate", metavar="METHOD",
                         help="Turn scores into probabilities: sigmoid, isotonic, temperature or none."),
            click.option("--decide", type=DecisionRuleName(),
                         help="thresholds, or expected-f1: each row's label set of greatest expected F1."),
            click.option("--shrink/--no-shrink", default=None,
                         help="Shrink per-class thresholds toward a shared one, or keep the exact optimum."),
            click.option(objective, "objective", metavar="OBJECTIVE",
                         help="Objective for the thresholds [default: macro]."),
        ):  # fmt: skip
            command = option(command)
        return command

    return options


def _tuning(options: dict[str, Any], before: Any = None) -> Any:
    """Move the values of `tuning_options` out of a command's options; omitted ones keep their value."""
    from dataclasses import replace

    from encode_once.classify.decisions.rule import DecisionSpec

    names = ("objective", "shrink", "decide", "calibrate", "at_least", "at_most")
    given = {name: one for name in names if (one := options.pop(name)) is not None}
    if given.get("at_most") == 0:
        given["at_most"] = None
    return replace(before or DecisionSpec(), **given)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="encode-once")
def main() -> None:
    """Encode images and captions once; fit, tune and compare multi-label classifiers in seconds."""


def _weights(encoders: Sequence[str], given: Sequence[str]) -> dict[str, str]:
    """Encoder → weights, from `ENCODER=FILE`, or from `FILE` if there is one encoder."""
    weights = {}
    for one in given:
        encoder, equals, file = one.rpartition("=")
        if equals and encoder in encoders:
            weights[encoder] = file
        elif len(encoders) == 1:
            weights[encoders[0]] = one
        else:
            raise UsageError(f"--weights {one}: say whose, as ENCODER={one}")
    return weights


@main.command()
@click.option(
    "--encoder",
    "encoders",
    multiple=True,
    metavar="NAME",
    help="Encoder; repeat it for several, or give NAME,NAME.",
)
@click.option("--list", "list_encoders", is_flag=True, help="List the encoders and exit.")
@data_option
@input_options
@store_option
@weights_option
@device_option
@click.option(
    "--precision",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "float32", "float16", "bfloat16"]),
    help="Precision of the arithmetic. auto: that of the stored rows, else float16 on CUDA, float32 on CPU.",
)
@backend_option
@click.option(
    "--compile",
    "compiled",
    is_flag=True,
    help="Compile image networks with torch; takes minutes, pays off in long runs.",
)
@click.option(
    "--batch-size", type=click.IntRange(1), help="Inputs per step. [default: chosen for the device]"
)
@click.option("--workers", type=click.IntRange(1), help="Decoding threads. [default: one per core]")
@click.option("--label-separator", help="Separator between the labels of a row, if the table is ambiguous.")
@click.option("--retry-failed", is_flag=True, help="Try failed inputs again.")
@click.option("--max-failures", type=click.IntRange(0), help="Stop if more inputs than this fail.")
@click.option(
    "--shard", default="1/1", show_default=True, metavar="I/N", help="Share of the inputs to encode, as 1/4."
)
@click.option(
    "--captions",
    multiple=True,
    default=["table"],
    show_default=True,
    metavar="KIND",
    help="Captions to encode: table, a captioner's name, or table+CAPTIONER for both joined; repeatable.",
)
@json_option
def extract(encoders: Sequence[str], list_encoders: bool, shard: str, as_json: bool, **options: Any) -> None:
    """Encode the images and captions that are not in the store yet.

    Data is a folder with train.csv (ImageID,Labels,Caption), test.csv or both, and the images in data/ or
    images/; a CSV, TSV, JSON lines or parquet file, or a folder of these; COCO annotations; a folder of
    images with captions in .txt files; WebDataset archives; or a Hugging Face dataset saved to disk.

    \b
    Examples:
      encode-once extract --encoder clip-vit-l
      encode-once extract --encoder efficientnet-lite0 --encoder glove-50 --data photos
      encode-once extract --encoder open_clip:ViT-B-32/laion2b_s34b_b79k
      encode-once extract --encoder clip-vit-b32 --weights vit-b32.safetensors
      encode-once extract --encoder clip-vit-l --shard 1/4
      encode-once extract --encoder clip-vit-l --captions table --captions table+coca-b32
      encode-once extract --encoder clip-vit-l --data coco2017
      encode-once extract --encoder clip-vit-l --data photos.parquet --caption-column alt --label-column tags
    """
    if list_encoders:
        from encode_once.extract.encoders import listed
        from encode_once.extract.encoders.catalogue import listing

        click.echo(listing(list(listed())))
        return
    encoders = [name for given in encoders for name in given.split(",") if name]
    if not encoders:
        raise UsageError("name an encoder with --encoder; --list shows them")
    from encode_once.cache.names import captioner
    from encode_once.extract import encode

    captioners = filter(None, map(captioner, options["captions"]))
    options["weights"] = _weights([*dict.fromkeys([*encoders, *captioners])], options["weights"])
    options |= _inputs(options)
    report = encode(options.pop("data"), encoders, options.pop("store"), shard=Shard.parse(shard), **options)
    warn(report.warnings)
    for failure in report.failures[:NAMED]:
        say(f"failed: {failure.input}: {failure.reason} ({failure.message})")
    if len(report.failures) > NAMED:
        say(f"failed: {len(report.failures) - NAMED} more; failures.jsonl in the store's features names all")
    for name, counts in report.features.items():
        say(f"{name}: encoded {counts.encoded}, already there {counts.present}, failed {counts.failed}")
    say(f"{report.samples} samples in {report.seconds:.1f} s")
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=1))
    if report.failures:
        raise DataError(f"{len(report.failures)} inputs have no vector (see above); all others are stored")


def _option(text: str) -> tuple[str, Any]:
    """Parse `name=value`, the value as JSON if it is valid JSON."""
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set {text}: say NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


@main.command()
@click.option("--head", default="mlp", show_default=True, help="Head to fit.")
@click.option(
    "--features",
    multiple=True,
    metavar="NAME",
    help="Feature to use; repeatable. [default: every pooled one]",
)
@click.option(
    "--split", default="stratified:0.1", show_default=True, metavar="SPEC", help="Rows for evaluation."
)
@groups_option
@tuning_options("--tune")
@click.option(
    "--tune-on",
    default="inner",
    show_default=True,
    help="Rows to tune on: inner, or eval as some reports do.",
)
@click.option("--run", type=click.Path(), help="Folder to write. [default: runs/HEAD, or the next free one]")
@click.option("--data", help="Data folder to learn from, if the store has several.")
@store_option
@click.option("--seed", default=0, show_default=True)
@click.option("--set", "settings", multiple=True, metavar="OPTION=VALUE", help="Option of the head.")
@json_option
def fit(store: str, run: str | None, settings: Sequence[str], as_json: bool, **options: Any) -> None:
    """Fit a head on cached features, tune one threshold per class, and measure on eval rows.

    A SPEC of eval rows is stratified:0.1, random:0.2, tail:3000, kfold:5 or a column of the table. One of
    groups is content (equal images or, without images, captions), none, a column such as the photographer,
    or near-duplicates by a feature and cosine, as clip-vit-l/image:0.95. An OBJECTIVE is macro, micro,
    samples, weighted, one of these with another beta (micro-f2), precision:0.9 or recall:0.9 of each class
    (on unseen rows with 90 % confidence, or on the tuning rows with --no-shrink),
    global-… (one threshold for all), none (0.5) or at:0.4. A caption feature uses the captions of the table;
    FEATURE@KIND uses others, encoded by extract --captions KIND.

    \b
    Examples:
      encode-once fit --head mlp
      encode-once fit --head mlp --features clip-vit-l/image --features clip-vit-l/text@table+coca-b32
      encode-once fit --head linear --features clip-vit-l/image --split tail:3000 --run runs/image
      encode-once fit --head mlp --set dropout=0.3 --tune micro
    """
    from encode_once.classify import fit as fit_head
    from encode_once.classify.evaluation.tables import metrics_text
    from encode_once.classify.spec import FitSpec

    tuning = _tuning(options)
    spec = FitSpec(**options, tuning=tuning, options=dict(map(_option, settings)))
    fitted, metrics = fit_head(store, spec, run=run)
    warn(fitted.record.warnings)
    _result(metrics, as_json, lambda: metrics_text(metrics))
    say(f"{fitted.path}: {spec.head} on {', '.join(fitted.spec.features)}, {fitted.record.seconds:.1f} s")


def _result(content: Any, as_json: bool, text: Callable[[], str]) -> None:
    click.echo(json.dumps(content, indent=1) if as_json else text())


@main.command()
@click.argument("run", type=click.Path())
@tuning_options("--objective")
@json_option
def tune(run: str, as_json: bool, **options: Any) -> None:
    """Re-tune a run's thresholds from its saved scores, without refitting.

    Options that are omitted keep their current value.

    \b
    Examples:
      encode-once tune runs/mlp --objective micro
      encode-once tune runs/mlp --objective precision:0.9
      encode-once tune runs/mlp --decide expected-f1 --calibrate isotonic
    """
    from encode_once.classify import load_run, retune
    from encode_once.classify.evaluation.tables import metrics_text

    _tuning(dict(options))  # fail on an unknown name before anything is read
    loaded = load_run(run)
    metrics, predictions = retune(loaded, _tuning(options, loaded.decision.spec))
    loaded.save_decision(metrics, predictions)
    _result(metrics, as_json, lambda: metrics_text(metrics))


def _tell_encoded(report: Any) -> None:
    """Report an extraction that another command needed."""
    warn(report.warnings)
    if report.failures:
        warn([f"{len(report.failures)} inputs could not be encoded, as {report.failures[0].input}"])


def _vouched(runs: Sequence[Any], options: dict[str, Any]) -> Any:
    """What --weights and --trust, out of a command's options, say of the encoders that runs name."""
    from encode_once.extract.trust import Trust

    encoders = [*dict.fromkeys(name for run in runs for name in run.record.encoders)]
    return Trust((), _weights(encoders, options.pop("weights")), options.pop("trust"), say)


def _place(run: Any, store: str | None) -> Store:
    """Where a run's features are read: the same for all runs of a command with the same store."""
    from encode_once.classify.runs.predict import store_for

    context = click.get_current_context()
    places: dict[str, Store] = context.meta.setdefault("cli.places", {})
    path = store or run.record.store
    if path not in places:
        places[path] = context.with_resource(store_for(run, store))
    return places[path]


def _say_where_kept(run: Any, place: Store, report: Any) -> None:
    """Say how many rows were encoded, where they are, and the option that changes it."""
    encoded = [f"{name}: {counts.encoded}" for name, counts in report.features.items() if counts.encoded]
    if not encoded or not place.base:
        return
    where = f"kept in {place.path}, as {place.base.path} is only read"
    if not (place.path.parent / "run.json").exists():
        where = f"gone when this command ends, as {run.path} cannot be written"
    say(f"rows encoded ({', '.join(encoded)}) are {where}; --store DIR keeps them in a store of your choice")


def _encode_for(
    run: Any, data: str, store: str | None, device: str, trust: Any, options: dict[str, Any]
) -> tuple[Store, Any]:
    """Encode the features that a run needs; return the store and the extraction's report."""
    from encode_once.classify.runs.predict import check
    from encode_once.extract import encode
    from encode_once.extract.trust import approve

    place = _place(run, store)
    check(run, place)
    record = run.record
    report = encode(
        data,
        record.requested,
        place,
        weights=approve(str(run.path), record.encoders, trust),
        device=device,
        label_separator=record.label_separator.strip() or None,
        captions=record.captions,
        keep_tables=False,
        **_inputs(options),
    )
    _tell_encoded(report)
    _say_where_kept(run, place, report)
    return place, report


@main.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path())
@click.option("--data", help="Data to measure on, instead of the runs' eval rows.")
@input_options
@click.option("--table", default="auto", show_default=True, metavar="SPLIT",
              help="train, test, val …; auto: train if it has labels, else another.")  # fmt: skip
@click.option("--differences", type=click.Path(path_type=Path), metavar="FILE",
              help="Write the rows with different predictions as CSV.")  # fmt: skip
@click.option("--anyway", is_flag=True, help="Compare runs that are not comparable, on the rows they share.")
@click.option(
    "--store", help="Store to read and extend. [default: the run's store, read only, and RUN/store]"
)
@weights_option
@trust_option
@device_option
@json_option
def evaluate(
    runs: Sequence[str],
    data: str | None,
    table: str,
    differences: Path | None,
    anyway: bool,
    store: str | None,
    device: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure a run on its eval rows or on other data; compare several runs on the same rows.

    Averages have 95 % bootstrap intervals for the population that the rows come from; rows that --groups
    keeps together are drawn together. Rows of other data that a run was fitted on are left out and counted.
    The store that the run was fitted from is not changed: vectors of new rows are stored in RUN/store.

    Several runs are each compared with the first: differences with paired intervals, classes whose F1 differs
    beyond its interval, rows with different labels, and how many of these are closer to the truth. Runs with
    different eval rows, or tuned on them, are refused without --anyway; the output then says so. Runs with
    different classes, or different labels for a row, are always refused.

    --json prints one object. For one run: its metrics, with `intervals`: {metric: [low, high]}. For several:
    {"n", "caveats": [text], "runs": [{"run", "tuned_on_these_rows", metrics, "intervals"}], "differences":
    [{"run", "to", "metrics": {metric: {"difference", "interval"}}, "per_class": [{"label", "difference",
    "interval"}], "better": [label], "worse": [label], "rows_differing", "closer", "further"}]}.

    \b
    Examples:
      encode-once evaluate runs/mlp
      encode-once evaluate runs/mlp --data more-photos --json
      encode-once evaluate runs/linear runs/mlp --differences differences.csv
    """
    from encode_once.classify import load_run
    from encode_once.classify.evaluation.compare import against_first, write_differences
    from encode_once.classify.evaluation.tables import comparison_text, metrics_text
    from encode_once.classify.runs.predict import choose_split, judge
    from encode_once.classify.runs.predict import differences as made_otherwise
    from encode_once.classify.runs.retune import evaluate_kept

    if len(runs) == 1 and (differences or anyway):
        raise UsageError("--differences and --anyway are for two runs or more")
    if data is None and (options["weights"] or options["trust"]):
        raise UsageError("--weights and --trust are for --data: nothing is encoded without")
    judged = []
    loaded = [load_run(run) for run in runs]
    trust = _vouched(loaded, options)
    for run in loaded:
        if data is None:
            warn(made_otherwise(run, Store(run.record.store)))
            judged.append(evaluate_kept(run))
        else:
            place, report = _encode_for(run, data, store, device, trust, dict(options))
            labelled = [one for one in report.tables if one.labels is not None]
            one, warnings = judge(run, place, choose_split(labelled or report.tables, table, "train"))
            warn(warnings if len(runs) == 1 else [f"{run.path}: {line}" for line in warnings])
            judged.append(one)
    if len(judged) == 1:
        metrics = judged[0].with_intervals()
        _result(metrics, as_json, lambda: metrics_text(metrics))
        return
    found, judged = against_first(judged, anyway=anyway or data is not None)
    _result(found, as_json, lambda: comparison_text(found))
    if differences:
        record = loaded[0].record
        count = write_differences(differences, judged, record.id_column, record.label_separator)
        say(f"{differences}: {count} rows")


@main.command()
@click.argument("run", type=click.Path())
@data_option
@input_options
@click.option("-o", "--output", default="predictions.csv", show_default=True, type=click.Path(path_type=Path))
@click.option("--table", default="auto", show_default=True, metavar="SPLIT",
              help="train, test, val …; auto: test if there is one, else train.")  # fmt: skip
@click.option(
    "--store", help="Store to read and extend. [default: the run's store, read only, and RUN/store]"
)
@weights_option
@trust_option
@device_option
def predict(
    run: str, data: str, output: Path, table: str, store: str | None, device: str, **options: Any
) -> None:
    """Predict labels for every row of a table, encoding only what is missing.

    Features that a row lacks, because its image is broken or it has no caption, are replaced by the training
    mean; the column Missing names them. The store that the run was fitted from is not changed: vectors of new
    rows are stored in RUN/store.

    \b
    Example:
      encode-once predict runs/mlp --data photos -o predictions.csv
    """
    from encode_once.classify import load_run
    from encode_once.classify.runs.predict import choose_split, label

    loaded = load_run(run)
    trust = _vouched([loaded], options)
    place, report = _encode_for(loaded, data, store, device, trust, options)
    chosen = choose_split(report.tables, table, "test", "train")
    warn(label(loaded, place, chosen, output))
    say(f"{output}: {len(chosen)} rows of {chosen.source}")


@main.command("export")
@click.argument("run", type=click.Path())
@click.option("-o", "--output", default="model.onnx", show_default=True, type=click.Path(path_type=Path))
def export_run(run: str, output: Path) -> None:
    """Export a run's standardisation, network and thresholds as one ONNX file, checked with onnxruntime.

    The input `features` holds the run's features side by side, NaN if one is missing; the outputs are
    `scores` and `labels`. The file's metadata names features, classes and thresholds.

    \b
    Example:
      encode-once export runs/mlp -o model.onnx
    """
    from encode_once.classify import load_run
    from encode_once.classify.runs.onnx_export import export as write

    difference = write(load_run(run), output)
    say(f"{output}: scores differ from the run's by {difference:.1e} at most")


@main.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path())
@json_option
def report(runs: Sequence[str], as_json: bool) -> None:
    """Compare runs: F1 on the eval rows with 0.5, with one threshold, and with one threshold per class.

    \b
    Example:
      encode-once report runs/*
    """
    from encode_once.cache.text_table import table_text
    from encode_once.classify import load_run
    from encode_once.classify.runs.predict import differences
    from encode_once.classify.runs.retune import compare_rules

    folders = [run for run in runs if Path(run).is_dir() and not (Path(run) / "run.json").exists()]
    if len(folders) < len(runs):  # runs/* also matches the folders of sweeps and recipes
        warn([f"{folder} is not a run: left out" for folder in folders])
        runs = [run for run in runs if run not in folders]
    loaded = [load_run(run) for run in runs]
    for one in loaded:
        warn([f"{one.path}: {line}" for line in one.record.warnings])
        warn(differences(one, Store(one.record.store)))
    rows = compare_rules(loaded)
    _result(rows, as_json, lambda: table_text(rows))


def _grid(settings: Sequence[str]) -> dict[str, dict[str, list[Any]]]:
    """Head → option → values, from `HEAD.OPTION=V1,V2` or `HEAD.OPTION=[V1, V2]`."""
    grid: dict[str, dict[str, list[Any]]] = {}
    for setting in settings:
        name, values = _option(setting)
        head, dot, option = name.partition(".")
        if not dot:
            raise UsageError(f"--set {setting}: say HEAD.OPTION=V1,V2")
        if isinstance(values, str):
            values = [_option(f"{name}={value}")[1] for value in values.split(",")]
        grid.setdefault(head, {})[option] = values if isinstance(values, list) else [values]
    return grid


def _tell_rows(rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    """Print the rows of a sweep or an ablation; raise if all of them failed."""
    from encode_once.classify.experiments.leaderboard import text

    warn([*dict.fromkeys(line for row in rows for line in row["warnings"])])
    _result(rows, as_json, lambda: text(rows))
    if all(row["error"] for row in rows):
        raise DataError("nothing could be fitted: see the errors above")


@main.command()
@click.option("--head", "names", multiple=True, default=["mlp", "linear"], show_default=True, metavar="NAME",
              help="Head to fit; repeatable.")  # fmt: skip
@click.option(
    "--features",
    multiple=True,
    metavar="NAME",
    help="Feature to use; repeatable. [default: every pooled one]",
)
@click.option("--subsets", is_flag=True, help="Try every subset of the features.")
@click.option("--set", "settings", multiple=True, metavar="HEAD.OPTION=V1,V2",
              help="Values of a head's option to try, or a JSON list of them; repeatable.")  # fmt: skip
@click.option("--search", "trials", default=0, metavar="N", help="Let Optuna try N settings of each head.")
@click.option("--seeds", default=1, show_default=True, help="Number of seeds per setting.")
@click.option(
    "--split", default="stratified:0.1", show_default=True, metavar="SPEC", help="Rows for evaluation."
)
@groups_option
@tuning_options("--tune")
@click.option(
    "--by", metavar="METRIC", help="Rank by micro_f1, macro_f1, samples_f1 or mAP. [default: as --tune]"
)
@click.option("--folder", default="runs/sweep", show_default=True, help="Folder of the runs and the table.")
@click.option("--data", help="Data folder to learn from, if the store has several.")
@store_option
@json_option
def sweep(settings: Sequence[str], as_json: bool, **options: Any) -> None:
    """Fit heads on sets of features with several settings, and rank them with 95 % intervals.

    Every combination is a run in the folder. Existing runs are not fitted again, so the same command
    continues after a kill. All are measured on the same eval rows, with bootstrap intervals. --search chooses
    on the rows that thresholds are tuned on. The table is also in leaderboard.md and leaderboard.json.

    \b
    Examples:
      encode-once sweep --head linear --head mlp --subsets
      encode-once sweep --head mlp --set mlp.dropout=0.3,0.5 --set 'mlp.hidden=[[512], [1024, 512]]'
      encode-once sweep --head mlp --search 20 --tune samples --folder runs/search
    """
    from encode_once.classify import sweep as fit_all

    tuning = _tuning(options)
    _tell_rows(fit_all(**options, tuning=tuning, grid=_grid(settings), log=say), as_json)


@main.command()
@click.argument("run", type=click.Path())
@click.option("--folder", help="Folder of the variants and the table. [default: RUN/ablation]")
@click.option("--trust", is_flag=True, help="Open the file of prompts that the run names.")
@json_option
def ablate(run: str, folder: str | None, trust: bool, as_json: bool) -> None:
    """Refit a run without each feature, with each option at its default, and with each other loss.

    Changes have 95 % intervals over the run's eval rows: an interval that contains 0 may be chance. Existing
    variants are not fitted again. The table is also written to ablation.md and ablation.json.

    \b
    Example:
      encode-once ablate runs/mlp
    """
    from encode_once.classify import ablate as vary
    from encode_once.classify import load_run

    _tell_rows(vary(load_run(run), folder, log=say, trust=trust), as_json)


@main.command()
@click.argument("run", type=click.Path())
@click.option("-o", "--output", default="audit.csv", show_default=True, type=click.Path(path_type=Path))
@click.option("--near", default=0.95, show_default=True, type=click.FloatRange(0, 1, min_open=True),
              help="Minimum cosine of the image vectors of near-duplicates.")  # fmt: skip
@device_option
@json_option
def audit(run: str, output: Path, near: float, device: str, as_json: bool) -> None:
    """Find likely errors in a run's data and write them to a CSV file, the most certain first.

    Reported are eval rows with duplicates among the train rows or in other tables of the store; duplicates
    with different labels; labels that cleanlab doubts, from out-of-fold scores (extra `audit`; all rows with
    --split kfold:5); and classes too rare for tuning a threshold.

    \b
    Example:
      encode-once fit --head linear --split kfold:5 --run runs/checked
      encode-once audit runs/checked -o audit.csv
    """
    from dataclasses import asdict

    from encode_once.classify import load_run
    from encode_once.classify.audit.audit import audit as look
    from encode_once.classify.audit.audit import summary, write

    found, warnings = look(load_run(run), near, device)
    warn(warnings)
    write(found, output)
    say(f"{output}: {summary(found)}")
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], indent=1))


@main.group(cls=Verbs)
def recipe() -> None:
    """Complete systems by name: those of five reports and our own, with the reported figures."""


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The data, store and weights that recipes run on."""
    for option in (
        click.option(
            "--encoder", "encoders", multiple=True, metavar="NAME",
            help="Encoder that may replace one that a recipe names, as onnx:yolox.onnx; repeatable.",
        ),
        weights_option,
        store_option,
        click.option(
            "--data", help="Data, as for extract. [default: input, or else the tables of the store]"
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def _recipe_runner(
    recipes: Sequence[Any],
    data: str | None,
    store: str,
    encoders: Sequence[str],
    weights: Sequence[str],
    **options: Any,
) -> tuple[Any, Any]:
    """The place where recipes run, and the provider of features; None if there is no data to encode."""
    from encode_once.cache.names import FeatureName
    from encode_once.classify.experiments.recipes.run import RecipeRunner
    from encode_once.extract.encoders import named
    from encode_once.extract.provider import Provider

    place = Store(store)
    if data is None and Path("input").is_dir():
        data = "input"
    if data is None and place.table_files():
        return RecipeRunner(place), None
    given = dict(map(named, encoders))
    needed = {FeatureName.parse(name).encoder for one in recipes for name in one.possible_features}
    onnx = [one.rpartition("=")[0] for one in weights if one.startswith("onnx:")]
    files = _weights([*needed, *onnx], weights) | {name: file for name, file in given.items() if file}
    supply = Provider(data or "input", place, files, _tell_encoded, encoders, **options)
    return RecipeRunner(place, data or "input", supply), supply


@recipe.command("list")
@recipe_options
@json_option
def recipe_list(as_json: bool, **options: Any) -> None:
    """List the recipes, and which can run with the available features and weights.

    \b
    Example:
      encode-once recipe list --weights glove-100=glove.6B.100d.txt
    """
    from encode_once.classify.experiments.recipes import all_recipes
    from encode_once.classify.experiments.recipes.tables import listing

    recipes = all_recipes()
    runner, _ = _recipe_runner(recipes, **options)
    rows = [runner.listed(one) for one in recipes]
    _result(rows, as_json, lambda: listing(rows))


@recipe.command("show")
@click.argument("name")
@json_option
def recipe_show(name: str, as_json: bool) -> None:
    """Show a recipe's file, or its recipes as JSON.

    \b
    Example:
      encode-once recipe show glove-bilstm
    """
    from dataclasses import asdict

    from encode_once.classify.experiments.recipes import find, text_of

    found = find([name])
    told = [asdict(one) | {"path": str(one.path)} for one in found]
    _result(told, as_json, lambda: text_of(found))


@recipe.command("run")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@recipe_options
@input_options
@device_option
@click.option("--split", metavar="SPEC", help="Use these eval rows instead of those of the reports.")
@click.option("--runs", default="runs/recipes", show_default=True, type=click.Path(path_type=Path),
              help="Folder of the runs.")  # fmt: skip
@click.option("--refit", is_flag=True, help="Fit existing runs again.")
@click.option("--md", is_flag=True, help="Print the table as Markdown.")
@json_option
def recipe_run(
    names: Sequence[str], split: str | None, runs: Path, refit: bool, md: bool, as_json: bool, **options: Any
) -> None:
    """Run recipes: encode what is missing, fit, and print reported and measured figures.

    A NAME is a recipe, one of its variants, your own TOML file, or all. Existing runs with the same settings
    and rows are kept. A recipe that cannot run says what it lacks.

    \b
    Examples:
      encode-once recipe run tfidf-linear
      encode-once recipe run all --split tail:3000 --weights glove-100=glove.6B.100d.txt --md
    """
    from encode_once.classify.experiments.recipes import find
    from encode_once.classify.experiments.recipes.run import failed
    from encode_once.classify.experiments.recipes.tables import markdown, text

    recipes = find(names)
    inputs = _inputs(options)
    device = options.pop("device")
    runner, supply = _recipe_runner(recipes, **options, device=device, **inputs)
    if supply:
        warn(supply.read().warnings)
    resolved = runner.prepare(recipes, lambda features: say(f"encoding {', '.join(features)}"))
    rows = []
    for number, entry in enumerate(resolved, start=1):
        say(f"{number}/{len(resolved)} {entry.recipe.name}")
        rows.append(runner.run(entry, runs, split, refit=refit))
    _result(rows, as_json, lambda: markdown(rows) if md else text(rows))
    if lines := failed(names, recipes, rows):
        raise DataError("\n".join(lines))


@main.group(cls=Verbs)
def store() -> None:
    """Inspect, verify and maintain a store."""


features_argument = click.argument("features", nargs=-1, metavar="[FEATURE]...")


def _existing(path: str) -> Store:
    found = Store(path)
    if not found.exists:
        raise MissingDataError(f"{path} is not a store: run extract first")
    return found


@store.command("list")
@store_option
@json_option
def list_(store: str, as_json: bool) -> None:
    """List the features (rows, size, key, date, library versions) and the tables.

    \b
    Example:
      encode-once store list --store store
    """
    from encode_once.cache import describe as overview

    held = _existing(store)
    found = {"features": overview.features(held), "tables": overview.tables(held)}
    _result(found, as_json, lambda: overview.listing(found))


@store.command()
@click.argument("feature")
@store_option
@json_option
def info(feature: str, store: str, as_json: bool) -> None:
    """Show a feature's spec, which decides its values, and its other metadata.

    \b
    Example:
      encode-once store info clip-vit-l/image
    """
    from encode_once.cache import describe as overview

    found = overview.describe(_existing(store).feature(feature))
    _result(found, as_json, lambda: overview.text(found))


@store.command()
@features_argument
@store_option
@click.option("--repair", is_flag=True, help="Keep the intact rows; rename damaged files to .damaged.")
@click.option("--recompute", type=click.IntRange(1), metavar="N", help="Encode N rows again and compare.")
@trust_option
@device_option
def verify(
    features: Sequence[str], store: str, repair: bool, recompute: int | None, trust: bool, device: str
) -> None:
    """Read every byte of the store, or of some features, and compare it with its checksum.

    The exit status is 1 if anything is wrong.

    \b
    Examples:
      encode-once store verify
      encode-once store verify clip-vit-l/image --recompute 20
      encode-once store verify --repair
    """
    from encode_once.cache.maintenance import repair as keep_sound
    from encode_once.cache.verify import verify as check

    held = _existing(store)
    if repair:
        for line in keep_sound(held, features):
            say(f"set aside {line}")
    problems = check(held, features)
    if recompute and not problems:
        from encode_once.extract.reencode import recompute as encode_again
        from encode_once.extract.trust import Trust

        vouched = Trust(recorded=trust, log=say)
        for found in encode_again(held, recompute, features, device=device, trust=vouched):
            line = f"{found.feature}: {found.rows} rows encoded again differ by at most {found.worst:.1e}"
            say(line)
            problems += [] if found.agrees else [f"{line}: more than arithmetic explains"]
    for problem in problems:
        click.echo(problem)
    if problems:
        raise StoreError(f"{store} is not as it was written: {len(problems)} problems, listed above")
    say(f"{store}: all is as it was written")


def _tell(changes: Sequence[Any], what: str) -> None:
    for change in changes:
        say(f"{change.feature}: {change.rows} rows {what}, {change.nbytes:+,} bytes")


@store.command()
@features_argument
@store_option
def compact(features: Sequence[str], store: str) -> None:
    """Rewrite each feature as one part, in the order of the tables, so that fit can map it.

    \b
    Example:
      encode-once store compact
    """
    from encode_once.cache import maintenance as upkeep

    _tell(upkeep.compact(_existing(store), features), "dropped (stored twice)")


@store.command()
@features_argument
@store_option
@click.option("--delete", is_flag=True, help="Delete them; without it they are only counted.")
def gc(features: Sequence[str], store: str, delete: bool) -> None:
    """Drop the rows whose images or captions are in no table any more.

    To forget a table, delete its file in the store's folder `tables`; `store list` names them.

    \b
    Examples:
      encode-once store gc
      encode-once store gc --delete
    """
    from encode_once.cache import maintenance as upkeep

    changes = upkeep.drop_unreferenced(_existing(store), features, delete=delete)
    _tell(changes, "dropped" if delete else "are in no table; --delete drops them")


@store.command()
@click.argument("others", nargs=-1, required=True, metavar="OTHER...")
@store_option
def merge(others: Sequence[str], store: str) -> None:
    """Take in what other stores hold, such as those that `extract --shard` filled on other machines.

    Nothing of this store is replaced. Damaged files, and those behind symbolic links, are left out; the exit
    status is 1 then.

    \b
    Example:
      encode-once store merge from-node-2 from-node-3
    """
    from encode_once.cache import maintenance as upkeep

    refused = 0
    for other in others:
        merged = upkeep.merge(Store(store), _existing(other))
        _tell(merged.changes, f"taken in from {other}")
        warn(merged.notes)
        for line in merged.refused:
            say(f"not taken in: {line}")
        refused += len(merged.refused)
    if refused:
        raise StoreError(f"files not taken in, as printed above: {refused}; all else is in {store}")


@store.command()
@click.argument("feature")
@store_option
@click.option("--to", "kind", required=True, metavar="FORMAT", help="npy, parquet or safetensors.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="By default named as the feature.")
@click.option("--table", help="Whose rows to write, as `store list` calls it; by default the only one.")
def export(feature: str, store: str, kind: str, output: Path | None, table: str | None) -> None:
    """Write a feature to a file other programs read, a row for each row of a table.

    \b
    Examples:
      encode-once store export clip-vit-l/image --to parquet
      encode-once store export glove-50/mean --to npy -o captions.npy
    """
    from encode_once.cache import export as exporting

    held = _existing(store)
    selection = exporting.select(held.feature(feature), held.table(table))
    output = output or Path(f"{feature.replace('/', '-')}.{kind}")
    exporting.export(selection, kind, output)
    say(f"{output}: {len(selection.rows)} rows")


@main.group(cls=Verbs)
def bench() -> None:
    """Measure this machine, next to a peer in the same run."""


@bench.command("store")
@click.option("--rows", default=200_000, show_default=True)
@click.option("--dim", default=768, show_default=True)
@click.option("--files", default=1_000_000, show_default=True, help="Number of unchanged files to look up.")
@click.option("--data", help="Data folder of --store: time extract with nothing to encode.")
@store_option
@trust_option
@json_option
def bench_store(
    rows: int, dim: int, files: int, data: str | None, store: str, trust: bool, as_json: bool
) -> None:
    """Read and write rows, compared with npy files; look up unchanged files.

    \b
    Examples:
      encode-once bench store
      encode-once bench store --data input --store store
    """
    from encode_once.cache.bench.store_vs_npy import against_npy, stat_check
    from encode_once.cache.text_table import table_text

    tables = [against_npy(rows, dim), [stat_check(files)]]
    if data is not None:
        from encode_once.extract.bench.unchanged import unchanged
        from encode_once.extract.trust import Trust

        tables.append([unchanged(data, store, Trust(recorded=trust, log=say))])
    _result(tables, as_json, lambda: "\n\n".join(map(table_text, tables)))


@bench.command("extract")
@click.option(
    "--encoder",
    "names",
    multiple=True,
    default=["efficientnet-lite0"],
    show_default=True,
    metavar="NAME",
    help="Encoder to time; several are also timed one by one.",
)
@data_option
@weights_option
@device_option
@backend_option
@click.option("--images", default=2000, show_default=True, help="Number of images to encode.")
@click.option("--repeats", default=3, show_default=True, help="Rounds; rates are their medians.")
@click.option("--scripts", is_flag=True, help="Also time scripts written with torch alone.")
@json_option
def bench_extract(names: Sequence[str], weights: Sequence[str], as_json: bool, **options: Any) -> None:
    """Time reading, decoding and the networks alone, then all together, compared with the limit they set.

    \b
    Examples:
      encode-once bench extract --scripts
      encode-once bench extract --encoder clip-vit-b32 --weights random --images 500
    """
    from encode_once.extract.bench.throughput import rates, text

    found = rates(options.pop("data"), names, weights=_weights(names, weights), **options)
    _result(found, as_json, lambda: text(found))


@bench.command("memory")
@click.option("--rows", multiple=True, type=int, default=[10_000, 200_000], show_default=True)
@click.option("--head", "names", multiple=True, default=["mlp", "linear"], show_default=True)
@json_option
def bench_memory(rows: Sequence[int], names: Sequence[str], as_json: bool) -> None:
    """Measure the peak memory of extract and fit, for few rows and for many.

    \b
    Example:
      encode-once bench memory
    """
    from encode_once.cache.text_table import table_text
    from encode_once.classify.bench.heads import memory as of_fit
    from encode_once.extract.bench.unchanged import memory as of_extract

    found = [of_extract(many) for many in rows] + [of_fit(name, many) for name in names for many in rows]
    _result(found, as_json, lambda: table_text(found))


@bench.command("fit")
@click.option("--head", "names", multiple=True, default=["mlp", "linear"], show_default=True)
@click.option(
    "--plain", is_flag=True, help="Also time each head's peer: the usual library with its defaults."
)
@click.option("--set", "settings", multiple=True, metavar="HEAD.OPTION=VALUE", help="Option of a head.")
@click.option("--rows", type=click.IntRange(1), help="Number of synthetic rows to use instead of a store.")
@click.option(
    "--dim", default=1536, show_default=True, type=click.IntRange(1), help="Columns of the synthetic rows."
)
@click.option("--features", multiple=True, metavar="NAME")
@click.option("--split", default="stratified:0.1", show_default=True, metavar="SPEC")
@click.option("--data", help="Data folder to learn from, if the store has several.")
@store_option
@click.option("--seed", default=0, show_default=True)
@json_option
def bench_fit(
    names: Sequence[str],
    settings: Sequence[str],
    rows: int | None,
    dim: int,
    store: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Fit heads and scikit-learn's one-vs-rest logistic regression on the same features and rows.

    \b
    Examples:
      encode-once bench fit --split tail:1000
      encode-once bench fit --rows 30000 --plain --head mlp --head gbm --set mlp.hidden=[2048,1024]
    """
    from encode_once.cache.text_table import table_text
    from encode_once.classify.bench.heads import contest
    from encode_once.classify.bench.synthetic import made_up

    heads: dict[str, dict[str, Any]] = {}
    for name, value in map(_option, settings):
        head, _, option = name.partition(".")
        heads.setdefault(head, {})[option] = value
    place: AbstractContextManager[str | Path] = made_up(rows, dim) if rows else nullcontext(store)
    found = []
    with place as path:
        for row in contest(path, names, options=heads, **options):
            found.append(row)
            say(f"{row['model']}: {row['seconds']:.1f} s")
    _result(found, as_json, lambda: table_text(found))


@bench.command("split")
@click.option(
    "--rows", default=100_000, show_default=True, type=click.IntRange(10), help="Number of synthetic rows."
)
@click.option("--classes", default=80, show_default=True, type=click.IntRange(1))
@click.option("--data", help="Data folder whose labels to split, if the store has several.")
@click.option("--store", help="Also split a table of this store.")
@json_option
def bench_split(rows: int, classes: int, data: str | None, store: str | None, as_json: bool) -> None:
    """Split multi-label tables, compared with iterative-stratification: seconds and evenness of label shares.

    \b
    Examples:
      encode-once bench split
      encode-once bench split --rows 30000 --classes 19 --store store
    """
    from encode_once.cache.text_table import table_text
    from encode_once.classify.bench.splits import contest, made_up_labels
    from encode_once.classify.data import features

    tables = {"made up": made_up_labels(rows, classes)}
    if store is not None:
        table = features.choose_table(_existing(store), data)
        assert table.labels is not None
        tables[table.source] = features.label_matrix(table.labels, features.class_names(table.labels))
    found = [row for name, labels in tables.items() for row in contest(name, labels)]
    _result(found, as_json, lambda: table_text(found))


@bench.command("tune")
@click.option("--size", "sizes", multiple=True, type=(click.IntRange(1), click.IntRange(1)),
              metavar="ROWS CLASSES", default=[(30_000, 19), (40_000, 80)], show_default=True,
              help="Size of the synthetic scores; repeatable.")  # fmt: skip
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(1),
              help="Rounds; seconds are their medians.")  # fmt: skip
@click.option("--problems", default=1000, show_default=True, type=click.IntRange(1),
              help="Small problems on which `samples` is compared with brute force.")  # fmt: skip
@json_option
def bench_tune(sizes: Sequence[tuple[int, int]], repeats: int, problems: int, as_json: bool) -> None:
    """Time thresholds, compared with loops of scikit-learn's f1_score and a NumPy grid; time the command.

    \b
    Examples:
      encode-once bench tune
      encode-once bench tune --size 3000 5 --problems 100
    """
    from encode_once.cache.text_table import table_text
    from encode_once.classify.bench.thresholds import command, gaps, speed

    tables = []
    for rows, classes in sizes:
        say(f"{rows} × {classes}: scikit-learn's loops first")
        tables.append([*speed(rows, classes, repeats)])
    tables += [[command(*size, min(repeats, 3)) for size in sizes], gaps(problems)]
    _result(tables, as_json, lambda: "\n\n".join(map(table_text, tables)))


@bench.command("thresholds")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path())
@click.option("--repeats", default=20, show_default=True, type=click.IntRange(2),
              help="Random halvings of a run's rows.")  # fmt: skip
@click.option("--rows", default=1000, show_default=True, type=click.IntRange(1),
              help="Also tune on this number of rows.")  # fmt: skip
@click.option("--seed", default=0, show_default=True)
@click.option("--md", is_flag=True, help="Print the tables as Markdown.")
@json_option
def bench_thresholds(
    runs: Sequence[str], repeats: int, rows: int, seed: int, md: bool, as_json: bool
) -> None:
    """Compare decision rules on unseen rows: tuned on half of a run's eval rows, measured on the other half.

    \b
    Example:
      encode-once bench thresholds runs/mlp runs/linear
    """
    from encode_once.cache.text_table import markdown_text, table_text
    from encode_once.classify import load_run
    from encode_once.classify.bench.rules import held_out, text

    found: list[dict[str, Any]] = []
    for run in runs:
        say(run)
        found += held_out(load_run(run), repeats, rows, seed)
    _result(found, as_json, lambda: text(found, markdown_text if md else table_text))


bench.add_command(
    click.Command(
        "cuts",
        params=bench_thresholds.params,
        callback=bench_thresholds.callback,
        hidden=True,
        deprecated="use `bench thresholds`",
    )
)


@bench.command("intervals")
@click.option("--repeats", default=400, show_default=True, type=click.IntRange(2),
              help="Samples of each population.")  # fmt: skip
@click.option("--rows", default=500, show_default=True, type=click.IntRange(10), help="Rows of a sample.")
@json_option
def bench_intervals(repeats: int, rows: int, as_json: bool) -> None:
    """Simulate how often 95 % intervals, and guaranteed precision and recall, hold on a known population.

    \b
    Example:
      encode-once bench intervals
    """
    from encode_once.cache.text_table import table_text
    from encode_once.classify.bench.intervals import World, coverage, guarantees

    settings = [(World(c, heavy), 1) for heavy in (False, True) for c in (20, 80)] + [(World(20), 2)]
    covered: list[dict[str, Any]] = []
    for world, copies in settings:
        say(f"{world.classes} classes, {world.name}, {copies} of each row")
        covered += coverage(world, rows, repeats, copies=copies)
    held = [row for tuned_on in (1000, 5000) for row in guarantees(tuned_on)]
    found = {"intervals": covered, "guarantees": held}
    _result(found, as_json, lambda: "\n\n".join(map(table_text, found.values())))


@main.command()
@click.option(
    "--folder", default="demo", show_default=True, type=click.Path(path_type=Path), help="Folder to write."
)
@click.option("--scenes", default=2000, show_default=True, help="Pictures to compose.")
def demo(folder: Path, scenes: int) -> None:
    """Compose pictures with captions and labels, then run the real commands on them, printing each."""
    from encode_once.extract.demo.run import run_demo

    run_demo(folder, scenes)


def own_process() -> None:
    """Change process-wide settings, before torch is imported. Only for a process that runs nothing else."""
    # OpenMP threads spin for milliseconds before they sleep, which blocks the others if another process uses
    # the cores: `fit --head linear` took 17 s on two cores, 5 s with this.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    logging.disable()  # libraries log at length what our own lines say
    keep_freed_memory()


def start() -> None:
    """Run the command line as a process. `main` alone does not change the calling process."""
    own_process()
    main()


if __name__ == "__main__":
    start()
