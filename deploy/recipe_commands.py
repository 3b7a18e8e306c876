"""The commands `recipe list` and `recipe run`, which encode what recipes lack."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from encode_once.cache.options import (
    device_option,
    grouped,
    json_option,
    print_result,
    say,
    say_next,
    store_option,
    verb,
    warn,
)
from encode_once.cache.terminal import printable
from encode_once.cache.text_table import markdown_text, table_text
from encode_once.classify.options import results_option, results_table_option
from encode_once.extract.options import input_options, warn_of_failures, weights_by_encoder, weights_option

if TYPE_CHECKING:
    from encode_once.classify.experiments.recipes.run import RecipeRunner
    from encode_once.extract.provider import Provider
    from encode_once.extract.readers import ReadOptions


recipe_options = grouped(
    "sources",
    dict,
    click.option("--data", help="Data, as for extract. [default: input, or else the tables of the store]"),
    store_option,
    weights_option,
    click.option(
        "--encoder", "encoders", multiple=True, metavar="NAME",
        help="Encoder that may replace one that a recipe names, as onnx:yolox.onnx; repeatable.",
    ),
)  # fmt: skip


def _recipe_runner(
    recipes: Sequence[Any],
    data: str | None,
    store: str,
    encoders: Sequence[str],
    weights: Sequence[str],
    trust: bool = False,
    **options: Any,
) -> "tuple[RecipeRunner, Provider | None]":
    """Where recipes run, and the provider of features; None if there is no data to encode."""
    from encode_once.cache import FeatureName, Store, own_code
    from encode_once.cache.views import without_view
    from encode_once.classify.experiments.recipes.run import RecipeRunner
    from encode_once.extract.encoders import named
    from encode_once.extract.provider import Provider

    opened = Store(store)
    if data is None and Path("input").is_dir():
        data = "input"
    if data is None and opened.table_files():
        return RecipeRunner(opened), None
    names = {name for recipe in recipes for name in recipe.possible_features}
    needed = {without_view(FeatureName.parse(name).encoder) for name in names}
    onnx = [text.rpartition("=")[0] for text in weights if text.startswith("onnx:")]
    files = weights_by_encoder([*needed, *onnx], weights)
    files |= {encoder: file for encoder, file in map(named, encoders) if file}
    for encoder in filter(own_code.is_own, needed if trust else ()):
        say(f"trusted: {own_code.file_of(encoder)} ({own_code.read(encoder).identity})")
        encoders = [*encoders, encoder]
    provider = Provider(data or "input", opened, files, warn_of_failures, encoders, **options)
    return RecipeRunner(opened, data or "input", provider), provider


@verb("list")
@recipe_options
@json_option
def recipe_list(sources: dict[str, Any], as_json: bool) -> None:
    """List the recipes, and which can run with the available features and weights.

    \b
    Example:
      encode-once recipe list --weights glove-100=glove.6B.100d.txt
    """
    from encode_once.classify.experiments.recipes import all_recipes
    from encode_once.classify.experiments.recipes.tables import listed_cells

    recipes = all_recipes()
    runner, _ = _recipe_runner(recipes, **sources)
    rows = [runner.listed(recipe) for recipe in recipes]
    print_result(rows, as_json, lambda: table_text(list(map(listed_cells, rows))))
    say_next("recipe", "run", next((row["recipe"] for row in rows if row["runs"]), "tfidf-linear"))


@verb("run")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@recipe_options
@input_options
@device_option
@click.option("--split", metavar="SPEC", help="Use these eval rows instead of those of the reports.")
@click.option("--runs", default="runs/recipes", show_default=True, type=click.Path(path_type=Path),
              help="Folder of the runs.")  # fmt: skip
@click.option("--refit", is_flag=True, help="Fit existing runs again.")
@click.option("--md", is_flag=True, help="Print the table as Markdown.")
@results_option
@results_table_option
@click.option("--trust", is_flag=True, help="Run the code that your own file names, as FILE.py:NAME.")
@json_option
def recipe_run(
    names: Sequence[str],
    sources: dict[str, Any],
    read: "ReadOptions",
    device: str,
    split: str | None,
    runs: Path,
    refit: bool,
    md: bool,
    results: Path | None,
    results_table: str | None,
    trust: bool,
    as_json: bool,
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
    from encode_once.classify.experiments.recipes.tables import run_cells
    from encode_once.classify.systems.results import check, recipe_rows, save

    check(results, results_table)
    recipes = find(names, trust=trust, log=say)
    runner, provider = _recipe_runner(recipes, **sources, trust=trust, device=device, read=read)
    if provider:
        warn(provider.read().warnings)
    ready = runner.prepare(recipes, lambda features: say(f"encoding {', '.join(features)}"))
    rows = runner.run(ready, runs, split, refit=refit, log=say)
    print_result(rows, as_json, lambda: (markdown_text if md else table_text)(list(map(run_cells, rows))))
    if results:
        save(results, [*recipe_rows(results_table or runs.resolve().name, rows)])
    if lines := failed(names, recipes, rows):
        raise click.ClickException(printable("\n".join(lines)))
    say_next("recipe", "show", names[0] if names[0] != "all" else recipes[0].name)
