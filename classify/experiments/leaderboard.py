"""The runs of a folder, ranked: as rows, on the terminal, as Markdown and as JSON."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from encode_once.cache.errors import collected
from encode_once.cache.format.atomic import replacing, write_json
from encode_once.cache.terminal import Log
from encode_once.cache.text_table import markdown_text, table_text
from encode_once.classify.arrays import FloatArray
from encode_once.classify.evaluation.intervals import RANKING, in_tables, interval
from encode_once.classify.evaluation.metrics import MetricName, Metrics, to_rank
from encode_once.classify.evaluation.tables import about, with_interval
from encode_once.classify.experiments.tasks import Task, each_once, run_all
from encode_once.classify.experiments.trial import Trial, TrialRunner, option, spec_text
from encode_once.classify.heads import FILLED_IN
from encode_once.classify.runs.asked import asked
from encode_once.classify.runs.loading import load_run
from encode_once.classify.runs.run import Run

TECHNICAL = {"seed", "device", "jobs", "progress", *FILLED_IN}  # options that choose no other model
Row = dict[str, Any]


def runs_in(folder: Path, without: Collection[str] = ()) -> tuple[list[Run], list[str]]:
    """The runs of a folder but those of these names, and why others cannot be read."""
    runs, errors = list[Run](), list[str]()
    for file in sorted(folder.glob("*/run.json")):
        if file.parent.name not in without:
            with collected(errors):
                runs.append(load_run(file.parent))
    return runs, errors


def newest(runs: Sequence[Run]) -> list[Run]:
    """Of runs of the same spec, see `asked`, only the newest; in the order given."""
    by_age = sorted(runs, key=lambda run: (run.record.created, str(run.path)))
    kept = {id(run) for run in {spec_text(asked(run)): run for run in by_age}.values()}
    return [run for run in runs if id(run) in kept]


def fit_all(runner: TrialRunner, tasks: Sequence[Task], log: Log, jobs: int = 1) -> list[Row]:
    """Run tasks; return the leaderboard of the runner's folder, which is also in it.

    The metric of the last task ranks. A run has one decision rule: of specs that differ in nothing else, the
    last is fitted; of a run that several searches choose, the last has its way.
    """
    unique, replaced = each_once(runner, tasks)
    if replaced:
        log(f"combinations left out, as later ones differ from them in the decision rule only: {replaced}")
    trials, by = run_all(runner, unique, log, jobs), tasks[-1].by
    last = {trial.run: trial for trial in trials}
    if again := sum(trial.spec.decision != last[trial.run].spec.decision for trial in trials):
        log(f"runs that a later search also chose, by another decision rule, which they have: {again}")
    trials = [*last.values()]
    if any(trial.metrics and to_rank(trial.metrics, by) != by for trial in trials):
        log(f"{by} does not apply to the labels of some runs: these are ranked by micro_f1")
    rows = ranked([*trials, *earlier(runner.folder, trials, log)], by)
    save(runner.folder, "leaderboard", rows)
    return rows


def earlier(folder: Path, trials: Sequence[Trial], log: Log) -> list[Trial]:
    """The trials of the other runs in a folder, of several with the same spec the newest one."""
    runs, errors = runs_in(folder, without=[Path(trial.run).name for trial in trials])
    specs = {spec_text(trial.asked) for trial in trials if trial.asked}
    kept = [run for run in newest(runs) if spec_text(asked(run)) not in specs]
    left_out = {"cannot be read": len(errors), "have the settings of newer ones": len(runs) - len(kept)}
    for why, count in left_out.items():
        if count:
            log(f"{folder}: {count} runs are not in the leaderboard: they {why}")
    return [Trial.of(run) for run in kept]


def ranked(trials: Sequence[Trial], by: MetricName) -> list[Row]:
    """The rows of a leaderboard, the best first; trials on the same eval rows are together."""
    eval_rows = [*dict.fromkeys(trial.rows for trial in trials if trial.rows), ""]
    order = sorted(trials, key=lambda t: (eval_rows.index(t.rows), -(value(t.metrics, by) or -1)))
    return [
        {
            "head": trial.spec.head,
            "features": list(trial.spec.features),
            "settings": dict(trial.spec.options) | ({"seed": trial.spec.seed} if trial.spec.seed else {}),
            **figures(trial),
            f"validation_{by}": value(trial.validation, by),
            "eval_rows": trial.rows[:12],
        }
        for trial in order
    ]


def value(metrics: Metrics | None, name: MetricName) -> float | None:
    """A metric, or what ranks in its place, if there are metrics."""
    return metrics[to_rank(metrics, name)] if metrics else None


def figures(trial: Trial) -> Row:
    """Each metric with its interval; then seconds, the rows measured on, folder, warnings and error."""
    return with_intervals(trial.metrics or {}, trial.draws) | {
        "seconds": trial.seconds,
        "measured": about(trial.metrics) if trial.metrics else None,
        "run": trial.run,
        "warnings": trial.metrics["warnings"] if trial.metrics else [],
        "error": trial.error,
    }


def with_intervals(values: Mapping[str, Any], draws: Mapping[str, FloatArray], suffix: str = "") -> Row:
    """Each metric's value and interval, as NAME and NAME_interval; None if there is none."""
    row: Row = {}
    for name in in_tables(values):
        row[f"{name}{suffix}"] = values.get(name)
        row[f"{name}{suffix}_interval"] = interval(draws[name], values.get(name)) if name in draws else None
    return row


def text(rows: Sequence[Row]) -> str:
    """For a terminal: a table for each set of eval rows, what they are, and the failures."""
    return "\n".join(_parts(rows, table_text))


def save(folder: Path, name: str, rows: Sequence[Row]) -> None:
    """Write NAME.json and NAME.md."""
    write_json(folder / f"{name}.json", rows)
    with replacing(folder / f"{name}.md") as temporary:
        temporary.write_text("\n\n".join(_parts(rows, markdown_text)) + "\n", encoding="utf-8")


def _parts(rows: Sequence[Row], table: Any) -> Iterator[str]:
    """A table and what was measured, for each set of eval rows; then the failures."""
    measured = [row for row in rows if not row["error"]]
    for eval_rows in dict.fromkeys(row.get("eval_rows") for row in measured):
        of_table = [row for row in measured if row.get("eval_rows") == eval_rows]
        yield table(_cells(of_table))
        yield from dict.fromkeys(row["measured"] for row in of_table)
    failed = [row for row in rows if row["error"]]
    if not measured:
        yield table(_cells(failed))
    for row in failed:
        yield f"failed: {' '.join(filter(None, _about(row).values()))}: {row['error']}"


def _cells(rows: Sequence[Row]) -> list[dict[str, str]]:
    """The cells of each row: what was fitted, each metric with its interval, its change, seconds."""
    names = [
        (f"{metric}{suffix}", sign) for metric in RANKING for suffix, sign in (("", ""), ("_change", "+"))
    ]
    columns = [(name, sign) for name, sign in names if any(name in row for row in rows)]
    return [
        _about(row)
        | {name: with_interval(row.get(name), row.get(f"{name}_interval"), sign) for name, sign in columns}
        | {"seconds": "–" if row["seconds"] is None else f"{row['seconds']:.1f}"}
        for row in rows
    ]


def _about(row: Row) -> dict[str, str]:
    if "changed" in row:
        return {"changed": row["changed"]}
    options = " ".join(option(name, value) for name, value in row["settings"].items())
    return {"head": row["head"], "features": " + ".join(row["features"]), "settings": options}
