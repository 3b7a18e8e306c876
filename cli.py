"""The command line: the commands of the rooms, and those whose pages join rooms.

Results go to files and stdout, everything else to stderr.
"""

import logging
import os
import shlex
import sys
from collections.abc import Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if __name__ in ("__main__", "__mp_main__"):
    # `python cli.py`, and the processes of its --jobs: the package is the folder of this file, even if
    # another version is installed; and its rooms are not top-level modules.
    _FOLDER = Path(__file__).resolve().parent
    sys.path[:] = [path for path in sys.path if Path(path).resolve() != _FOLDER]
    _SPEC = spec_from_file_location("encode_once", _FOLDER / "__init__.py")
    assert _SPEC is not None
    assert _SPEC.loader is not None
    sys.modules["encode_once"] = module_from_spec(_SPEC)
    _SPEC.loader.exec_module(sys.modules["encode_once"])

from encode_once.cache import EncodeOnceError, settings
from encode_once.cache.command_line import running
from encode_once.cache.commands import store
from encode_once.cache.options import (
    RunFolder,
    Verbs,
    device_option,
    excel_option,
    json_option,
    output_option,
    print_json,
    print_result,
    program,
    refuse,
    say,
    say_next,
    store_words,
    warn,
)
from encode_once.cache.process import allow_many_open_files, keep_freed_memory
from encode_once.cache.terminal import one_line, short_list, short_path
from encode_once.cache.text_table import table_text
from encode_once.classify import commands as classify
from encode_once.classify.bench import commands as benchmarks
from encode_once.classify.experiments import commands as experiments
from encode_once.classify.options import ignore_option
from encode_once.classify.systems import commands as systems
from encode_once.deploy import commands as deploy
from encode_once.deploy.bench import commands as joint_benchmarks
from encode_once.extract import commands as extract
from encode_once.extract.imports.commands import import_vectors
from encode_once.extract.options import column_words, mark_words

if TYPE_CHECKING:
    from encode_once.cache import Table
    from encode_once.classify.audit.findings import Finding
    from encode_once.classify.report.checks import Evidence
    from encode_once.classify.report.summary import Summary
    from encode_once.classify.runs.run import Run


WORDS = "encode_once.words"  # of the command line, in click's context


