"""Command-line options, parameter types and output that the commands of all rooms share."""

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from encode_once.cache.errors import EncodeOnceError, MissingDataError, UsageError
from encode_once.cache.terminal import one_line, printable

if TYPE_CHECKING:
    from encode_once.cache.store import Store

REPORTED = (EncodeOnceError, OSError, MemoryError)  # errors that the command line prints as one line
INTERRUPTED = 130  # exit status after Ctrl-C, by the shells' convention

LESS_MEMORY = "use fewer rows, features or classes, a smaller --batch-size or fewer --workers"

Command = Callable[..., Any]


class Verbs(click.Group):
    """A group whose errors are one line, with exit status 1, or 2 for a name that does not exist."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn this project's errors, and the system's, into click's."""
        try:
            return super().invoke(ctx)
        except UsageError as error:
            raise click.UsageError(one_line(str(error)), ctx) from error
        except MemoryError as error:
            detail = f" ({one_line(str(error))})" if str(error) else ""
            raise click.ClickException(f"out of memory{detail}; {LESS_MEMORY}") from error
        except (EncodeOnceError, OSError) as error:
            raise click.ClickException(one_line(str(error))) from error
        except KeyboardInterrupt:
            say("interrupted; stored rows are kept: run the same command to continue")
            ctx.exit(INTERRUPTED)


def say(message: str) -> None:
    """Print a message of one line on stderr."""
    click.echo(one_line(message), err=True)


def warn(messages: Sequence[str]) -> None:
    """Print warnings on stderr."""
    for message in messages:
        say(f"warning: {message}")


def print_result(content: Any, as_json: bool, text: Callable[[], str]) -> None:
    """Print a command's result on stdout, as JSON or as text."""
    click.echo(json.dumps(content, indent=1) if as_json else printable(text()))


def existing_store(path: str) -> "Store":
    """The store in a folder.

    Raises:
        MissingDataError: the folder is not a store.
    """
    from encode_once.cache.store import Store

    store = Store(path)
    if not store.exists:
        raise MissingDataError(f"{path} is not a store: run extract first")
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

        params: list[click.Parameter] = []
        for option in options:
            probe = option(lambda: None)
            params += probe.__click_params__  # type: ignore[attr-defined]
        keys = [param.name for param in params]
        collect.__click_params__ = [*getattr(command, "__click_params__", []), *reversed(params)]  # type: ignore[attr-defined]
        return collect

    return decorate


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
    "--data", default="input", show_default=True, help="Folder with train.csv and images, or another input."
)
store_option = click.option(
    "--store", default="store", show_default=True, help="Folder of the feature store."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, …")
output_option = functools.partial(
    click.option, "-o", "--output", show_default=True, type=click.Path(path_type=Path)
)
excel_option = click.option(
    "--excel-safe", is_flag=True, help="Put ' before cells of CSV files that begin with = + - @."
)
