"""Commands that use a run elsewhere: on other data, for images, or as a file for other programs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from encode_once.cache import UsageError
from encode_once.cache.options import (
    RunFolder,
    alert,
    data_option,
    excel_option,
    grouped,
    json_option,
    output_option,
    print_json,
    print_result,
    refuse,
    say,
    say_next,
    verb,
    warn,
)
from encode_once.deploy.check_commands import doctor, verify
from encode_once.deploy.forget_command import forget
from encode_once.deploy.monitor_command import monitor
from encode_once.deploy.options import (
    OF_DATA,
    encoding_options,
    measured_table_option,
    new_table_option,
)
from encode_once.deploy.recipe_commands import recipe_list, recipe_run
from encode_once.deploy.service_commands import promote, rollback, runs_list
from encode_once.deploy.update_command import update
from encode_once.extract.options import (
    INPUT_OPTIONS,
    trust_option,
    weights_by_encoder,
    weights_option,
)

CHECKED = 32  # rows on which an exported graph is compared with `predict`

if TYPE_CHECKING:
    from encode_once.cache import Table
    from encode_once.classify.runs.predict import Predicted
    from encode_once.classify.runs.run import Run
    from encode_once.deploy.encoding import Encoding


prevalence_option = click.option(
    "--prevalence", type=click.Choice(["em"]), metavar="em",
    help="Correct scores for how frequent classes are in these rows, estimated by EM.",
)  # fmt: skip


@verb()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=RunFolder())
@click.option("--data", help="Data to measure on, instead of the runs' eval rows.")
@measured_table_option
@click.option("--differences", type=click.Path(path_type=Path), metavar="FILE",
              help="Write the rows with different predictions as CSV.")  # fmt: skip
@excel_option
@click.option("--anyway", is_flag=True, help="Compare runs that are not comparable, on the rows they share.")
@prevalence_option
@encoding_options
@json_option
def evaluate(
    runs: Sequence[str],
    data: str | None,
    table: str,
    differences: Path | None,
    excel_safe: bool,
    anyway: bool,
    prevalence: str | None,
    encoding: "Encoding",
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

    --json prints one object. For one run: its metrics, with `intervals`: {metric: [low, high]}, and with
    --data `warnings`: [text]. For several: {"n", "caveats": [text], "runs": [{"run",
    "tuned_on_these_rows", metrics, "intervals", "warnings"}], "differences": [{"run", "to", "metrics":
    {metric: {"difference", "interval"}}, "per_class": [{"label", "difference", "interval"}], "better":
    [label], "worse": [label], "rows_differing", "closer", "further"}]}.

    \b
    Examples:
      encode-once evaluate runs/mlp
      encode-once evaluate runs/mlp --data more-photos --json
      encode-once evaluate runs/linear runs/mlp --differences differences.csv
    """
    from encode_once.classify import load_run
    from encode_once.classify.evaluation import compare
    from encode_once.classify.evaluation.tables import comparison_text, metrics_text
    from encode_once.classify.runs.asked import check_labels
    from encode_once.classify.runs.predict import differences as feature_differences
    from encode_once.classify.runs.predict import fitted_store
    from encode_once.classify.runs.retune import evaluate_kept
    from encode_once.deploy.other_data import evaluate_on

    if not differences:
        refuse(excel_option, why="for the file that --differences writes")
    if len(runs) == 1 and (differences or anyway):
        raise UsageError("--differences and --anyway are for two runs or more")
    if data is None:
        refuse(measured_table_option, *OF_DATA, why="for --data: nothing is encoded without")
        refuse(prevalence_option, why="for --data: labels of eval rows are as frequent as before")
    loaded = [load_run(run, trust=encoding.trust, log=say) for run in runs]
    if data is None:
        for run in loaded:
            warn(feature_differences(run, fitted_store(run)))
        evaluations = [evaluate_kept(run) for run in loaded]
    else:
        evaluations = evaluate_on(loaded, data, table, encoding, prevalence)
        for evaluation in evaluations:
            origin = f"{evaluation.run}: " if len(runs) > 1 else ""
            warn([f"{origin}{line}" for line in evaluation.warnings])
    if len(evaluations) == 1:
        metrics = evaluations[0].with_intervals()
        if data is not None:
            metrics["warnings"] = [*evaluations[0].warnings]
        print_result(metrics, as_json, lambda: metrics_text(metrics))
        say_next("audit", runs[0])
        return
    check_labels(loaded)
    comparison, evaluations = compare.against_first(evaluations, anyway=anyway or data is not None)
    print_result(comparison, as_json, lambda: comparison_text(comparison))
    if differences:
        record = loaded[0].record
        count = compare.write_differences(
            differences, evaluations, record.id_column, record.label_separator, excel_safe=excel_safe
        )
        say(f"{differences}: {count} rows")
    say_next("report", *runs)


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
@prevalence_option
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
    prevalence: str | None,
    excel_safe: bool,
    encoding: "Encoding",
    as_json: bool,
) -> None:
    """Predict labels for every row of a table, or for images, encoding only what is missing.

    IMAGE is a file, a folder, a pattern such as 'photos/*.jpg', or a URL; its labels and scores are printed.
    Features that a row lacks, because its image is broken or it has no caption, are replaced by the training
    mean; the column Missing names them. Scores are the probabilities that thresholds are compared with. The
    store that the run was fitted from is not changed: vectors of new rows are stored in RUN/store.

    --json prints {"files": [path], "rows", "table": path, "warnings": [text]}; for images, also
    "predictions": [{"id", "labels": [name], "scores": {name: score}}]; with --prevalence also "prevalence":
    {class: {"before", "after"}}, equal if the class has no shift.

    \b
    Examples:
      encode-once predict runs/mlp --data photos -o predictions.csv --scores scores.csv
      encode-once predict runs/mlp photo.jpg 'photos/*.jpg' --top 3
    """
    from encode_once.classify import load_run
    from encode_once.classify.runs.predict import unused_warnings
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
    table, predicted = _labelled(loaded, source, split, _allowing(encoding, photos), prevalence)
    unused = unused_warnings(loaded, {"images": photos, "captions": caption})
    predicted = predicted._replace(warnings=[*unused, *predicted.warnings])
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
    content |= {"prevalence": predicted.prevalence} if predicted.prevalence else {}
    if named:
        rows = shown_rows(table.ids, classes, predicted, top)
        print_result(content | {"predictions": rows}, as_json, lambda: text(rows))
    elif as_json:
        print_json(content)
    say_next("evaluate", run)


