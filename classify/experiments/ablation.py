"""What each part of a run is worth: it is fitted again without a feature, an option or its loss.

An ablation is a sweep whose combinations differ from a run in one thing each. The difference to the run is
told with a paired interval, over the same draws of the same held-out rows.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from encode_once.cache import DataError, Store
from encode_once.classify import heads
from encode_once.classify.evaluation.intervals import METRICS, differences
from encode_once.classify.experiments import leaderboard
from encode_once.classify.experiments.trial import Combination, Common, Result, Tell, with_intervals
from encode_once.classify.runs.fit import code_key
from encode_once.classify.runs.predict import sources
from encode_once.classify.runs.run import Run, Settings

HOW = {"seed", "device", "jobs", "progress", "shapes"}  # options that tell how to fit, not what
CHANGE = "_change"


def ablate(
    run: Run, folder: str | Path | None = None, told: Tell = lambda line: None, *, trust: bool = False
) -> list[dict[str, Any]]:
    """Fit all variants of a run that are not there yet; a row for the run and one for each.

    Args:
        folder: of the variants' runs and the table; by default `ablation` in that of the run.
        told: is given a line on each variant.
        trust: open the file of prompts that the run names; without it such a run is refused.

    Returns:
        What was changed, each metric and its change with 95 % intervals, seconds, run and error.

    Raises:
        EncodeOnceError: the store has no longer what the run was fitted on, or the program has changed.
    """
    settings = run.settings
    if isinstance(prompts := settings.options.get("prompts"), str) and not trust:
        raise DataError(f"{run.path} names a file to open: {prompts}; pass --trust if it is yours")
    store, folder = Store(settings.store), Path(folder or run.path / "ablation")
    sources(run, store)  # raises where a feature is not what it was
    if settings.code != code_key():
        raise DataError(
            f"{run.path} was fitted by another version of this program, so its variants cannot be compared "
            "with it: fit it again"
        )
    common = Common(
        store,
        folder,
        settings.split,
        run.decision.spec,
        settings.tune_on,
        settings.table,
        settings.seed,
        settings.groups,
    )
    whole = Result.of(Combination(settings.head, tuple(settings.features), settings.options), run)
    rows = [{"changed": "nothing", **whole.figures(), **with_intervals({}, {}, CHANGE)}]
    for changed, one in variants(settings):
        result = common.attempt(one)
        if not result.error and result.rows != whole.rows:
            raise DataError(f"{settings.table} is not what it was when {run.path} was fitted: fit it again")
        told(f"{changed}: {result.error or f'{result.seconds:.1f} s'}")
        rows.append({"changed": changed, **result.figures(), **_changes(result, whole)})
    leaderboard.save(folder, "ablation", rows, whole.metrics)
    return rows


def variants(settings: Settings) -> Iterator[tuple[str, Combination]]:
    """What is changed, and the combination: a feature less, an option at its default, another loss."""
    head, features, options = settings.head, tuple(settings.features), settings.options
    for dropped in features if len(features) > 1 else ():
        yield f"without {dropped}", Combination(head, tuple(f for f in features if f != dropped), options)
    defaults = heads.defaults_of(head)
    for option, value in options.items():
        if option in HOW | {"loss"} or json.dumps(value) == json.dumps(defaults[option]):
            continue
        others = {name: kept for name, kept in options.items() if name != option}
        (before,), (after,) = (leaderboard.options({option: one}) for one in (value, defaults[option]))
        yield f"{after}, not {before.partition('=')[2]}", Combination(head, features, others)
    for loss in heads.losses_of(head):
        if loss != options.get("loss", defaults["loss"]):
            yield f"loss={loss}", Combination(head, features, {**options, "loss": loss})


def _changes(result: Result, whole: Result) -> dict[str, Any]:
    """How far each metric is from that of the whole run, with intervals; None where fitting failed."""
    if result.error:
        return with_intervals({}, {}, CHANGE)
    known = [name for name in METRICS if whole.metrics[name] is not None]
    changes = {name: result.metrics[name] - whole.metrics[name] for name in known}
    return with_intervals(changes, differences(result.draws, whole.draws), CHANGE)
