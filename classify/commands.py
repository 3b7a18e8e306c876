"""Commands of stage 2: fit heads, tune, compare and search; their benchmarks."""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from encode_once.cache import DataError
from encode_once.cache.options import (
    Command,
    Setting,
    device_option,
    existing_store,
    grouped,
    json_option,
    json_or_text,
    output_option,
    print_result,
    say,
    store_option,
    warn,
)


class DecisionRuleName(click.ParamType):  # type: ignore[type-arg]  # generic in new versions only
    """A decision rule's name; the old name `cuts` is accepted with a deprecation line."""

    name = "RULE"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Replace the old name."""
        if value == "cuts":
            warn(["--decide cuts is deprecated: use --decide thresholds"])
            return "thresholds"
        return value


def _explicit(**values: Any) -> dict[str, Any]:
    """The options of the decision rule that were passed."""
    explicit = {name: value for name, value in values.items() if value is not None}
    if explicit.get("at_most") == 0:
        explicit["at_most"] = None
    return explicit


def decision_options(objective: str) -> Callable[[Command], Command]:
    """Options of the decision rule; `objective` is the command's own name of that option."""
    return grouped(
        "decision",
        _explicit,
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
    )  # fmt: skip


features_option = click.option(
    "--features",
    multiple=True,
    metavar="NAME",
    help="Feature to use; repeatable. [default: every pooled one]",
)
split_option = click.option(
    "--split", default="stratified:0.1", show_default=True, metavar="SPEC", help="Rows for evaluation."
)
groups_option = click.option(
    "--groups",
    default="content",
    show_default=True,
    metavar="SPEC",
    help="Rows to keep together in every split.",
)
validation_option = click.option(
    "--validation",
    "--inner",
    "validation",
    default="tenth",
    show_default=True,
    metavar="KIND",
    help="Train rows to tune on: a tenth, or all of them by folds.",
)
scale_option = click.option(
    "--scale",
    default="auto",
    show_default=True,
    metavar="KIND",
    help="Scale each column, all of a feature alike (feature), by idf, or none.",
)
table_option = click.option("--data", help="Data folder to learn from, if the store has several.")
seed_option = click.option("--seed", default=0, show_default=True)


@click.command()
@click.option("--head", default="mlp", show_default=True, help="Head to fit.")
@features_option
@split_option
@groups_option
@decision_options("--tune")
@click.option(
    "--tune-on",
    default="inner",
    show_default=True,
    help="Rows to tune on: inner, or eval as some reports do.",
)
@validation_option
@click.option("--run", type=click.Path(), help="Folder to write. [default: runs/HEAD, or the next free one]")
@click.option("--overwrite", is_flag=True, help="Replace the run that is in that folder.")
@table_option
@store_option
@scale_option
@seed_option
@click.option(
    "--set", "settings", multiple=True, type=Setting(), metavar="OPTION=VALUE", help="Option of the head."
)
@json_option
def fit(
    store: str,
    run: str | None,
    overwrite: bool,
    settings: Sequence[tuple[str, Any]],
    decision: dict[str, Any],
    as_json: bool,
    **options: Any,
) -> None:
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
    from encode_once.classify import DecisionSpec
    from encode_once.classify import fit as fit_head
    from encode_once.classify.evaluation.tables import metrics_text
    from encode_once.classify.spec import FitSpec

    spec = FitSpec(**options, decision=DecisionSpec(**decision), options=dict(settings))
    fitted, metrics = fit_head(store, spec, run=run, overwrite=overwrite)
    warn(fitted.record.warnings)
    print_result(metrics, as_json, lambda: metrics_text(metrics))
    say(f"{fitted.path}: {spec.head} on {', '.join(fitted.spec.features)}, {fitted.record.seconds:.1f} s")
    sparse = [name for name, kind in fitted.record.scales.items() if kind == "feature"]
    if sparse and spec.scale == "auto":
        say(f"most numbers are 0 in {', '.join(sparse)}: scaled as a whole, not by column (--scale column)")


