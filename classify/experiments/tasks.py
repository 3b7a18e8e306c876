"""Tasks of one experiment, one after the other or in several processes, with progress and the time left.

A process that is killed leaves whole runs and perhaps a part of one, so that the same tasks continue.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import mean

from encode_once.cache import Store
from encode_once.cache.command_line import command_line, running
from encode_once.cache.terminal import Log
from encode_once.classify.evaluation.metrics import MetricName, to_rank
from encode_once.classify.experiments import search
from encode_once.classify.experiments.processes import in_processes
from encode_once.classify.experiments.trial import Trial, TrialRunner, title
from encode_once.classify.spec import FitSpec


@dataclass(frozen=True)
class Task:
    """Specs that differ in their seed, or one whose other options Optuna chooses.

    name: in lines about progress; by default that of the spec.
    redraw: whether the seed also draws the split.
    trials: number of settings that Optuna tries; 0: none.
    by: the metric that Optuna maximises, and that progress shows.
    place, others, refit: see `TrialRunner.attempt`.
    """

    specs: Sequence[FitSpec]
    name: str = ""
    redraw: bool = False
    trials: int = 0
    by: MetricName = "micro_f1"
    place: Path | None = None
    others: str = ""
    refit: bool = False

    @property
    def searches(self) -> bool:
        """Whether there are options to choose, and not each spec is one run."""
        return self.trials > 0 and any(map(search.space, self.specs))

    def run(self, runner: TrialRunner) -> Iterator[Trial | str]:
        """The trials of the specs, of the first alone if another seed would give the same; and lines."""
        for spec in self.specs:
            started = time.monotonic()
            if self.trials:
                trial = replace((yield from search.best(runner, spec, self.trials, self.by)), kept=False)
            else:
                trial = runner.attempt(spec, self.place, self.others, refit=self.refit)
            yield replace(trial, elapsed=time.monotonic() - started)
            if len(self.specs) > 1 and runner.is_fixed(trial, self.redraw):
                yield f"{title(trial.spec)}: fitted once, as {spec.head} gives the same with every seed"
                return


def each_once(runner: TrialRunner, tasks: Sequence[Task]) -> tuple[list[Task], int]:
    """Tasks of which no two fit the same run, except for searches; and how many specs other rules replaced.

    A run has one decision rule, the last that is asked for. Tasks with a common run are joined, as one fit
    may stand for all seeds of both.

    Raises:
        EncodeOnceError: a name cannot be used.
    """
    last = {runner.place(spec): spec for task in tasks if not task.searches for spec in task.specs}
    unique, number_of, replaced = list[Task](), dict[Path, int](), 0
    for task in tasks:
        if task.searches:
            unique += [task] * (task not in unique)
            continue
        places = [*map(runner.place, task.specs)]
        new = [last[place] for place in dict.fromkeys(places) if place not in number_of]
        replaced += sum(
            spec.decision != last[place].decision for spec, place in zip(task.specs, places, strict=True)
        )
        number = next((number_of[place] for place in places if place in number_of), len(unique))
        before = unique[number : number + 1]
        specs = [*chain(*(other.specs for other in before)), *new]
        redraw = any(other.redraw for other in (*before, task))
        unique[number : number + 1] = [replace(task, specs=specs, redraw=redraw)]
        for place in places:
            number_of.setdefault(place, number)
    return unique, replaced


def run_all(runner: TrialRunner, tasks: Sequence[Task], log: Log, jobs: int = 1) -> list[Trial]:
    """The trials of all tasks, in their order.

    log: called with a line about each trial, and the time left.
    jobs: number of processes; each gets its share of the cores. Searches in the same folders are not run at
        the same time.
    """
    jobs = min(jobs, len(tasks))
    progress = Progress(tasks, log, jobs)
    trials: list[list[Trial]] = [[] for _ in tasks]
    if jobs > 1:
        setup = partial(_worker, runner.store.location, str(runner.folder), command_line())
        studies = [{runner.place(spec) for spec in task.specs if task.searches} for task in tasks]
        messages = in_processes(setup, tasks, jobs, studies)
    else:
        messages = (
            (n, message) for n, task in enumerate(tasks) for message in chain(task.run(runner), [None])
        )
    for number, message in messages:
        if isinstance(message, str):
            log(message)
        elif message is None:
            progress.skip(tasks[number].specs[len(trials[number]) :])
        else:
            trials[number].append(message)
            progress.report(message, tasks[number])
    progress.end()
    return [trial for of_task in trials for trial in of_task]


def _worker(store: str, folder: str, command: str) -> Callable[[Task], Iterator[Trial | str]]:
    """What a process does with each task; it reads each table once.

    command: the command line of the process that started it, which runs record.
    """
    runner = TrialRunner(Store(store), Path(folder))

    def run(task: Task) -> Iterator[Trial | str]:
        with running(command):
            yield from task.run(runner)

    return run


class Progress:
    """Lines about trials; the time left is that of the trials so far, by head where it is known."""

    def __init__(self, tasks: Sequence[Task], log: Log, jobs: int) -> None:
        self._left = [spec.head for task in tasks for spec in task.specs]
        self._jobs, self._log, self._done = max(jobs, 1), log, 0
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)  # of trials fitted, by head
        self._fitting = 0.0  # seconds

    def report(self, trial: Trial, task: Task) -> None:
        """Count a trial."""
        self._done += 1
        self._left.remove(trial.spec.head)
        if not trial.kept and not trial.error:
            self._seconds[trial.spec.head].append(trial.elapsed)
            self._fitting += trial.seconds or 0.0
        outcome = f"failed: {trial.error}"
        if trial.metrics:
            by = to_rank(trial.metrics, task.by)
            outcome = f"{by} {trial.metrics[by] or 0:.3f}{' (kept)' if trial.kept else ''}"
        counts = f"{self._done}/{self._done + len(self._left)}"
        self._log(f"{counts} {task.name or title(trial.spec)}: {outcome}{self._time_left()}")

    def skip(self, specs: Sequence[FitSpec]) -> None:
        """Leave out specs whose trials would be the same as another."""
        for spec in specs:
            self._left.remove(spec.head)

    def end(self) -> None:
        """Say how long all fits took."""
        if every := [*chain(*self._seconds.values())]:
            rest = 1 - self._fitting / max(sum(every), self._fitting)
            self._log(
                f"{len(every)} run{'s' * (len(every) > 1)} fitted in {duration(sum(every) / self._jobs)}, "
                f"{rest:.0%} of it for thresholds, intervals and files"
            )

    def _time_left(self) -> str:
        if not self._left or not self._seconds:
            return ""
        means = {head: mean(seconds) for head, seconds in self._seconds.items()}
        usual = mean(chain(*self._seconds.values()))
        left = sum(means.get(head, usual) for head in self._left)
        return f"; {duration(left / self._jobs)} left"


def duration(seconds: float) -> str:
    """Seconds in words: 40 s, 3 min, 2 h 5 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
