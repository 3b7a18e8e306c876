"""The command `monitor`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from encode_once.cache import UsageError
from encode_once.cache.options import (
    RunFolder,
    alert,
    json_option,
    output_option,
    print_result,
    refuse,
    say,
    say_next,
    verb,
    warn,
)
from encode_once.deploy.options import OF_DATA, encoding_options, new_table_option

if TYPE_CHECKING:
    from encode_once.deploy.encoding import Encoding

ALARM = 3  # exit status


@verb()
@click.argument("run", type=RunFolder())
@click.option("--data", help="New data: a folder with a table and images, or another input.")
@new_table_option
@click.option("--scores", type=click.Path(path_type=Path), metavar="FILE",
              help="A file that predict --scores wrote, instead of --data.")  # fmt: skip
@click.option("--alpha", default=0.01, show_default=True,
              type=click.FloatRange(0, 1, min_open=True, max_open=True),
              help="Chance of an alarm if nothing has changed.")  # fmt: skip
@output_option(help="Also write a page, as monitor.html.")
@encoding_options
@json_option
def monitor(
    run: str,
    data: str | None,
    split: str,
    scores: Path | None,
    alpha: float,
    output: Path | None,
    encoding: "Encoding",
    as_json: bool,
) -> None:
    """Compare new data with the run's eval rows; exit status 3 is an alarm, which a line on stderr names.

    Compared are each class's scores (Kolmogorov-Smirnov test; PSI is the size of the shift), each feature
    (energy distance, by permutations of at most 1,000 rows of each side), the share of rows without a vector
    and, if the new data has labels, theirs (Fisher's exact test). All p-values are corrected by Holm, so
    that --alpha is the chance of any alarm in one call. Rows that the run was fitted on are left out.

    --json prints one object: {"alarms": [{"test", "subjects": [name]}], "per_class": [{"label", "psi", "p",
    "adjusted_p", "expected", "labelled", "near", "..._before", ...}], "features": [{"feature",
    "energy_distance", "p", "adjusted_p", "missing", ...}], "unknown_labels": {name: rows}, "rows",
    "eval_rows", "alpha", "warnings"}.

    \b
    Examples:
      encode-once monitor runs/mlp --data photos
      encode-once monitor runs/mlp --scores scores.csv --json
    """
    from encode_once.classify import load_run
    from encode_once.classify.monitoring import monitor as monitoring
    from encode_once.classify.monitoring import tables
    from encode_once.classify.pages.render import write
    from encode_once.classify.runs.predict import choose_split, store_for

    if (data is None) == (scores is None):
        raise UsageError("name the new rows by --data or by --scores")
    loaded = load_run(run, trust=encoding.trust, log=say)
    if scores:
        refuse(new_table_option, *OF_DATA, why="for --data: a file of scores needs nothing else")
        result = monitoring.monitor(loaded, monitoring.rows_of_score_file(loaded, scores), alpha)
    else:
        assert data is not None
        with store_for(loaded, encoding.store) as store:
            trust = encoding.trusted([loaded])
            table = encoding.encode(
                loaded, data, store, trust, lambda tables: choose_split(tables, split, "test", "train")
            )
            new = monitoring.rows_of_table(loaded, store, table)
            result = monitoring.monitor(loaded, new, alpha)
    warn(result["warnings"])
    print_result(result, as_json, lambda: tables.text(result))
    if output:
        write(tables.page(result), output)
        say(f"{output}: open it in a browser")
    if line := monitoring.alarm_line(result):
        alert(line)
        click.get_current_context().exit(ALARM)
    say_next("evaluate", run)
