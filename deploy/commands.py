"""Commands that use a run elsewhere: on other data, for images, or as a file for other programs."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from encode_once.cache import DataError, UsageError
from encode_once.cache.options import (
    RunFolder,
    TableName,
    alert,
    data_option,
    device_option,
    excel_option,
    existing_store,
    grouped,
    json_option,
    output_option,
    print_result,
    refuse,
    say,
    say_next,
    store_option,
    store_words,
    verb,
    warn,
)
from encode_once.extract.commands import (
    INPUT_OPTIONS,
    backend_option,
    table_inputs,
    trust_option,
    warn_of_failures,
    weights_by_encoder,
    weights_option,
)

CHECKED = 32  # rows on which an exported graph is compared with `predict`

if TYPE_CHECKING:
    from encode_once.cache import Store, Table
    from encode_once.cache.removal import EqualImages
    from encode_once.classify.evaluation.evaluation import Evaluation
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
        from encode_once.extract import encode
        from encode_once.extract.trust import approve

        check(run, store)
        record = run.record
        if self.store is None and store.base and not store.base.path.resolve().is_relative_to(Path.cwd()):
            warn([f"{run.path} names the store {store.base.path}, which is read: --store DIR names another"])
        if self.store is None and not store.base:
            line = f"{record.store}, the store of {run.path}, is not there: rows are encoded again"
            warn([f"{line}; --store DIR names it"])
        weights = approve(str(run.path), record.encoders, trust)
        self._declare(run, store, weights)
        report = encode(
            data,
            record.requested,
            store,
            weights=weights,
            device=self.device,
            captions=record.captions,
            keep_tables=False,
            bit_depth=record.bit_depth,
            select=lambda tables: [choose(tables)],
            **{**self.inputs, "columns": self._columns(record.named_columns)},
        )
        warn_of_failures(report)
        if self.store is None or store.base:
            self._say_where_kept(run, store, report)
        return report.tables[0]

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

ALARM = 3  # exit status of `monitor`


@verb()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=RunFolder())
@click.option("--data", help="Data to measure on, instead of the runs' eval rows.")
@measured_table_option
@click.option("--differences", type=click.Path(path_type=Path), metavar="FILE",
              help="Write the rows with different predictions as CSV.")  # fmt: skip
@excel_option
@click.option("--anyway", is_flag=True, help="Compare runs that are not comparable, on the rows they share.")
@encoding_options
@json_option
def evaluate(
    runs: Sequence[str],
    data: str | None,
    table: str,
    differences: Path | None,
    excel_safe: bool,
    anyway: bool,
    encoding: Encoding,
    as_json: bool,
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
    from encode_once.classify.evaluation import compare
    from encode_once.classify.evaluation.tables import comparison_text, metrics_text
    from encode_once.classify.runs.predict import differences as feature_differences
    from encode_once.classify.runs.predict import fitted_store
    from encode_once.classify.runs.retune import evaluate_kept

    if not differences:
        refuse(excel_option, why="for the file that --differences writes")
    if len(runs) == 1 and (differences or anyway):
        raise UsageError("--differences and --anyway are for two runs or more")
    if data is None:
        refuse(measured_table_option, *OF_DATA, why="for --data: nothing is encoded without")
    loaded = [load_run(run, trust=encoding.trust, log=say) for run in runs]
    if data is None:
        for run in loaded:
            warn(feature_differences(run, fitted_store(run)))
        evaluations = [evaluate_kept(run) for run in loaded]
    else:
        evaluations = _evaluate_on(loaded, data, table, encoding)
    if len(evaluations) == 1:
        metrics = evaluations[0].with_intervals()
        print_result(metrics, as_json, lambda: metrics_text(metrics))
        say_next("audit", runs[0])
        return
    comparison, evaluations = compare.against_first(evaluations, anyway=anyway or data is not None)
    print_result(comparison, as_json, lambda: comparison_text(comparison))
    if differences:
        record = loaded[0].record
        count = compare.write_differences(
            differences, evaluations, record.id_column, record.label_separator, excel_safe=excel_safe
        )
        say(f"{differences}: {count} rows")
    say_next("report", *runs)


def _evaluate_on(runs: Sequence["Run"], data: str, split: str, encoding: Encoding) -> list["Evaluation"]:
    """Measure runs on other data, in one store for all runs that read the same one."""
    from encode_once.classify.runs.predict import choose_split, evaluate, store_for
    from encode_once.extract.corrections import dropped

    def choose(tables: Sequence["Table"]) -> "Table":
        labelled = [table for table in tables if table.labels is not None]
        return choose_split(labelled or tables, split, "train")

    evaluations = []
    trust = encoding.trusted(runs)
    stores: dict[str, Store] = {}
    with ExitStack() as stack:
        for run in runs:
            path = encoding.store or run.record.store
            if path not in stores:
                stores[path] = stack.enter_context(store_for(run, encoding.store))
            table = encoding.encode(run, data, stores[path], trust, choose)
            warn(dropped([table], stores[path]))
            evaluation, warnings = evaluate(run, stores[path], table)
            warn(warnings if len(runs) == 1 else [f"{run.path}: {line}" for line in warnings])
            evaluations.append(evaluation)
    return evaluations


@verb()
@click.argument("run", type=RunFolder())
@click.argument("photos", nargs=-1, metavar="[IMAGE]...")
@data_option
@output_option(default=None, help="CSV file of the labels. [default: predictions.csv; images: none]")
@new_table_option
@click.option("--scores", type=click.Path(path_type=Path), metavar="FILE",
              help="Also write the scores, a column per class, as .csv, .jsonl or .parquet.")  # fmt: skip
@click.option("--caption", default="", metavar="TEXT", help="Caption of the images that are named.")
@click.option("--top", type=click.IntRange(1), metavar="N",
              help="Print each image's N classes of the highest scores. [default: its labels]")  # fmt: skip
@excel_option
@encoding_options
@json_option
def predict(
    run: str,
    photos: Sequence[str],
    data: str,
    output: Path | None,
    split: str,
    scores: Path | None,
    caption: str,
    top: int | None,
    excel_safe: bool,
    encoding: Encoding,
    as_json: bool,
) -> None:
    """Predict labels for every row of a table, or for images, encoding only what is missing.

    IMAGE is a file, a folder, or a pattern such as 'photos/*.jpg'; labels and scores of images are printed.
    Features that a row lacks, because its image is broken or it has no caption, are replaced by the training
    mean; the column Missing names them. Scores are the probabilities that thresholds are compared with. The
    store that the run was fitted from is not changed: vectors of new rows are stored in RUN/store.

    --json prints {"files": [path], "rows", "table": path, "warnings": [text]}; for images, also
    "predictions": [{"id", "labels": [name], "scores": {name: score}}].

    \b
    Examples:
      encode-once predict runs/mlp --data photos -o predictions.csv --scores scores.csv
      encode-once predict runs/mlp photo.jpg 'photos/*.jpg' --top 3
    """
    from encode_once.classify import load_run
    from encode_once.classify.runs.predict import choose_split, label, store_for
    from encode_once.classify.runs.score_file import check_score_file, write_scores
    from encode_once.classify.runs.shown import shown_rows, text
    from encode_once.extract.image_files import table_of_images

    if scores:
        check_score_file(scores)
    named = bool(photos or caption)
    if named:
        refuse(
            data_option,
            new_table_option,
            *INPUT_OPTIONS,
            why="for the rows of a table, not for images that are named",
        )
    if top and not named:
        raise UsageError("--top is for images that are named; --scores FILE writes the scores of a table")
    source = table_of_images(photos, caption) if named else data
    loaded = load_run(run, trust=encoding.trust, log=say)
    with store_for(loaded, encoding.store) as store:
        trust = encoding.trusted([loaded])
        table = encoding.encode(
            loaded, source, store, trust, lambda tables: choose_split(tables, split, "test", "train")
        )
        predicted = label(loaded, store, table)
    warn(predicted.warnings)
    if output is None and not named:
        output = Path("predictions.csv")
    column, classes = table.id_column, loaded.record.classes
    if output:
        loaded.write_predictions(
            output, column, table.ids, predicted.labels, predicted.missing, excel_safe=excel_safe
        )
    if scores:
        write_scores(scores, column, table.ids, classes, predicted.probabilities, excel_safe=excel_safe)
    files = [str(file) for file in (output, scores) if file]
    for file in files:
        say(f"{file}: {len(table)} rows of {table.source}")
    content = {"files": files, "rows": len(table), "table": table.source, "warnings": predicted.warnings}
    if named:
        rows = shown_rows(table.ids, classes, predicted, top)
        print_result(content | {"predictions": rows}, as_json, lambda: text(rows))
    elif as_json:
        click.echo(json.dumps(content, indent=1))
    say_next("evaluate", run)


@verb()
@click.argument("run", type=RunFolder())
@click.option("--data", help="New data: a folder with a table and images, or another input.")
@new_table_option
@click.option("--scores", type=click.Path(path_type=Path), metavar="FILE",
              help="A file that predict --scores wrote, instead of --data.")  # fmt: skip
@click.option("--alpha", default=0.01, show_default=True,
              type=click.FloatRange(0, 1, min_open=True, max_open=True),
              help="Chance of an alarm if nothing has changed.")  # fmt: skip
@output_option(help="Also write a page, as monitor.html.")
@encoding_options
@json_option
def monitor(
    run: str,
    data: str | None,
    split: str,
    scores: Path | None,
    alpha: float,
    output: Path | None,
    encoding: Encoding,
    as_json: bool,
) -> None:
    """Compare new data with the run's eval rows; exit status 3 is an alarm, which a line on stderr names.

    Compared are each class's scores (Kolmogorov-Smirnov test; PSI is the size of the shift), each feature
    (energy distance, by permutations of at most 1,000 rows of each side), the share of rows without a vector
    and, if the new data has labels, theirs (Fisher's exact test). All p-values are corrected by Holm, so
    that --alpha is the chance of any alarm in one call. Rows that the run was fitted on are left out.

    --json prints one object: {"alarms": [{"test", "subjects": [name]}], "per_class": [{"label", "psi", "p",
    "adjusted_p", "expected", "labelled", "near", "..._before", ...}], "features": [{"feature",
    "energy_distance", "p", "adjusted_p", "missing", ...}], "unknown_labels": {name: rows}, "rows",
    "eval_rows", "alpha", "warnings"}.

    \b
    Examples:
      encode-once monitor runs/mlp --data photos
      encode-once monitor runs/mlp --scores scores.csv --json
    """
    from encode_once.classify import load_run
    from encode_once.classify.monitoring import monitor as monitoring
    from encode_once.classify.monitoring import tables
    from encode_once.classify.pages.render import write
    from encode_once.classify.runs.predict import choose_split, store_for

    if (data is None) == (scores is None):
        raise UsageError("name the new rows by --data or by --scores")
    loaded = load_run(run, trust=encoding.trust, log=say)
    if scores:
        refuse(new_table_option, *OF_DATA, why="for --data: a file of scores needs nothing else")
        result = monitoring.monitor(loaded, monitoring.rows_of_score_file(loaded, scores), alpha)
    else:
        assert data is not None
        with store_for(loaded, encoding.store) as store:
            trust = encoding.trusted([loaded])
            table = encoding.encode(
                loaded, data, store, trust, lambda tables: choose_split(tables, split, "test", "train")
            )
            new = monitoring.rows_of_table(loaded, store, table)
            result = monitoring.monitor(loaded, new, alpha)
    warn(result["warnings"])
    print_result(result, as_json, lambda: tables.text(result))
    if output:
        write(tables.page(result), output)
        say(f"{output}: open it in a browser")
    if line := monitoring.alarm_line(result):
        alert(line)
        click.get_current_context().exit(ALARM)
    say_next("evaluate", run)


class WholeOptions(NamedTuple):
    """How a graph with encoders is made and compared."""

    rows: int  # to compare on
    weights: Sequence[str]


WHOLE_OPTIONS = (
    click.option("--check", "rows", default=CHECKED, show_default=True, type=click.IntRange(1), metavar="N",
                 help="Compare with `predict` on N rows."),
    weights_option,
)  # fmt: skip
model_option = output_option(default="model.onnx", help="File to write, instead of --folder.")


@verb("export")
@click.argument("run", type=RunFolder())
@model_option
@click.option("--with-encoder", is_flag=True,
              help="From images and captions to labels, rather than from stored features.")  # fmt: skip
@click.option("--folder", type=click.Path(path_type=Path), metavar="DIR",
              help="Write such a file, a script that runs it and a model card.")  # fmt: skip
@grouped("whole", WholeOptions, *WHOLE_OPTIONS)
@trust_option
@json_option
def export_run(
    run: str,
    output: Path,
    with_encoder: bool,
    folder: Path | None,
    whole: WholeOptions,
    trust: bool,
    as_json: bool,
) -> None:
    """Export a run as one ONNX file for programs without encode-once, checked with onnxruntime.

    Its outputs are `scores`, as `predict --scores` writes them, and `labels`, as the run chooses them. Its
    input `features` holds the run's features side by side, NaN if one is missing. With --with-encoder the
    inputs are `pixels` uint8 (batch, height, width, 3), `token_ids` and `word_counts`, those that the run
    needs; the file's metadata say how each is made. Before it is written it is compared with `predict`, on
    rows of the run or, if their images are gone, on generated ones.

    \b
    Examples:
      encode-once export runs/mlp -o model.onnx
      encode-once export runs/mlp --with-encoder -o model.onnx
      encode-once export runs/mlp --folder model --check 1000
    """
    from encode_once.classify import load_run
    from encode_once.deploy.onnx_export import export_onnx
    from encode_once.deploy.run_graph import undescribed

    if folder:
        refuse(model_option, why="--folder names the file's folder")
    loaded = load_run(run, trust=trust, log=say)
    if with_encoder or folder:
        content = _export_whole(loaded, output, folder, whole, trust)
    else:
        refuse(*WHOLE_OPTIONS, why="for --with-encoder and --folder")
        compared = export_onnx(loaded, output)
        for name in undescribed(loaded):
            warn([f"{name}: its word vectors are in {loaded.path} only; the file takes {name} as made by it"])
        say(f"{output}: {compared.text('random rows')}")
        content = {"output": str(output), **compared.as_json()}
    if as_json:
        click.echo(json.dumps(content, indent=1))
    say_next("evaluate", run)


def _export_whole(
    run: "Run", output: Path, folder: Path | None, options: WholeOptions, trust: bool
) -> dict[str, Any]:
    """Write a run with its encoders; returns what --json prints."""
    from encode_once.deploy.folder import check_folder, write_folder
    from encode_once.deploy.graph_check import check_graph
    from encode_once.deploy.onnx_file import write
    from encode_once.deploy.whole_graph import whole_graph
    from encode_once.extract.trust import Trust, approve

    if folder:
        check_folder(folder)
    encoders = run.record.encoders
    trusted = Trust((), weights_by_encoder([*encoders], options.weights), trust, say)
    files = approve(str(run.path), encoders, trusted)
    graph = whole_graph(run, files)
    check = check_graph(run, graph, files, options.rows)
    warn(check.remarks)
    content = graph.content
    size = write_folder(run, folder, content, graph.inputs) if folder else write(output, content)
    place = folder or output
    say(f"{place}: {size / 1e6:.0f} MB; {check.agreement.text(check.kind)}")
    return {"output": str(place), "bytes": size, "compared_on": check.kind, **check.agreement.as_json()}


@verb()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--file", "listed", metavar="LIST", help="A file with an id in each line.",
              type=click.Path(path_type=Path, dir_okay=False))  # fmt: skip
@click.option("--table", "tables", multiple=True, metavar="NAME", type=TableName(),
              help="Table in which the ids are meant; repeatable. [default: all]")  # fmt: skip
@click.option("--all-tables", is_flag=True, help="Ids that are different rows in several tables mean all.")
@click.option("--equal-images", type=click.Choice(["forget", "keep"]),
              help="Rows that are not named but have the same image. [default: refuse]")  # fmt: skip
@click.option("--runs", default="runs", show_default=True, type=click.Path(path_type=Path),
              help="Folder of the runs.")  # fmt: skip
@store_option
@output_option(help="Write the ids and keys, for store verify --absent-file.")
@json_option
def forget(
    ids: Sequence[str],
    listed: Path | None,
    tables: Sequence[str],
    all_tables: bool,
    equal_images: "EqualImages | None",
    runs: Path,
    store: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Remove images and captions of rows from the store and from what runs keep.

    Removed are rows of tables, vectors, failures, paths in the index, and rows of a run's scores, labels and
    predictions, whose figures are computed again. Vectors of captions that other rows have, too, stay. Models
    that were fitted on a row stay as they are: they are named, with the command that fits them again. An ID
    that is a different row in several tables is refused without --table or --all-tables. The path of an
    image, or a key in hexadecimal, is an ID, too, as is the name of a file that only `predict` has seen.

    At the end all files of the store and the runs are searched. What still names a row, such as the page of
    an audit, is named, and the exit status is 1. Your data, and files elsewhere, are yours to delete. After a
    kill, run the same command again. -o is written first.

    \b
    Examples:
      encode-once forget 17.jpg
      encode-once forget --file requests.txt --equal-images forget -o forgotten.txt
    """
    from encode_once.deploy import forget as forgetting

    names = [*dict.fromkeys([*ids, *(forgetting.read_list(listed) if listed else ())])]
    if not names:
        raise UsageError("name the rows to forget, or --file LIST")
    if tables and all_tables:
        raise UsageError("--table and --all-tables exclude each other")
    result = forgetting.forget(
        existing_store(store),
        runs,
        names,
        equal_images,
        tables=tables,
        all_tables=all_tables,
        output=output,
    )
    for line in forgetting.lines(result):
        say(line)
    warn(forgetting.warnings(result))
    if as_json:
        click.echo(json.dumps(result, indent=1))
    if result["left"]:
        raise DataError(forgetting.advice(result))
    words = [word for name in result["absent"][:3] for word in ("--absent", name)]
    if output:
        words = ["--absent-file", str(output)]
    say_next("store", "verify", *words, *store_words(store))


@verb("predict")
@click.argument("run", type=RunFolder())
@data_option
@click.option("--rows", default=500, show_default=True, type=click.IntRange(1), help="Rows to label.")
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(1),
              help="Rounds; figures are their medians.")  # fmt: skip
@weights_option
@trust_option
@device_option
@backend_option
@json_option
def bench_predict(
    run: str,
    data: str,
    rows: int,
    repeats: int,
    weights: Sequence[str],
    trust: bool,
    device: str,
    backend: str,
    as_json: bool,
) -> None:
    """Time a Predictor: many rows compared with an extraction, and one row with its networks alone.

    \b
    Example:
      encode-once bench predict runs/mlp --data photos --rows 1000
    """
    from encode_once.classify import load_run
    from encode_once.deploy.bench.predicting import rates, text

    files = weights_by_encoder([*load_run(run).record.encoders], weights)
    result = rates(
        run,
        data,
        rows=rows,
        repeats=repeats,
        weights=files,
        trust=trust,
        device=device,
        backend=backend,
    )
    print_result(result, as_json, lambda: text(result))


verbs = (evaluate, predict, monitor, forget, export_run)
benches = (bench_predict,)
