"""The command that puts many systems into one table."""

from collections.abc import Sequence
from pathlib import Path

import click

from encode_once.cache import UsageError
from encode_once.cache.options import RunFolder, print_result, say, say_next, verb, warn
from encode_once.classify.options import results_option, results_table_option

FORMATS = ("latex", "md", "csv", "json")


@verb()
@click.argument("runs", nargs=-1, required=True, metavar="RUN|FOLDER...", type=RunFolder(folders=True))
@click.option("--metric", "names", multiple=True, metavar="METRIC",
              help="Column; repeatable, the first ranks. [default: macro_f1 and three others]")  # fmt: skip
@click.option("--per-class", is_flag=True, help="Also the F1 of each class, with a column for each system.")
@click.option("--anyway", is_flag=True, help="Compare runs that are not comparable, on what they share.")
@click.option("--latex", is_flag=True, help="Print LaTeX tables with the rules of booktabs.")
@click.option("--md", is_flag=True, help="Print Markdown.")
@click.option("--csv", is_flag=True, help="Print a row for each figure as CSV.")
@click.option("--json", is_flag=True, help="Print the result as JSON on stdout.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Also write a page.")
@results_option
@results_table_option
def compare(
    runs: Sequence[str],
    names: Sequence[str],
    per_class: bool,
    anyway: bool,
    html: Path | None,
    results: Path | None,
    results_table: str | None,
    **formats: bool,
) -> None:
    """Compare many systems in one table; runs that differ in their seeds, splits or folds are one system.

    A figure is the mean over seeds and folds ± the standard deviation or, of a single run, with its 95 %
    interval. The best is marked, and so are those that are not significantly different from it: by a paired
    bootstrap of the eval rows or, with several folds or redrawn splits, by the corrected resampled t-test of
    Nadeau and Bengio; Holm corrects for the number of systems. For several data sets, or folds, mean ranks
    follow with their critical difference.

    --results FILE.csv keeps a row for each system, with its features, settings, seeds, figures, command and
    machine. They replace the rows of the same table, data and split; the table has the name of the folder
    or of --results-table.

    Runs that were measured on different rows are refused without --anyway.

    --json prints {"metrics", "notes", "tables": [{"data", "rows", "sets", "test", "caveats", "systems":
    [{"system", "runs": [path], "seconds", "metrics": {metric: {"mean", "sd", "interval", "values": [{"run",
    "fold", "value"}], "best", "difference", "difference_interval", "p", "p_holm", "as_good"}}, "per_class":
    [{"label", "f1", "sd", "support"}]}]}], "ranks": {"metric", "blocks", "of", "mean_ranks", "friedman_p",
    "critical_difference", "cliques", "wilcoxon_holm"}}.

    \b
    Examples:
      encode-once compare runs/experiment
      encode-once compare runs/linear runs/mlp --per-class --latex
      encode-once compare runs/experiment --metric mAP --html table.html
      encode-once compare runs/experiment --results results.csv
    """
    from encode_once.classify.pages.render import write
    from encode_once.classify.systems.comparison import compare_systems, metrics_named
    from encode_once.classify.systems.formats import csv_text, latex, markdown, text
    from encode_once.classify.systems.grouping import find_runs
    from encode_once.classify.systems.page import page
    from encode_once.classify.systems.results import check, save, system_rows

    chosen = [name for name in FORMATS if formats[name]]
    if len(chosen) > 1:
        raise UsageError(f"--{chosen[0]} and --{chosen[1]}: print the table in one format")
    check(results, results_table)
    metrics = metrics_named(names)
    loaded, notes = find_runs([Path(run) for run in runs])
    tables = compare_systems(loaded, metrics, anyway)
    warn([*notes, *tables["notes"]])
    writers = {"latex": latex, "md": markdown, "csv": csv_text}
    writer = writers.get(chosen[0], text) if chosen else text
    print_result(tables, formats["json"], lambda: writer(tables, per_class))
    if html:
        write(page(tables, html), html)
        say(f"{html}: {html.stat().st_size / 1e6:.1f} MB; open it in a browser")
    if results:
        name = results_table or Path(runs[0]).resolve().name
        save(results, [*system_rows(name, tables, loaded)])
    best = [row["runs"][0] for row in tables["tables"][0]["systems"][:2]]
    say_next(*(["evaluate", *best] if len(best) > 1 else ["report", *best, "-o", "report.html"]))


verbs = (compare,)