class Program(Verbs):
    """The group of all commands, which prints its errors while messages are still written as asked for."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words; runs record them as they were typed."""
        ctx.meta[WORDS] = [*args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; with --log-format json, errors are lines of JSON, too."""
        try:
            with running(f"{program()} {shlex.join(ctx.meta[WORDS])}"):
                return super().invoke(ctx)
        except click.ClickException as error:
            if ctx.params["log_format"] != "json":
                raise
            error.show()
            ctx.exit(error.exit_code)


def _use_settings(context: click.Context, option: click.Parameter, path: Path | None) -> None:
    """Take the defaults of all options from a file, which is read before anything else."""
    is_found = path is None
    path = path or Path(settings.FILE)
    if context.resilient_parsing or (is_found and not path.is_file()):
        return
    try:
        context.default_map = settings.default_map(main, path, trusted=not is_found)
    except EncodeOnceError as error:
        raise settings.SettingsError(one_line(str(error))) from error
    context.meta[settings.FILE] = path
    context.meta[settings.IS_NAMED] = not is_found


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="encode-once")
@click.option("--settings", type=click.Path(path_type=Path), metavar="FILE", envvar="ENCODE_ONCE_SETTINGS",
              is_eager=True, expose_value=False, callback=_use_settings,
              help="File of settings. [default: encode-once.toml in this folder, if any]")  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Print results, warnings and errors only.")
@click.option("--log-format", type=click.Choice(["plain", "json"]), default="plain", show_default=True,
              help="Messages on stderr: lines of text, or of JSON with time, level and message.")  # fmt: skip
@click.pass_context
def main(context: click.Context, quiet: bool, log_format: str) -> None:
    """Encode images and captions once; fit, tune and compare multi-label classifiers in seconds."""
    if log_format == "json":
        from encode_once.cache.log_lines import json_messages

        context.with_resource(json_messages())
    if quiet:
        from encode_once.cache.progress import hidden_bars

        context.with_resource(hidden_bars())
    warn(settings.unknown_variables(main))


@main.group(cls=Verbs)
def recipe() -> None:
    """Complete systems by name: those of five reports and our own, with the reported figures."""


@main.group(cls=Verbs)
def experiment() -> None:
    """Many runs by a file, and their table."""


@main.group("runs", cls=Verbs)
def run_group() -> None:
    """Runs, and the aliases that name them."""


@main.group(cls=Verbs)
def bench() -> None:
    """Benchmark this machine against a reference in the same run."""


main.add_command(store)
store.add_command(import_vectors)
experiment.add_command(experiments.experiment_run)
for verb in (*extract.verbs, *classify.verbs, *experiments.verbs, *systems.verbs, *deploy.verbs):
    main.add_command(verb)
for verb in (experiments.recipe_show, *deploy.of_recipes):
    recipe.add_command(verb)
for verb in deploy.of_stores:
    store.add_command(verb)
for verb in deploy.of_runs:
    run_group.add_command(verb)
for benchmark in (*extract.benches, *benchmarks.benches, *joint_benchmarks.benches):
    bench.add_command(benchmark)


@main.command("settings")
@json_option
@click.pass_context
def show_settings(context: click.Context, as_json: bool) -> None:
    """List the options that encode-once.toml or the environment sets, and where each comes from.

    --json prints [{"option", "source", "commands": [name]}].

    \b
    Example:
      encode-once settings
    """
    rows = settings.listed(context.find_root())
    shown = [{**row, "commands": short_list(row["commands"])} for row in rows]
    none = f"no {settings.FILE} and no variable of the environment sets an option"
    print_result(rows, as_json, lambda: table_text(shown) if shown else none)
    say_next("extract", "--help")


GALLERY = 200  # rows of a page's gallery

gallery_option = click.option(
    "--gallery", default=GALLERY, show_default=True, type=click.IntRange(0),
    help="Maximum number of rows with images and captions in the page, for each run.",
)  # fmt: skip


@main.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=RunFolder())
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE",
              help="Also write a page with sliders, charts and a gallery, as report.html.")  # fmt: skip
@gallery_option
@ignore_option
@json_option
def report(
    runs: Sequence[str], output: Path | None, gallery: int, ignore: Sequence[str], as_json: bool
) -> None:
    """Show what runs reach, by which decision rule, and what to know before trusting them.

    The page needs no network. It holds scores, captions and small copies of images: share it as you would
    share them.

    \b
    Examples:
      encode-once report runs/*
      encode-once report runs/mlp -o report.html
    """
    from encode_once.classify import load_run
    from encode_once.classify.report.checks import Evidence
    from encode_once.classify.report.summary import summarise, text

    if not output:
        refuse(gallery_option, why="for the page that -o FILE writes")
    folders = [path for path in runs if Path(path).is_dir() and not (Path(path) / "run.json").exists()]
    if len(folders) < len(runs):  # runs/* also matches the folders of sweeps and recipes
        warn([f"{folder} is not a run: left out" for folder in folders])
        runs = [path for path in runs if path not in folders]
    evidences = [Evidence.of(load_run(path)) for path in dict.fromkeys(runs)]
    for run in (evidence.run for evidence in evidences):
        warn([f"{run.path}: {line}" for line in run.record.warnings])
    summary, evidences = summarise(evidences, ignore, vectors=output is not None)
    warn(summary["notes"])
    print_result(summary, as_json, lambda: text(summary))
    if output:
        _write_page(output, summary, evidences, gallery)
    say_next("evaluate", *runs)


@main.command(
    "fit",
    help=classify.fit.help,
    params=[
        *classify.fit.params,
        click.Option(["--report", "page"], is_flag=True, help="Also write the page RUN/report.html."),
    ],
)
def fit_and_report(page: bool, **options: Any) -> None:
    """Read the data if stage 1 has no more to do; fit; write the page, whose images stage 1 reads."""
    assert classify.fit.callback is not None
    _read_tables(options["store"], options["data"], options["features"])
    evidence = classify.fit.callback(**options)
    path = evidence.run.path
    if page:
        from encode_once.classify.report.summary import summarise
        from encode_once.classify.runs.run import PAGE

        summary, evidences = summarise([evidence], options["ignore"])
        warn(summary["notes"])
        _write_page(path / PAGE, summary, evidences)
    say_next(*(["evaluate", str(path)] if page else ["report", str(path), "-o", "report.html"]))


def _read_tables(store: str, data: str | None, features: Sequence[str]) -> None:
    """Save the tables of data that the store does not know, if no feature needs an encoder."""
    from encode_once.classify.data.learned import is_learned, make_vectoriser

    if not features or not all(map(is_learned, features)):
        return
    from encode_once.cache import Store
    from encode_once.classify.data.tables import read_from
    from encode_once.extract.provider import Provider

    for name in features:
        make_vectoriser(name)  # raises for a wrong size before anything is read
    opened = Store(store)
    headers = opened.headers()
    source = data or "input"
    is_new = not read_from(data, headers) if data else not headers
    if not is_new or not Path(source).exists():
        return
    report = Provider(source, opened, {}).read()
    warn(report.warnings)
    say(f"{source}: {report.samples} rows are now in {store}, which did not know them; nothing is encoded")


def _write_page(
    output: Path, summary: "Summary", evidences: Sequence["Evidence"], limit: int = GALLERY
) -> None:
    """Write the page of a summary, with a gallery of at most `limit` rows of each run."""
    from encode_once.classify.pages.render import write
    from encode_once.classify.report.gallery import gallery
    from encode_once.classify.report.page import page
    from encode_once.extract.images.thumbnail import thumbnail

    galleries = []
    for evidence in evidences:
        rows, warnings = gallery(evidence, thumbnail, limit)
        warn(warnings)
        galleries.append(rows)
    write(page(summary, [evidence.evaluation for evidence in evidences], galleries), output)
    _say_page(output)


def _say_page(path: Path) -> None:
    say(f"{path}: {path.stat().st_size / 1e6:.1f} MB; open it in a browser")


thumbnails_option = click.option(
    "--thumbnails", default=400, show_default=True, type=click.IntRange(0),
    help="Maximum number of images in the page.",
)  # fmt: skip


@main.command()
@click.argument("run", type=RunFolder())
@output_option(default="audit.csv")
@click.option("--near", default=0.95, show_default=True, type=click.FloatRange(0, 1, min_open=True),
              help="Minimum cosine of the image vectors of near-duplicates.")  # fmt: skip
@thumbnails_option
@excel_option
@device_option
@json_option
def audit(
    run: str, output: Path, near: float, thumbnails: int, excel_safe: bool, device: str, as_json: bool
) -> None:
    """Find likely errors in a run's data and write them to a CSV file, the most certain first.

    Reported are eval rows with duplicates among the train rows or in other tables of the store; duplicates
    with different labels; labels that cleanlab doubts, from out-of-fold scores (extra `audit`; all rows with
    --split kfold:5); and classes too rare for tuning a threshold.

    -o FILE.html also writes a page, next to FILE.csv, on which you decide each finding. It exports your
    decisions as corrections.csv, for extract --corrections. The page holds captions, ids, labels and small
    copies of images: share it as you would share them.

    \b
    Examples:
      encode-once fit --head linear --split kfold:5 --run runs/checked
      encode-once audit runs/checked -o audit.html
    """
    from encode_once.classify import load_run
    from encode_once.classify.audit.audit import audit as find
    from encode_once.classify.audit.findings import expectation, summary, write

    with_page = output.suffix.lower() in (".html", ".htm")
    if not with_page:
        refuse(thumbnails_option, why="for the page that -o FILE.html writes")
    loaded = load_run(run)
    findings, warnings, own_table = find(loaded, near, device)
    warn(warnings)
    table = output.with_suffix(".csv") if with_page else output
    write(findings, table, excel_safe=excel_safe)
    for line in (f"{table}: {summary(findings)}", expectation(findings)):
        if line:
            say(line)
    if with_page:
        _write_audit_page(output, loaded, own_table, findings, warnings, thumbnails)
    if as_json:
        print_json([finding.cells for finding in findings])
    if with_page:
        record = loaded.record
        data = [] if Path(record.table).is_relative_to(Path("input").resolve()) else ["--data", "DATA"]
        marks = mark_words(record.unknown_marks, record.uncertain)
        words = [*data, *column_words(record.columns_to_read), *marks, *store_words(short_path(record.store))]
        say_next("extract", *words, "--corrections", "corrections.csv")
    else:
        say_next("audit", run, "-o", "audit.html")


def _write_audit_page(
    output: Path,
    run: "Run",
    own_table: "Table",
    findings: Sequence["Finding"],
    notes: Sequence[str],
    thumbnails: int,
) -> None:
    """Write the page of findings, with the decisions that the run's table was extracted with."""
    from encode_once.cache.errors import collected
    from encode_once.classify.audit.page import Decision, corrections_files, page
    from encode_once.classify.pages.render import write
    from encode_once.classify.runs.predict import fitted_store
    from encode_once.extract.images.thumbnail import thumbnail
    from encode_once.extract.readers.corrections import read_corrections

    decided, errors = list[Decision](), list[str]()
    for path in corrections_files(fitted_store(run), own_table):
        with collected(errors):
            decided += [Decision(*correction[1:]) for correction in read_corrections(path)]
    lost = [f"the page does not have the decisions of an earlier audit: {error}" for error in errors]
    text, warnings = page(run, findings, thumbnail, decided, [*notes, *lost], thumbnails)
    warn([*lost, *warnings])
    write(text, output)
    _say_page(output)


settings.name_variables(main)


def own_process() -> None:
    """Change process-wide settings, before torch is imported. Only for a process that runs nothing else."""
    # OpenMP threads spin for milliseconds before they sleep, which blocks the others if another process uses
    # the cores: `fit --head linear` took 17 s on two cores, 5 s with this.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    logging.disable()  # libraries log at length what our own lines say
    keep_freed_memory()
    allow_many_open_files()


def start() -> None:
    """Run the command line as a process. `main` alone does not change the calling process."""
    own_process()
    main()


if __name__ == "__main__":
    start()
