"""The commands `promote`, `rollback` and `runs list`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from encode_once.cache.aliases import CHAMPION
from encode_once.cache.options import (
    RunFolder,
    ServedRun,
    json_option,
    print_json,
    print_result,
    say,
    say_next,
    verb,
    warn,
)

if TYPE_CHECKING:
    from encode_once.deploy.service_versions import Switch


def say_switch(switch: "Switch") -> None:
    """Print what an alias names, and what it named before."""
    if switch.before == switch.now:
        say(f"{switch.alias} is {switch.now}, as before")
    else:
        say(f"{switch.alias} is {switch.now}" + (f", before {switch.before}" if switch.before else ""))


@verb()
@click.argument("run", type=RunFolder())
@click.option("--as", "alias", default=CHAMPION, show_default=True, metavar="ALIAS", help="Name to give.")
@json_option
def promote(run: str, alias: str, as_json: bool) -> None:
    """Give a run a name, by which every command finds it: runs/svc@champion for a run in runs/svc.

    The name changes in one step: who loads runs/svc@champion gets the old run or the new one, as a whole. All
    files of the run are compared with their checksums first. The file runs/svc/.aliases.json holds the names
    and what they named before, for `rollback`.

    --json prints {"alias", "before", "now"}.

    \b
    Examples:
      encode-once promote runs/svc/first
      encode-once promote runs/svc/second --as candidate
    """
    from encode_once.deploy import service_versions

    switch = service_versions.promote(Path(run), alias)
    say_switch(switch)
    if as_json:
        print_json(switch._asdict())
    say_next("evaluate", switch.alias)


@verb()
@click.argument("run", type=ServedRun(), metavar="FOLDER[@ALIAS]")
@json_option
def rollback(run: str, as_json: bool) -> None:
    """Let an alias name the run that it named before; again, the one before that.

    The run that it leaves is not removed, and `update` does not promote it again; `promote` does. Without
    @ALIAS, champion is meant. --json prints {"alias", "before", "now"}.

    \b
    Example:
      encode-once rollback runs/svc@champion
    """
    from encode_once.deploy import service_versions

    switch = service_versions.rollback(run)
    say_switch(switch)
    if as_json:
        print_json(switch._asdict())
    say_next("runs", "list", run.rpartition("@")[0] or run)


@verb("list")
@click.argument("folder", default="runs", type=click.Path(path_type=Path), metavar="[FOLDER]")
@json_option
def runs_list(folder: Path, as_json: bool) -> None:
    """List the runs in a folder, the oldest first: aliases, date and main metrics on their own eval rows.

    `withdrawn` are those that `rollback` left. --json prints [{"run", "aliases", "withdrawn", "created",
    "head", "eval_rows", metrics, "problem"}].

    \b
    Examples:
      encode-once runs list
      encode-once runs list runs/svc --json
    """
    from encode_once.deploy.service_versions import listed, listing

    rows = listed(folder)
    print_result(rows, as_json, lambda: listing(rows))
    warn([row["problem"] for row in rows if row["problem"]])
    say_next("evaluate", rows[-1]["run"])
