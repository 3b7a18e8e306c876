"""Settings of the command line in a file and in the environment: defaults of its options.

`encode-once.toml` has a table for each command, as `[fit]` or `[store.verify]`, with the names of its
options, and a table `[all]` for options that mean the same in all commands. Variables are called
`ENCODE_ONCE_`, the command and the option, as `ENCODE_ONCE_FIT_SEED`. click takes the first of command line,
environment, file and default: it reads the variables by the `envvar` of each option, which is named after the
option rather than after the parameter, and the file by the `default_map` of its context.

A file that is found in the working folder may be a stranger's, as part of data: it may set only options that
are listed here, not lead out of the folder, and not name code or models. A file that the user names may have
every option.
"""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from encode_once.cache.errors import DataError, MissingDataError, UsageError, brief, unknown_name
from encode_once.cache.input_files import IMAGE_MB, TEXT_MB, read_regular

FILE = "encode-once.toml"
PREFIX = "ENCODE_ONCE"
ALL = "all"
# Options that mean the same in all commands, where they have this default.
SHARED = {"store": "store", "device": "auto", "backend": "auto", "excel-safe": False}
NOT_SETTINGS = ("help", "version", "settings")
# What a file found in the working folder may set: options with these texts, and all numbers, choices and
# flags but TRUST. A new option with a text is refused until it is listed; check first that `_refused_for`
# sees every path in its value.
FOUND = frozenset(
    "absent absent-file as by calibrate caption caption-column captions classes corrections data "
    "decide device differences encoder features folder from groups head heads hierarchy html "
    "id-column ids ignore image-column images label-column label-columns label-separator label-set "
    "labels metric objective output peers run runs scale scores set sets shard split store table task "
    "to tune tune-on unknown unknown-column validation vector-column view".split()
)
TRUST = "trust"
IS_NAMED = f"{FILE}: the user named it"  # the key of a context's `meta`
MOST_PARTS = 100  # of a text whose paths are looked for
OTHER_VARIABLES = (
    IMAGE_MB[0],
    TEXT_MB[0],
    f"{PREFIX}_SETTINGS",
    f"{PREFIX}_REMOTE_TIMEOUT",
    f"{PREFIX}_STORE_CACHE",
    f"{PREFIX}_STORE_CACHE_GB",
    f"{PREFIX}_UPLOAD_SECONDS",
)

Path_ = tuple[str, ...]


def commands(group: click.Command, path: Path_ = ()) -> Iterator[tuple[Path_, click.Command]]:
    """The names that lead to each command, and the command; the group itself first. None has an old name."""
    yield path, group
    for name, command in group.commands.items() if isinstance(group, click.Group) else ():
        if not (command.hidden or command.deprecated):
            yield from commands(command, (*path, name))


def options(command: click.Command) -> dict[str, click.Option]:
    """The options of a command by their long names, as `label-column`."""
    return {
        name: param
        for param in command.params
        if isinstance(param, click.Option)
        for name in _names(param)
        if name not in NOT_SETTINGS
    }


def name_variables(program: click.Group) -> None:
    """Let click read each option from its variable, or from the one that all commands share."""
    for path, command in commands(program):
        for name, option in options(command).items():
            variables = [_variable(*path, name)]
            if _is_shared(name, option):
                variables.append(_variable(name))
            option.envvar = [*(option.envvar or ()), *variables]


def _variable(*names: str) -> str:
    return "_".join([PREFIX, *names]).upper().replace("-", "_")


def _is_shared(name: str, option: click.Option) -> bool:
    return name in SHARED and option.default == SHARED[name]


def unknown_variables(program: click.Group) -> list[str]:
    """A warning for each variable of the environment that looks like a setting and is none."""
    own = [name for name in os.environ if name.startswith(f"{PREFIX}_")]
    if not own:
        return []
    names = [*OTHER_VARIABLES]
    for _, command in commands(program):
        for option in options(command).values():
            names += option.envvar or ()
    unknown = sorted({*own} - {*names})
    return [f"{unknown_name('variable', name, names)}; it is ignored" for name in unknown]


