"""Commands that fit and compare many runs."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from encode_once.cache import DataError
from encode_once.cache.options import (
    RunFolder,
    json_option,
    print_result,
    say,
    say_next,
    store_option,
    verb,
    warn,
)
from encode_once.classify.options import HeadName, HeadValues, by_head, spec_options

jobs_option = click.option(
    "--jobs", default=1, show_default=True, type=click.IntRange(1), metavar="N",
    help="Number of processes, among which the cores are divided.",
)  # fmt: skip


def print_leaderboard(rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    """Print the rows of a sweep or an ablation; raise if all of them failed."""
    from encode_once.classify.experiments.leaderboard import text

    warn([*dict.fromkeys(line for row in rows for line in row["warnings"])])
    print_result(rows, as_json, lambda: text(rows))
    if all(row["error"] for row in rows):
        raise DataError("nothing could be fitted: see the errors above")


def _best(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The folder of the best fitted run of each setting in a leaderboard, the best first."""
    runs = dict[str, str]()  # by setting, whatever the seed
    for row in rows:
        settings = {name: value for name, value in row["settings"].items() if name != "seed"}
        if not row["error"]:
            runs.setdefault(repr([row["head"], row["features"], settings]), row["run"])
    return [*runs.values()]


@verb()
@click.option("--head", "names", multiple=True, default=["mlp", "linear"], show_default=True, type=HeadName(),
              help="Head to fit; repeatable.")  # fmt: skip
@spec_options
@click.option("--subsets", is_flag=True, help="Try every subset of the features.")
@click.option("--set", "settings", multiple=True, type=HeadValues(), metavar="HEAD.OPTION=V1,V2",
              help="Values of a head's option to try, or a JSON list of them; repeatable.")  # fmt: skip
@click.option("--search", "trials", default=0, metavar="N", help="Let Optuna try N settings of each head.")
@click.option("--seeds", default=1, show_default=True, help="Number of seeds per setting.")
@click.option(
    "--by",
    metavar="METRIC",
    help="Rank by micro_f1, macro_f1, samples_f1 or mAP; of one label per row also by accuracy or "
    "balanced_accuracy. [default: samples_f1, or that of --objective]",
)
@click.option("--folder", default="runs/sweep", show_default=True, help="Folder of the runs and the table.")
@jobs_option
@store_option
@json_option
def sweep(
    settings: Sequence[tuple[str, str, Any]],
    decision: dict[str, Any],
    only_classes: Sequence[str],
    hierarchy: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Fit heads on sets of features with several settings, and rank them with 95 % intervals.

    Every combination is a run in the folder. Existing runs are not fitted again, so the same command
    continues after a kill. All are measured on the same eval rows, with bootstrap intervals. --search chooses
    on the rows that thresholds are tuned on. The table of all runs in the folder is also in leaderboard.md
    and leaderboard.json. experiment run takes the same, and more, from a file.

    \b
    Examples:
      encode-once sweep --head linear --head mlp --subsets
      encode-once sweep --head mlp --set mlp.dropout=0.3,0.5 --set 'mlp.hidden=[[512], [1024, 512]]'
      encode-once sweep --head mlp --search 20 --objective samples --folder runs/search
    """
    from encode_once.classify import sweep as fit_all
    from encode_once.classify.spec import decision_from

    kinds: dict[str, Any] = {"only_classes": [*only_classes], "hierarchy": str(hierarchy or "")}
    rows = fit_all(**options, **kinds, decision=decision_from(decision), grid=by_head(settings), log=say)
    print_leaderboard(rows, as_json)
    say_next("evaluate", *_best(rows)[:2])


@verb()
@click.argument("run", type=RunFolder())
@click.option("--folder", help="Folder of the variants and the table. [default: RUN/ablation]")
@click.option("--trust", is_flag=True, help="Open the prompts and the lists of ids that the run names.")
@jobs_option
@json_option
def ablate(run: str, folder: str | None, trust: bool, jobs: int, as_json: bool) -> None:
    """Refit a run without each feature, with each option at its default, and with each other loss.

    Changes have 95 % intervals over the run's eval rows: an interval that contains 0 may be chance. Existing
    variants are not fitted again. The table is also written to ablation.md and ablation.json.

    \b
    Example:
      encode-once ablate runs/mlp
    """
    from encode_once.classify import ablate as fit_variants
    from encode_once.classify import load_run

    rows = fit_variants(load_run(run, trust=trust, log=say), folder, log=say, trust=trust, jobs=jobs)
    print_leaderboard(rows, as_json)
    variants = [row["run"] for row in rows if not row["error"] and row["run"] != run]
    say_next("evaluate", run, *variants[:1])


@verb("run")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--folder", type=click.Path(path_type=Path),
              help="Folder of the runs and the table. [default: the file's, or runs/NAME]")  # fmt: skip
@click.option("--store", help="Folder of the feature store. [default: the file's, or store]")
@click.option("--trust", is_flag=True, help="Run the code that the file names, as FILE.py:NAME.")
@jobs_option
@json_option
def experiment_run(
    file: Path, folder: Path | None, store: str | None, trust: bool, jobs: int, as_json: bool
) -> None:
    """Fit all combinations that a TOML file names: heads, options, sets of features, splits and seeds.

    Every combination is a run in the folder. Existing runs are not fitted again, so the same command
    continues after Ctrl-C or a kill. The leaderboard of all runs in the folder is also in leaderboard.md and
    leaderboard.json.

    \b
    Examples:
      encode-once experiment run experiment.toml
      encode-once experiment run experiment.toml --jobs 4 --folder runs/first
    """
    from encode_once.cache import Store
    from encode_once.classify.experiments.leaderboard import fit_all
    from encode_once.classify.experiments.toml_file import ExperimentFile, load_experiments, of_file
    from encode_once.classify.experiments.trial import TrialRunner

    asked: dict[tuple[str, Path], tuple[TrialRunner, list[Any]]] = {}  # store and folder → tasks
    for experiment in load_experiments(file, ExperimentFile, trust=trust, log=say):
        place = folder or Path(experiment.folder or f"runs/{file.stem}")
        source = store or experiment.store
        runner, tasks = asked.setdefault((source, place), (TrialRunner(Store(source), place), []))
        with of_file(file, experiment.variant):
            tasks += experiment.tasks(runner, say)
    boards: dict[Path, list[dict[str, Any]]] = {}  # by folder: its runs, and what failed
    for runner, tasks in asked.values():
        failed = [row for row in boards.get(runner.folder, ()) if row["error"]]
        boards[runner.folder] = [*fit_all(runner, tasks, say, jobs), *failed]
    print_leaderboard([row for board in boards.values() for row in board], as_json)
    say_next("compare", *map(str, boards))


@verb("show")
@click.argument("name")
@json_option
def recipe_show(name: str, as_json: bool) -> None:
    """Show a recipe's file, or its recipes as JSON.

    \b
    Example:
      encode-once recipe show glove-bilstm
    """
    from encode_once.classify.experiments.recipes import find

    recipes = find([name])
    paths = dict.fromkeys(Path(recipe.path) for recipe in recipes)
    content = [{"name": recipe.name, **asdict(recipe)} for recipe in recipes]
    print_result(content, as_json, lambda: "\n".join(path.read_text(encoding="utf-8") for path in paths))
    say_next("recipe", "run", name)


verbs = (sweep, ablate)