@click.command()
@click.argument("run", type=click.Path())
@decision_options("--objective")
@json_option
def tune(run: str, decision: dict[str, Any], as_json: bool) -> None:
    """Re-tune a run's thresholds from its saved scores, without refitting.

    Options that are omitted keep their current value.

    \b
    Examples:
      encode-once tune runs/mlp --objective micro
      encode-once tune runs/mlp --objective precision:0.9
      encode-once tune runs/mlp --decide expected-f1 --calibrate isotonic
    """
    from encode_once.classify import DecisionSpec, load_run, retune
    from encode_once.classify.evaluation.tables import metrics_text

    DecisionSpec(**decision)  # fail on an unknown name before anything is read
    loaded = load_run(run, interrupted=True)
    metrics, predictions = retune(loaded, replace(loaded.decision.spec, **decision))
    loaded.save_decision(metrics, predictions)
    print_result(metrics, as_json, lambda: metrics_text(metrics))


@click.command("export")
@click.argument("run", type=click.Path())
@output_option(default="model.onnx")
def export_run(run: str, output: Path) -> None:
    """Export a run's standardisation, network and thresholds as one ONNX file, checked with onnxruntime.

    The input `features` holds the run's features side by side, NaN if one is missing; the outputs are
    `scores` and `labels`. The file's metadata names features, classes and thresholds.

    \b
    Example:
      encode-once export runs/mlp -o model.onnx
    """
    from encode_once.classify import load_run
    from encode_once.classify.runs.onnx_export import export_onnx

    difference = export_onnx(load_run(run), output)
    say(f"{output}: scores differ from the run's by {difference:.1e} at most")


@click.command()
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
    from encode_once.classify.runs.predict import differences, fitted_store
    from encode_once.classify.runs.retune import compare_rules

    folders = [path for path in runs if Path(path).is_dir() and not (Path(path) / "run.json").exists()]
    if len(folders) < len(runs):  # runs/* also matches the folders of sweeps and recipes
        warn([f"{folder} is not a run: left out" for folder in folders])
        runs = [path for path in runs if path not in folders]
    loaded = [load_run(path) for path in runs]
    for run in loaded:
        warn([f"{run.path}: {line}" for line in run.record.warnings])
        warn(differences(run, fitted_store(run)))
    rows = compare_rules(loaded)
    print_result(rows, as_json, lambda: table_text(rows))


class HeadSetting(click.ParamType):  # type: ignore[type-arg]
    """`HEAD.OPTION=VALUE` → (head, option, value)."""

    name = "HEAD.OPTION=VALUE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str, Any]:
        """Split the name at its first dot."""
        name, content = Setting().convert(value, param, ctx)
        head, dot, option = name.partition(".")
        if not dot:
            self.fail(f"{value}: expected {self.name}", param, ctx)
        return head, option, self.parsed(content)

    def parsed(self, content: Any) -> Any:
        """The value as it is."""
        return content


class HeadValues(HeadSetting):
    """`HEAD.OPTION=V1,V2` or `HEAD.OPTION=[V1, V2]` → (head, option, values)."""

    name = "HEAD.OPTION=V1,V2"

    def parsed(self, content: Any) -> list[Any]:
        """The values to try."""
        if isinstance(content, str):
            return [json_or_text(value) for value in content.split(",")]
        return content if isinstance(content, list) else [content]


def by_head(settings: Sequence[tuple[str, str, Any]]) -> dict[str, dict[str, Any]]:
    """Head → option → value."""
    options: dict[str, dict[str, Any]] = {}
    for head, option, value in settings:
        options.setdefault(head, {})[option] = value
    return options