def _allowing(encoding: "Encoding", photos: Sequence[str]) -> "Encoding":
    """Allow the URLs among the named images, if there are any."""
    from encode_once.extract.remote.urls import is_remote

    urls = [photo for photo in photos if is_remote(photo)]
    return replace(encoding, read=replace(encoding.read, allow_urls=urls)) if urls else encoding


def _labelled(
    run: "Run", data: "str | Table", split: str, encoding: "Encoding", prevalence: str | None
) -> tuple["Table", "Predicted"]:
    """A table, and the labels of its rows; prints the prevalences, if they are estimated."""
    from encode_once.classify.runs.prevalence import text
    from encode_once.deploy.other_data import label_rows_of

    table, predicted = label_rows_of(run, data, split, encoding, prevalence)
    if predicted.prevalence:
        say(text(predicted.prevalence))
    return table, predicted


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
        print_json(content)
    say_next("evaluate", run)


def _export_whole(
    run: "Run", output: Path, folder: Path | None, options: WholeOptions, trust: bool
) -> dict[str, Any]:
    """Write a run with its encoders; returns what --json prints."""
    from encode_once.deploy.encoding import approved
    from encode_once.deploy.folder import check_folder, write_folder
    from encode_once.deploy.graph_check import check_graph
    from encode_once.deploy.onnx_file import write
    from encode_once.deploy.whole_graph import whole_graph
    from encode_once.extract.trust import Trust

    if folder:
        check_folder(folder)
    trusted = Trust((), weights_by_encoder([*run.record.encoders], options.weights), trust, say)
    with approved(run, trusted) as files:
        graph = whole_graph(run, files)
        check = check_graph(run, graph, files, options.rows)
    warn(check.remarks)
    content = graph.content
    size = write_folder(run, folder, content, graph.inputs) if folder else write(output, content)
    place = folder or output
    say(f"{place}: {size / 1e6:.0f} MB; {check.agreement.text(check.kind)}")
    return {"output": str(place), "bytes": size, "compared_on": check.kind, **check.agreement.as_json()}


@verb()
@click.argument("folders", nargs=-1, required=True, metavar="RUN|STORE...", type=RunFolder())
@trust_option
@json_option
def migrate(folders: Sequence[str], trust: bool, as_json: bool) -> None:
    """Rewrite runs and stores of earlier versions in the current one.

    Reading needs no migration: runs and stores since version 2 are read as they are. Each run, and each
    table of a store, is replaced at once or stays as it is. What an earlier version did not record is
    named. After an interruption, the same command continues. A folder that cannot be migrated is reported,
    and the others are; the exit status is then 1.

    --json prints {folder: [line]} of the folders that are migrated.

    \b
    Examples:
      encode-once migrate store
      encode-once migrate runs/mlp runs/linear
    """
    from encode_once.cache import DataError, EncodeOnceError, Store
    from encode_once.cache.migration import migrate_store
    from encode_once.classify import load_run
    from encode_once.classify.migration import migrate_run

    done, failed = dict[str, list[str]](), 0
    for folder in folders:
        try:
            if (Path(folder) / "store.json").exists():
                done[folder] = migrate_store(Store(folder))
            else:
                done[folder] = migrate_run(load_run(folder, trust=trust, log=say))
        except EncodeOnceError as error:
            if len(folders) == 1:
                raise
            failed += 1
            alert(f"failed: {folder}: {error}")
        else:
            if not as_json:
                click.echo("\n".join(done[folder]))
    if as_json:
        print_json(done)
    if failed:
        raise DataError(f"{failed} of {len(folders)} folders are not migrated")


verbs = (evaluate, predict, monitor, forget, export_run, migrate, update, promote, rollback, doctor)
of_stores = (verify,)
of_runs = (runs_list,)
of_recipes = (recipe_list, recipe_run)
