"""Command-line options, parameter types and output that the commands of all rooms share."""

import functools
import json
import os
import shlex
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from encode_once.cache.errors import EncodeOnceError, UsageError
from encode_once.cache.settings import blamed, sources
from encode_once.cache.terminal import one_line, printable

if TYPE_CHECKING:
    from encode_once.cache.store import Store

REPORTED = (EncodeOnceError, OSError, MemoryError)  # errors that the command line prints as one line
MAX_SUMMARY = 1000  # characters, more than any summary has
INTERRUPTED = 130  # exit status after Ctrl-C, by the shells' convention

LESS_MEMORY = "use fewer rows, features or classes, a smaller --batch-size or fewer --workers"

DEFAULT_STORE = "store"

Command = Callable[..., Any]


class WholeSummary(click.Command):
    """A command whose summary in its group's --help, the first sentence, may take two lines."""

    def get_short_help_str(self, limit: int = 0) -> str:
        """The summary, uncut."""
        return super().get_short_help_str(MAX_SUMMARY)


class Verb(WholeSummary):
    """A command whose wrong usage is reported with its own usage line, rather than that of its group."""

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """Parse the command; an error about a setting names the file or variable that it comes from."""
        try:
            return super().make_context(*args, **options)
        except click.UsageError as error:
            raise blamed(error) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn this project's errors of usage into click's."""
        for setting, origin in sources(ctx):
            say(f"{setting} (from {origin})")
        try:
            return super().invoke(ctx)
        except UsageError as error:
            raise click.UsageError(one_line(str(error)), ctx) from error


verb = functools.partial(click.command, cls=Verb)


class Verbs(WholeSummary, click.Group):
    """A group whose errors are one line, with exit status 1, or 2 for a name that does not exist."""

    command_class = Verb

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn this project's errors, and the system's, into click's."""
        try:
            return super().invoke(ctx)
        except ImportError as error:
            raise click.ClickException(f"{one_line(str(error))}: run doctor") from error
        except MemoryError as error:
            detail = f" ({one_line(str(error))})" if str(error) else ""
            raise click.ClickException(f"out of memory{detail}; {LESS_MEMORY}") from error
        except (EncodeOnceError, OSError) as error:
            raise click.ClickException(one_line(str(error))) from error
        except KeyboardInterrupt:
            alert("interrupted: run the same command again")
            ctx.exit(INTERRUPTED)


def is_quiet() -> bool:
    """Whether the command line was called with --quiet."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.find_root().params.get("quiet"))


def say(message: str) -> None:
    """Print a message of one line on stderr, unless --quiet."""
    if not is_quiet():
        alert(message)


def alert(message: str) -> None:
    """Print a message of one line on stderr, about something that went wrong."""
    click.echo(one_line(message), err=True)


def warn(messages: Sequence[str]) -> None:
    """Print warnings on stderr."""
    for message in messages:
        alert(f"warning: {message}")


def say_next(*words: str) -> None:
    """Print the command that is useful next."""
    say(f"next: {program()} {shlex.join(words)}")


def passed_words(without: Collection[str], named: Collection[str] = ()) -> list[str]:
    """The options of this command as the user passed them, as words of the same command.

    without: parameters that are left out. named: those that are there also if they have their defaults.
    """
    context = click.get_current_context()
    words = []
    for param in context.command.params:
        name, option = str(param.name), param.opts[0]
        is_passed = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if name in without or not (is_passed or name in named):
            continue
        values = context.params[name] if param.multiple else [context.params[name]]
        for value in values:
            words += [option] if getattr(param, "is_flag", False) else [option, str(value)]
    return words


def program() -> str:
    """How the user calls this program: `encode-once`, `python cli.py` or `python -m encode_once.cli`."""
    context = click.get_current_context(silent=True)
    name = (context.find_root().info_name if context else None) or ""
    if name.startswith("python -m "):
        return name
    if not name.endswith(".py"):
        return "encode-once"
    path = sys.argv[0] if Path(sys.argv[0]).name == name else name  # click keeps the last component
    return f"python {shlex.quote(path)}"


def store_words(store: str) -> list[str]:
    """The option that names a store, unless it is the default one."""
    return [] if store == DEFAULT_STORE else ["--store", store]


def print_result(content: Any, as_json: bool, text: Callable[[], str]) -> None:
    """Print a command's result on stdout, as JSON or as text."""
    if as_json:
        print_json(content)
    else:
        click.echo(printable(text()))


def print_json(content: Any, indent: int | None = 1) -> None:
    """Print a result as JSON on stdout; numbers that JSON lacks, NaN and infinity, are null."""
    valid = json.loads(json.dumps(content), parse_constant=lambda constant: None)
    click.echo(json.dumps(valid, indent=indent))


def existing_store(path: str) -> "Store":
    """The store in a folder.

    Raises:
        MissingDataError: the folder is not a store.
    """
    from encode_once.cache.store import Store

    store = Store(path)
    store.check_exists()
    return store