def default_map(program: click.Group, path: Path, *, trusted: bool) -> dict[str, Any]:
    """The content of a file of settings, as click takes it.

    Args:
        trusted: the user named it, rather than that it was found in the working folder.

    Raises:
        EncodeOnceError: the file cannot be read, or has a name or a value that is not allowed.
    """
    content = _read(path)
    shared = content.pop(ALL, {})
    if not isinstance(shared, dict):
        raise DataError(f"{path}: {ALL} is a table of options, [{ALL}]")
    of_program = {name: option for name, option in options(program).items() if name in shared}
    for name in shared:
        if name not in (*SHARED, *of_program):
            raise UsageError(
                f"{path}: {unknown_name(f'option in [{ALL}]', name, [*SHARED, *options(program)])}"
            )
    _check(path, (ALL,), shared, of_program, trusted)
    tree = _of_command(path, (), program, content, shared, trusted)
    return tree | {option.name or "": shared[name] for name, option in of_program.items()}


def _of_command(
    file: Path,
    path: Path_,
    command: click.Command,
    content: Mapping[str, Any],
    shared: Mapping[str, Any],
    trusted: bool,
) -> dict[str, Any]:
    """The defaults of a command by the names of its parameters, or those of the commands of a group."""
    table = f"[{'.'.join(path)}]"
    if not isinstance(content, dict):
        raise DataError(f"{file}: {'.'.join(path)} is a table of options, {table}")
    if isinstance(command, click.Group):
        for name in content:
            if name not in command.commands:
                kind = f"command in {table}" if path else "command or table"
                names = [*command.commands, *(() if path else (ALL,))]
                raise UsageError(f"{file}: {unknown_name(kind, name, names)}")
        return {
            name: _of_command(file, (*path, name), member, content.get(name, {}), shared, trusted)
            for name, member in command.commands.items()
        }
    named = options(command)
    for name in content:
        if name not in named:
            raise UsageError(f"{file}: {unknown_name(f'option in {table}', name, named)}")
    _check(file, path, content, named, trusted)
    values = {
        name: shared[name] for name, option in named.items() if name in shared and _is_shared(name, option)
    }
    return {
        named[name].name or "": _as_list(named[name], value) for name, value in (values | content).items()
    }


def _as_list(option: click.Option, value: Any) -> Any:
    """One value of an option that may be repeated is a list of one."""
    return [value] if option.multiple and not isinstance(value, list) else value


def _check(
    file: Path, path: Path_, content: Mapping[str, Any], named: Mapping[str, click.Option], trusted: bool
) -> None:
    """Refuse values that are no values of options, and those that a found file may not have.

    named: options by name; of a table [all], those that only the program itself has.
    """
    for name, value in content.items():
        values = value if isinstance(value, list) else [value]
        table = ".".join(path)
        if not all(isinstance(item, str | int | float | bool) for item in values):
            raise DataError(f"{file}: {name} in [{table}] is a text, a number, true, false or a list")
        if trusted:
            continue
        setting, remedy = f"{file}: {name} in [{table}]", f"use the option, or --settings {file}"
        if not (name in FOUND or name in SHARED or (name in named and _is_harmless(name, named[name]))):
            raise UsageError(f"{setting} may not be set by a file that is only found: {remedy}")
        for item in map(str, values):
            if reason := _refused_for(name, item):
                raise UsageError(
                    f"{setting}: {brief(repr(item))} {reason}, which a file that is only found may not: "
                    f"{remedy}"
                )


def _is_harmless(name: str, option: click.Option) -> bool:
    """Whether an option trusts nobody, and no value of it is a text of any content."""
    numbers = click.types.IntParamType | click.types.FloatParamType | click.types.BoolParamType
    return name != TRUST and (option.is_flag or isinstance(option.type, numbers | click.Choice))