def print_leaderboard(rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    """Print the rows of a sweep or an ablation; raise if all of them failed."""
    from encode_once.classify.experiments.leaderboard import text

    warn([*dict.fromkeys(line for row in rows for line in row["warnings"])])
    print_result(rows, as_json, lambda: text(rows))
    if all(row["error"] for row in rows):
        raise DataError("nothing could be fitted: see the errors above")


@click.command()
@click.option("--head", "names", multiple=True, default=["mlp", "linear"], show_default=True, metavar="NAME",
              help="Head to fit; repeatable.")  # fmt: skip
@features_option
@click.option("--subsets", is_flag=True, help="Try every subset of the features.")
@click.option("--set", "settings", multiple=True, type=HeadValues(), metavar="HEAD.OPTION=V1,V2",
              help="Values of a head's option to try, or a JSON list of them; repeatable.")  # fmt: skip
@click.option("--search", "trials", default=0, metavar="N", help="Let Optuna try N settings of each head.")
@click.option("--seeds", default=1, show_default=True, help="Number of seeds per setting.")
@split_option
@groups_option
@decision_options("--tune")
@validation_option
@scale_option
@click.option(
    "--by", metavar="METRIC", help="Rank by micro_f1, macro_f1, samples_f1 or mAP. [default: as --tune]"
)
@click.option("--folder", default="runs/sweep", show_default=True, help="Folder of the runs and the table.")
@table_option
@store_option
@json_option
def sweep(
    settings: Sequence[tuple[str, str, Any]], decision: dict[str, Any], as_json: bool, **options: Any
) -> None:
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
    from encode_once.classify import DecisionSpec
    from encode_once.classify import sweep as fit_all

    rows = fit_all(**options, decision=DecisionSpec(**decision), grid=by_head(settings), log=say)
    print_leaderboard(rows, as_json)


@click.command()
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
    from encode_once.classify import ablate as fit_variants
    from encode_once.classify import load_run

    print_leaderboard(fit_variants(load_run(run), folder, log=say, trust=trust), as_json)


@click.command()
@click.argument("run", type=click.Path())
@output_option(default="audit.csv")
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
    from encode_once.classify import load_run
    from encode_once.classify.audit import audit as auditing

    findings, warnings = auditing.audit(load_run(run), near, device)
    warn(warnings)
    auditing.write(findings, output)
    say(f"{output}: {auditing.summary(findings)}")
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=1))


@click.command("show")
@click.argument("name")
@json_option
def recipe_show(name: str, as_json: bool) -> None:
    """Show a recipe's file, or its recipes as JSON.

    \b
    Example:
      encode-once recipe show glove-bilstm
    """
    from encode_once.classify.experiments.recipes import find, text_of

    recipes = find([name])
    content = [asdict(recipe) | {"path": str(recipe.path)} for recipe in recipes]
    print_result(content, as_json, lambda: text_of(recipes))


@click.command("fit")
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


class NameList(click.ParamType):  # type: ignore[type-arg]
    """`A,B` → ["A", "B"]."""

    name = "NAME,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        """Split the text; an empty one has no name."""
        return value if isinstance(value, list) else [name for name in value.split(",") if name]


@click.command("heads")
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
    "--seconds", default=300.0, show_default=True, help="Processor seconds of a fit after which it is killed."
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


@click.command("split")
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
    from encode_once.classify.data.labels import choose_table, class_names, label_matrix

    tables = {"synthetic": synthetic_labels(rows, classes)}
    if store is not None:
        table = choose_table(existing_store(store), data)
        assert table.labels is not None
        tables[table.source] = label_matrix(table.labels, class_names(table.labels))
    results = [row for name, labels in tables.items() for row in contest(name, labels)]
    print_result(results, as_json, lambda: table_text(results))


@click.command("tune")
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


@click.command("start")
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


@click.command("thresholds")
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


@click.command("intervals")
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


verbs = (fit, tune, export_run, report, sweep, ablate, audit)
benches = (
    bench_fit,
    bench_heads,
    bench_split,
    bench_tune,
    bench_start,
    bench_thresholds,
    bench_cuts,
    bench_intervals,
)