def grouped(
    name: str, build: Callable[..., Any], *options: Callable[[Command], Command]
) -> Callable[[Command], Command]:
    """Options whose values a command receives as one argument `name`, which `build` makes of them."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def collect(**values: Any) -> Any:
            group = {key: values.pop(key) for key in keys}
            return command(**values, **{name: build(**group)})

        params = [param for option in options for param in _params(option)]
        keys = [param.name for param in params]
        collect.__click_params__ = [*getattr(command, "__click_params__", []), *reversed(params)]  # type: ignore[attr-defined]
        return collect

    return decorate


def _params(option: Callable[[Command], Command]) -> list[click.Parameter]:
    """The parameters that a decorator adds to a command."""
    return option(lambda: None).__click_params__  # type: ignore[attr-defined, no-any-return]


def refuse(*options: Callable[[Command], Command], why: str) -> None:
    """Refuse options that would have no effect; of those that a file or the environment sets, say so.

    Raises:
        UsageError: the user passed some of them.
    """
    context = click.get_current_context()
    names: dict[ParameterSource | None, list[str]] = {}
    for param in chain.from_iterable(map(_params, options)):
        names.setdefault(context.get_parameter_source(param.name or ""), []).append(param.opts[0])
    if passed := names.get(ParameterSource.COMMANDLINE):
        raise UsageError(f"{', '.join(passed)}: {why}")
    for source in (ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT_MAP):
        if set_elsewhere := names.get(source):
            say(f"{', '.join(set_elsewhere)} has no effect here: {why}")


def completions(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """The names that begin like what was typed, for the shell."""
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class StoredFeatureName(click.ParamType):  # type: ignore[type-arg]  # generic in new versions only
    """The name of a feature; the shell completes those of the store."""

    name = "NAME"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The features that have a spec; the store is not opened, which takes longer."""
        folder = Path(ctx.params.get("store") or DEFAULT_STORE) / "features"
        names = (path.parent.relative_to(folder).as_posix() for path in folder.rglob("spec.json"))
        return completions(sorted(names), incomplete)


features_argument = click.argument("features", nargs=-1, metavar="[FEATURE]...", type=StoredFeatureName())


class TableName(click.ParamType):  # type: ignore[type-arg]
    """The name of a table of the store, as `store list` prints it; the shell completes it."""

    name = "TABLE"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The tables' files."""
        folder = Path(ctx.params.get("store") or DEFAULT_STORE) / "tables"
        return completions(sorted(path.stem for path in folder.glob("*.h5")), incomplete)


class ServedRun(click.Path):
    """The folder of a run, or FOLDER@ALIAS as it was typed; the shell completes both."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Folders with a `run.json`, down to two levels; other folders if there is none."""
        folder = Path(incomplete.rpartition("/")[0] or "runs")
        files = [*folder.glob("*/run.json"), *folder.glob("*/*/run.json")]
        runs = completions(sorted(str(file.parent) for file in files), incomplete)
        runs += completions(_with_aliases(incomplete), incomplete)
        return runs or [CompletionItem(incomplete, type="dir")]


def _with_aliases(incomplete: str) -> list[str]:
    """FOLDER@ALIAS for the aliases of `runs`, of its folders, and of the folder that was typed."""
    from encode_once.cache.aliases import FILE, read_aliases

    folder = Path(incomplete.rpartition("/")[0] or ".")
    files = [*folder.glob(f"*/{FILE}"), *folder.glob(f"*/*/{FILE}")]
    names = []
    for file in files:
        with suppress(EncodeOnceError, OSError):
            names += [f"{file.parent}@{alias}" for alias in read_aliases(file.parent).aliases]
    return sorted(names)


class RunFolder(ServedRun):
    """The same as the folder of the run that is named when the command starts; FOLDER means its champion.

    folders: FOLDER means all runs in it.
    """

    def __init__(self, *, folders: bool = False) -> None:
        super().__init__()
        self.folders = folders

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Look up what an alias names."""
        from encode_once.cache.aliases import resolved

        text = os.fsdecode(super().convert(value, param, ctx))
        try:
            return text if self.folders and Path(text).is_dir() else str(resolved(text))
        except UsageError as error:
            self.fail(str(error), param, ctx)


class Setting(click.ParamType):  # type: ignore[type-arg]  # generic in new versions only
    """`NAME=VALUE` → (name, value); the value is read as JSON if it is valid JSON."""

    name = "NAME=VALUE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        """Split the text at its first `=`."""
        name, equals, text = value.partition("=")
        if not equals:
            self.fail(f"{value}: expected {self.name}", param, ctx)
        return name, json_or_text(text)


def json_or_text(text: str) -> Any:
    """The value of a JSON text; other text as it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text


data_option = click.option(
    "--data",
    default="input",
    show_default=True,
    help="Folder with train.csv and images, another input, or a URL.",
)
store_option = click.option(
    "--store", default=DEFAULT_STORE, show_default=True, help="Folder of the feature store."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, …")
output_option = functools.partial(
    click.option, "-o", "--output", show_default=True, type=click.Path(path_type=Path)
)
excel_option = click.option(
    "--excel-safe", is_flag=True, help="Put ' before cells of CSV files that begin with = + - @."
)
