"""The runs of a folder, and which of them are the same but for when they were fitted."""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path

from encode_once.cache import EncodeOnceError
from encode_once.classify.heads import FILLED_IN
from encode_once.classify.runs.asked import asked
from encode_once.classify.runs.loading import load_run
from encode_once.classify.runs.run import Run
from encode_once.classify.spec import FitSpec

TECHNICAL = {"seed", "device", "jobs", "progress", *FILLED_IN}  # options that choose no other model


def runs_in(folder: Path, without: Collection[str] = ()) -> tuple[list[Run], list[str]]:
    """The runs of a folder but those of these names, and why others cannot be read."""
    runs, errors = list[Run](), list[str]()
    for file in sorted(folder.glob("*/run.json")):
        if file.parent.name not in without:
            try:
                runs.append(load_run(file.parent))
            except EncodeOnceError as error:
                errors.append(str(error))
    return runs, errors


def newest(runs: Sequence[Run]) -> list[Run]:
    """Of runs of the same spec, see `asked`, only the newest; in the order given."""
    by_age = sorted(runs, key=lambda run: (run.record.created, str(run.path)))
    kept = {id(run) for run in {spec_text(asked(run)): run for run in by_age}.values()}
    return [run for run in runs if id(run) in kept]


def spec_text(spec: FitSpec) -> str:
    """A spec as JSON, equal for equal specs."""
    return json.dumps(asdict(spec), sort_keys=True)
