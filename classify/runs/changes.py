"""What has changed between two runs of one spec: the program, the libraries, the machine and the data."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from encode_once.classify.heads import unset_defaults
from encode_once.classify.runs.origin import Origin
from encode_once.classify.runs.reading import read_weights
from encode_once.classify.runs.run import WEIGHTS, Run

ABSENT = "–"


class ChangeSince(NamedTuple):
    """Something that was one thing when a run was fitted, and is another now."""

    what: str
    then: str
    now: str

    def __str__(self) -> str:
        return f"{self.what}: {self.then} → {self.now}"


def changes(then: Run, now: Run) -> list[ChangeSince]:
    """What has changed between a run and a later one; the later one's model must be at hand.

    Code that the runs name must be trusted.
    """
    return [
        *_of_program(then, now),
        *_of_defaults(then),
        *_of_machine(then.record.origin, now.record.origin),
        *_of_table(then, now),
        *_of_features(then, now),
    ]


def _differing(what: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[ChangeSince]:
    """A change for each name with another value; `what` has a place for the name."""
    for name in sorted({*then, *now}):
        before, after = then.get(name, ABSENT), now.get(name, ABSENT)
        if before != after:
            yield ChangeSince(what.format(name), str(before), str(after))


def _of_program(then: Run, now: Run) -> Iterator[ChangeSince]:
    before, after = then.record.origin, now.record.origin
    if not before.program:
        yield ChangeSince("versions, defaults and machine", "not recorded", after.shown_program)
        return
    yield from _differing("{}", {"program": before.shown_program}, {"program": after.shown_program})
    shared = before.libraries.keys() & after.libraries.keys()  # what only one of them imports decides nothing
    yield from _differing(
        "{}",
        {name: before.libraries[name] for name in shared},
        {name: after.libraries[name] for name in shared},
    )
    yield from _differing(
        "{}", {"code of classify": then.record.code[:8]}, {"code of classify": now.record.code[:8]}
    )


def changed_defaults(run: Run) -> dict[str, tuple[Any, Any]]:
    """Option → its default when a run was fitted and now, if these differ; `ABSENT` if there is none."""
    if not run.record.defaults:
        return {}
    then, now = run.record.defaults, unset_defaults(run.spec.head, run.spec.options)
    return {
        name: (then.get(name, ABSENT), now.get(name, ABSENT))
        for name in sorted({*then, *now})
        if then.get(name, ABSENT) != now.get(name, ABSENT)
    }


def _of_defaults(then: Run) -> Iterator[ChangeSince]:
    for name, (before, after) in changed_defaults(then).items():
        yield ChangeSince(f"default of the option {name}", str(before), str(after))


def _of_machine(then: Origin, now: Origin) -> Iterator[ChangeSince]:
    if then.program:
        names = ("processor", "cores", "threads", "gpu", "system")
        before, after = ({name: getattr(origin, name) or ABSENT for name in names} for origin in (then, now))
        yield from _differing("{}", before, after)


def _of_table(then: Run, now: Run) -> Iterator[ChangeSince]:
    yield from _differing("{}", {"table": then.record.table}, {"table": now.record.table})
    before, after = ({part: key[:8] for part, key in run.record.table_keys.items()} for run in (then, now))
    if before:
        yield from _differing("{} of the table", before, after)
    yield from _differing(
        "{}",
        {"corrections of labels": then.record.corrections or ABSENT},
        {"corrections of labels": now.record.corrections or ABSENT},
    )


def _of_features(then: Run, now: Run) -> Iterator[ChangeSince]:
    before, after = then.record.stored, now.record.stored
    keys = [{name: feature.key[:8] for name, feature in run.record.stored.items()} for run in (then, now)]
    yield from _differing("key of the feature {}", *keys)
    for name in before.keys() & after.keys():
        libraries = before[name].libraries, after[name].libraries
        if all(libraries):
            yield from _differing(f"{{}} that encoded {name}", *libraries)
    if keys[0] == keys[1]:
        yield from _of_values(then, now)


def _of_values(then: Run, now: Run) -> Iterator[ChangeSince]:
    """Features of equal keys whose vectors differ, by the means of the same train rows.

    A head that takes the vectors as they are keeps no means, so nothing is found for it.
    """
    if not np.array_equal(then.fitted_on, now.fitted_on):
        return
    means = [read_weights(run.path / WEIGHTS)["mean"] for run in (then, now)]
    if means[0].shape != means[1].shape:
        return
    start = 0
    for name, (length, width) in now.shapes.items():
        before, after = (mean[start : start + length * width] for mean in means)
        start += length * width
        if not np.array_equal(before, after):
            most = float(np.abs(before - after).max())
            yield ChangeSince(
                f"vectors of {name}", "their mean over the train rows", f"differs by up to {most:.1e}"
            )
