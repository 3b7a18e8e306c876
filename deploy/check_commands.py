"""The commands `store verify` and `doctor`, which check what several packages know."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import click

from encode_once.cache import DataError, StoreError
from encode_once.cache.options import (
    alert,
    device_option,
    existing_store,
    features_argument,
    grouped,
    json_option,
    print_json,
    say,
    say_next,
    store_option,
    store_words,
    verb,
)
from encode_once.cache.terminal import one_line, short_list
from encode_once.classify.options import ignore_option
from encode_once.extract.options import trust_option


class Absent(NamedTuple):
    """Ids and keys that no file of a store and of runs may hold."""

    names: list[str]
    runs: Path


def _absent(absent: Sequence[str], absent_file: Path | None, runs: Path) -> Absent:
    from encode_once.deploy.forget import read_list

    return Absent([*absent, *(read_list(absent_file) if absent_file else ())], runs)


absent_options = grouped(
    "absent",
    _absent,
    click.option("--absent", multiple=True, metavar="ID",
                 help="Search all files of store and runs for this id or hexadecimal key; repeatable."),
    click.option("--absent-file", metavar="LIST", help="The same for each line of a file of forget -o.",
                 type=click.Path(path_type=Path, dir_okay=False)),
    click.option("--runs", default="runs", show_default=True, type=click.Path(path_type=Path),
                 help="Folder of the runs, for --absent."),
)  # fmt: skip


@verb()
@features_argument
@store_option
@click.option("--quick", is_flag=True, help="Read headers, keys and checksums only.")
@click.option("--repair", is_flag=True, help="Keep the intact rows; rename damaged files to .damaged.")
@click.option("--recompute", type=click.IntRange(1), metavar="N", help="Encode N rows again and compare.")
@absent_options
@trust_option
@device_option
@json_option
def verify(
    features: Sequence[str],
    store: str,
    quick: bool,
    repair: bool,
    recompute: int | None,
    absent: Absent,
    trust: bool,
    device: str,
    as_json: bool,
) -> None:
    """Read every byte of the store, or of the given features, and compare it with its checksum.

    The exit status is 1 if anything is wrong. --quick finds files that are missing, cut off or of a wrong
    kind, and damaged keys, but no damaged vectors.

    \b
    Examples:
      encode-once store verify
      encode-once store verify clip-vit-l/image --recompute 20
      encode-once store verify --repair
      encode-once store verify --absent 17.jpg
    """
    from encode_once.cache import maintenance
    from encode_once.deploy.forget import found_in

    opened = existing_store(store)
    changes = maintenance.repair(opened, features) if repair else []
    for line in changes:
        alert(line)
    problems = maintenance.verify(opened, features, quick=quick)
    if recompute and not problems:
        from encode_once.extract.reencode import recompute as encode_again
        from encode_once.extract.trust import Trust

        trusted = Trust(recorded=trust, log=say)
        for result in encode_again(opened, recompute, features, device=device, trust=trusted):
            line = f"{result.feature}: {result.rows} rows encoded again differ by at most {result.worst:.1e}"
            say(line)
            problems += [] if result.agrees else [f"{line}: more than arithmetic explains"]
    if absent.names:
        files = found_in(opened, absent.runs, absent.names)
        problems += [f"{path} holds {short_list(texts)}" for path, texts in files.items()]
    if as_json:
        print_json({"problems": problems, "changes": changes})
    for problem in [] if as_json else problems:
        click.echo(one_line(problem))
    if problems:
        raise StoreError(f"{store}: {len(problems)} problems (see above); --repair sets damaged files aside")
    say(f"{store}: no problems found{' in headers and keys' if quick else ''}")
    if absent.names:
        say(f"{len(absent.names)} ids and keys are in no file of {store} and {absent.runs}")
    say_next("fit", "--head", "mlp", *store_words(store))


@verb()
@click.option("--data", help="Data to read, without encoding. [default: input, if it is there]")
@click.option("--runs", default="runs", show_default=True, type=click.Path(path_type=Path),
              help="Folder of the runs.")  # fmt: skip
@store_option
@ignore_option
@json_option
def doctor(data: str | None, runs: Path, store: str, ignore: Sequence[str], as_json: bool) -> None:
    """Check this machine, the installation, the data, the store and the runs; a line for each check.

    PASS: as it should be. WARN: slow, or not for every input. FAIL: a command will fail; the exit status is
    then 1. The remedy follows the arrow. Nothing is written but a file of 32 MB next to the store, which
    is deleted again; a run whose replacement was interrupted is completed when it is read, as by every
    command. Sites with weights have five seconds to answer.

    --json prints [{"subject", "state", "finding", "remedy"}].

    \b
    Examples:
      encode-once doctor
      encode-once doctor --data photos --store store --json
    """
    from encode_once.cache import Store
    from encode_once.cache.doctor import checks_of

    if ignore:  # before the other checks, which take seconds
        from encode_once.classify.report.checks import check_codes

        check_codes(ignore)
    checks = []
    for check in chain(
        checks_of("cache.doctor.installation"),
        checks_of("cache.doctor.machine", store),
        checks_of("extract.doctor", data, store),
        checks_of("cache.doctor.stored", store),
        checks_of("classify.doctor", runs, ignore),
    ):
        checks.append(check)
        if not as_json:
            click.echo(check.text())
    if as_json:
        print_json([asdict(check) for check in checks])
    if failed := sum(check.state == "FAIL" for check in checks):
        raise DataError(f"{failed} of {len(checks)} checks failed")
    is_new = not Store(store, read_only=True).exists
    words = ["--encoder", "efficientnet-lite0", *(["--data", data] if data else [])]
    say_next(*(["extract", *words] if is_new else ["fit", "--head", "mlp"]), *store_words(store))