def _refused_for(name: str, text: str) -> str:
    """What a value of a found file does that it may not do; "" if nothing.

    It may not have a backslash, as JSON, which some values are, could spell any character by it.
    """
    if re.search(r"\.py\b|\b(onnx|transformers|captioner|local-dir):", text):
        return "names code or a model"
    if name == "encoder" and ":" in text:
        return "names a model that a hub may hold"
    if "://" in text:
        return "names a URL"
    if "\\" in text:
        return "has a backslash"
    edges = [match.span() for match in re.finditer(r"[^=:,;\[\]{}\"'\s]+", text)]
    if len(edges) > MOST_PARTS:
        return f"has more than {MOST_PARTS} parts"
    # A link may have such a character in its name: the text is a path from any part to any other.
    paths = {text} | {text[start:end] for i, (start, _) in enumerate(edges) for _, end in edges[i:]}
    return "leads out of this folder" if any(map(_leads_out, paths)) else ""


def _leads_out(path: str) -> bool:
    """Whether a path is not below the working folder."""
    try:
        return path[:1] == "~" or not Path(path).resolve().is_relative_to(Path.cwd().resolve())
    except (OSError, RuntimeError, ValueError):  # a link to itself, a name that is too long, or a character 0
        return True


def is_of_found_file(context: click.Context | None, option: click.Parameter | None) -> bool:
    """Whether the value of an option comes from a file that the user has not named."""
    if context is None or option is None:
        return False
    source = context.get_parameter_source(option.name or "")
    return source is ParameterSource.DEFAULT_MAP and not context.find_root().meta.get(IS_NAMED)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_regular(path, TEXT_MB).decode("utf-8"))
    except FileNotFoundError as error:
        raise MissingDataError(f"{path}: there is no such file of settings") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not a TOML file ({str(error) or 'it is nested too deeply'})") from error


class SettingsError(click.ClickException):
    """A file of settings that cannot be used."""

    exit_code = 2


def sources(context: click.Context) -> Iterator[tuple[str, str]]:
    """`--option value` of each option that a file or the environment sets, and the file or variable."""
    for option in dict.fromkeys(options(context.command).values()):
        value, source = option.consume_value(context, {})
        is_passed = context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        if not is_passed and (origin := _origin(context, option, source)):
            yield f"--{_names(option)[0]} {_text(value)}".rstrip(), origin


def _names(option: click.Option) -> list[str]:
    """The long names of an option."""
    return [text.removeprefix("--") for text in option.opts if text.startswith("--")]


def _origin(context: click.Context, option: click.Option, source: ParameterSource | None) -> str:
    """The variable or the file that a value comes from; "" for another source."""
    if source is ParameterSource.ENVIRONMENT:
        return next(name for name in option.envvar or () if os.environ.get(name))
    return str(context.find_root().meta[FILE]) if source is ParameterSource.DEFAULT_MAP else ""


def _text(value: Any) -> str:
    if value is True:
        return ""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def listed(program: click.Context) -> list[dict[str, Any]]:
    """The options that a file or the environment sets, with the commands in which they do."""
    by_setting: dict[tuple[str, str], list[str]] = {}
    for path, command in commands(program.command):
        defaults: Any = program.default_map or {}
        for name in path:
            defaults = defaults.get(name, {})
        context = click.Context(command, parent=program, default_map=defaults)
        for option, source in sources(context):
            by_setting.setdefault((option, source), []).append(" ".join(path))
    return [
        {"option": option, "source": source, "commands": [name or "all" for name in names]}
        for (option, source), names in by_setting.items()
    ]


def blamed(error: click.UsageError) -> click.UsageError:
    """The same error, with the file or variable of the value that it is about."""
    context, option = error.ctx, getattr(error, "param", None)
    if context is None or not isinstance(option, click.Option):
        return error
    origin = _origin(context, option, context.get_parameter_source(option.name or ""))
    return click.BadParameter(f"{error.message} (from {origin})", context, option) if origin else error
