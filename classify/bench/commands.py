"""Benchmarks of stage 2."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from encode_once.cache.options import (
    Setting,
    existing_store,
    json_option,
    print_result,
    say,
    store_option,
    verb,
)
from encode_once.classify.options import (
    HeadSetting,
    NameList,
    by_head,
    features_option,
    seed_option,
    split_option,
    table_option,
)


@verb("fit")
@click.option("--head", "names", multiple=True, default=["mlp", "linear"], show_default=True)
@click.option(
    "--plain", is_flag=True, help="Also time each head's peer: the usual library with its defaults."
)
@click.option("--set", "settings", multiple=True, type=HeadSetting(), metavar="HEAD.OPTION=VALUE",
              help="Option of a head.")  # fmt: skip
@click.option("--rows", type=click.IntRange(1), help="Number of synthetic rows to use instead of a store.")
@click.option(
    "--dim", default=1536, show_default=True, type=click.IntRange(1), help="Columns of the synthetic rows."
)
@features_option
@split_option
@table_option
@store_option
@seed_option
@json_option
def bench_fit(
    names: Sequence[str],
    settings: Sequence[tuple[str, str, Any]],
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
    from encode_once.classify.bench.race import contest
    from encode_once.classify.bench.synthetic import synthetic_store

    stored: AbstractContextManager[str | Path] = synthetic_store(rows, dim) if rows else nullcontext(store)
    results = []
    with stored as path:
        for row in contest(path, names, options=by_head(settings), **options):
            results.append(row)
            say(f"{row['model']}: {row['seconds']:.1f} s")
    print_result(results, as_json, lambda: table_text(results))


@verb("heads")
@click.option("--data", default="multilabel", show_default=True, type=click.Path(path_type=Path),
              help="Folder with NAME-train.arff and NAME-test.arff, or these as .gz.")  # fmt: skip
@click.option("--sets", type=NameList(), help="Sets of the folder. [default: all]")
@click.option("--labels", multiple=True, type=Setting(), metavar="SET=NUMBER",
              help="How many of a set's last columns are labels; repeatable.")  # fmt: skip
@click.option("--store", help="Also use the table of this store, under the name of its folder.")
@features_option
@split_option
@click.option("--heads", "names", type=NameList(), help="Heads. [default: those that take any vectors]")
@click.option("--peers", type=NameList(), help='Other libraries\' systems. [default: all; "": none]')
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="Number of seeds.")
@click.option(
    "--seconds", default=600.0, show_default=True, help="Processor seconds of a fit after which it is killed."
)
@click.option("--folder", default="runs/heads", show_default=True, type=click.Path(path_type=Path),
              help="Folder of results.csv and of the scores.")  # fmt: skip
@click.option("--table", is_flag=True, help="Only print the tables of what was measured, as Markdown.")
@json_option
def bench_heads(
    data: Path,
    sets: list[str] | None,
    labels: Sequence[tuple[str, Any]],
    store: str | None,
    features: Sequence[str],
    split: str,
    names: list[str] | None,
    peers: list[str] | None,
    seeds: int,
    seconds: float,
    folder: Path,
    table: bool,
    as_json: bool,
) -> None:
    """Compare heads with other libraries on published multi-label data sets (ARFF; extra `peers`).

    All systems get the same rows and seeds. Each is measured by its own decision rule, and by the thresholds
    of this program, tuned on the same validation rows. Seconds are those of one fit and of labelling the test
    rows. Every result is saved at once, so that the same command continues after a kill; a fit that takes
    more than --seconds, imports included, is killed and reported.

    \b
    Examples:
      encode-once bench heads --data multilabel --sets emotions,scene
      encode-once bench heads --heads linear,mlp --peers "" --seeds 1
      encode-once bench heads --table
    """
    from encode_once.cache.text_table import markdown_text, table_text
    from encode_once.classify.bench.heads import HEADS, SHOWN, contest, contest_sets
    from encode_once.classify.bench.heads_tables import tables
    from encode_once.classify.bench.peers import PEERS

    if table:
        of_folder = tables(folder)
        text = "\n\n".join(f"### {title}\n\n{markdown_text(rows)}" for title, rows in of_folder.items())
        print_result(of_folder, as_json, lambda: text)
        return
    systems = [*(HEADS if names is None else names), *(PEERS if peers is None else peers)]
    results = []
    with contest_sets(data, sets, dict(labels), store, features, split) as chosen:
        for row in contest(chosen, systems, seeds, folder, seconds):
            results.append({name: row[name] for name in SHOWN})
            say(f"{row['set']}, {row['system']}, seed {row['seed']}: {row['outcome']}")
    print_result(results, as_json, lambda: table_text(results) if results else "nothing new was measured")


@verb("split")
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
    from encode_once.classify.bench.splits import contest, synthetic_labels
    from encode_once.classify.data.labels import class_names, label_matrix
    from encode_once.classify.data.tables import choose_table

    tables = {"synthetic": synthetic_labels(rows, classes)}
    if store is not None:
        table = choose_table(existing_store(store), data)
        assert table.labels is not None
        tables[table.source] = label_matrix(table.labels, class_names(table.labels))
    results = [row for name, labels in tables.items() for row in contest(name, labels)]
    print_result(results, as_json, lambda: table_text(results))


@verb("tune")
@click.option("--size", "sizes", multiple=True, type=(click.IntRange(1), click.IntRange(1)),
              metavar="ROWS CLASSES", default=[(30_000, 19), (40_000, 80)], show_default=True,
              help="Size of the synthetic scores; repeatable.")  # fmt: skip
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(1),
              help="Rounds; seconds are their medians.")  # fmt: skip
@json_option
def bench_tune(sizes: Sequence[tuple[int, int]], repeats: int, as_json: bool) -> None:
    """Time thresholds, compared with scikit-learn's precision_recall_curve.

    \b
    Examples:
      encode-once bench tune
      encode-once bench tune --size 3000 5
    """
    from encode_once.cache.text_table import table_text
    from encode_once.classify.bench.thresholds import speed

    tables = [speed(rows, classes, repeats) for rows, classes in sizes]
    print_result(tables, as_json, lambda: "\n\n".join(map(table_text, tables)))


@verb("start")
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(1),
              help="Rounds; figures are their medians.")  # fmt: skip
@json_option
def bench_start(repeats: int, as_json: bool) -> None:
    """Measure the start of commands on a small store and run: seconds and peak memory, next to Python alone.

    \b
    Example:
      encode-once bench start
    """
    from encode_once.cache.bench.start import start
    from encode_once.cache.text_table import table_text
    from encode_once.classify import fit as fit_head
    from encode_once.classify.bench.synthetic import synthetic_store

    with synthetic_store(1000, 16) as store, TemporaryDirectory() as folder:
        run, _ = fit_head(store, "linear", run=Path(folder) / "run")
        results = start(run.path, store, repeats)
    print_result(results, as_json, lambda: table_text(results))


@verb("thresholds")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path())
@click.option("--repeats", default=20, show_default=True, type=click.IntRange(2),
              help="Random halvings of a run's rows.")  # fmt: skip
@click.option("--rows", default=1000, show_default=True, type=click.IntRange(1),
              help="Also tune on this number of rows.")  # fmt: skip
@seed_option
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
    from encode_once.classify.bench.rules import text, unseen_f1

    results: list[dict[str, Any]] = []
    for run in runs:
        say(run)
        results += unseen_f1(load_run(run), repeats, rows, seed)
    print_result(results, as_json, lambda: text(results, markdown_text if md else table_text))


bench_cuts = click.Command(
    "cuts",
    params=bench_thresholds.params,
    callback=bench_thresholds.callback,
    hidden=True,
    deprecated="use `bench thresholds`",
)


@verb("report")
@click.option("--rows", default=30_000, show_default=True, type=click.IntRange(10))
@click.option("--classes", default=80, show_default=True, type=click.IntRange(2))
@json_option
def bench_report(rows: int, classes: int, as_json: bool) -> None:
    """Measure the report page of a synthetic run: its size, and how fast Chromium shows and updates it.

    \b
    Example:
      encode-once bench report
    """
    from encode_once.cache.text_table import table_text
    from encode_once.classify.bench.report import figures

    results = figures(rows, classes)
    print_result(results, as_json, lambda: table_text(results))


@verb("intervals")
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
    met = [row for tuned_on in (1000, 5000) for row in guarantees(tuned_on)]
    results = {"intervals": covered, "guarantees": met}
    print_result(results, as_json, lambda: "\n\n".join(map(table_text, results.values())))


@verb("validation")
@click.option("--head", "names", multiple=True, default=["linear", "mlp"], show_default=True)
@click.option("--rows", "sizes", multiple=True, default=[200, 500, 1000, 2000], show_default=True,
              type=click.IntRange(20), help="Numbers of train rows; repeatable.")  # fmt: skip
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(2), help="Draws of train rows.")
@features_option
@table_option
@store_option
@seed_option
@json_option
def bench_validation(
    names: Sequence[str], sizes: Sequence[int], repeats: int, store: str, as_json: bool, **options: Any
) -> None:
    """Compare the kinds of validation rows, and decision rules, on few train rows drawn from a table.

    \b
    Example:
      encode-once bench validation --head linear --rows 200 --rows 1000
    """
    from encode_once.cache.text_table import table_text
    from encode_once.classify.bench.validation import draws_of, few_rows, text_rows

    results: list[dict[str, Any]] = []
    for row in few_rows(draws_of(existing_store(store), names, sizes, repeats, **options)):
        if not results or results[-1]["seconds"] != row["seconds"]:
            say(f"{row['head']}, {row['train rows']} rows, {row['validation']}: {row['seconds']:.1f} s")
        results.append(row)
    print_result(results, as_json, lambda: table_text(text_rows(results)))


@verb("rules")
@click.option("--head", "names", multiple=True, default=["linear", "knn", "mlp"], show_default=True)
@click.option("--rows", "sizes", multiple=True, default=[200, 500, 1000, 8000], show_default=True,
              type=click.IntRange(20), help="Numbers of train rows; repeatable.")  # fmt: skip
@click.option("--repeats", default=20, show_default=True, type=click.IntRange(2), help="Draws of train rows.")
@click.option("--set", "settings", multiple=True, type=HeadSetting(), metavar="HEAD.OPTION=VALUE",
              help="Option of a head.")  # fmt: skip
@features_option
@table_option
@store_option
@seed_option
@json_option
def bench_rules(
    names: Sequence[str],
    sizes: Sequence[int],
    repeats: int,
    settings: Sequence[tuple[str, str, Any]],
    store: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Compare the default rule with 0.5 and one threshold for all classes, by number of train rows.

    Differences are in units of 0.001 with one standard error; ! marks a loss of more than two of these.

    \b
    Example:
      encode-once bench rules --head linear --rows 200 --rows 1000
    """
    from encode_once.cache.text_table import table_text
    from encode_once.classify.bench.default_rule import differences, text_rows
    from encode_once.classify.bench.validation import draws_of

    results: list[dict[str, Any]] = []
    draws = draws_of(existing_store(store), names, sizes, repeats, options=by_head(settings), **options)
    for row in differences(draws):
        if row["less"] is None:
            say(f"{row['head']}, {row['train rows']} rows")
        results.append(row)
    print_result(results, as_json, lambda: table_text(text_rows(results)))


@verb("unknown")
@click.option("--head", "names", multiple=True, default=["linear", "mlp"], show_default=True)
@click.option("--share", default=0.3, show_default=True, type=click.FloatRange(0, 1, max_open=True),
              help="Share of the label entries to hide.")  # fmt: skip
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(1),
              help="Times that other entries are hidden.")  # fmt: skip
@features_option
@table_option
@store_option
@seed_option
@json_option
def bench_unknown(
    names: Sequence[str], share: float, repeats: int, store: str, as_json: bool, **options: Any
) -> None:
    """Hide labels of the train rows at random: what it costs if they are unknown, and if they are negative.

    As many labels are left if rows are left out instead, which is measured, too.

    \b
    Example:
      encode-once bench unknown --head linear --share 0.3
    """
    from encode_once.cache.text_table import table_text
    from encode_once.classify.bench.unknown import hiding

    results = list(hiding(existing_store(store), names, share, repeats, **options))
    print_result(results, as_json, lambda: table_text(results))


benches = (
    bench_fit,
    bench_heads,
    bench_split,
    bench_tune,
    bench_start,
    bench_thresholds,
    bench_cuts,
    bench_intervals,
    bench_validation,
    bench_rules,
    bench_unknown,
    bench_report,
)
