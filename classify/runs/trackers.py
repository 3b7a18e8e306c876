"""Send a run to an experiment tracker: the epochs of `history.csv`, the metrics and the spec.

tensorboard  event files in RUN/tensorboard
mlflow       a run of the experiment "encode-once", on the server or in the folder that MLflow's own variable
             MLFLOW_TRACKING_URI names
"""

from collections.abc import Callable, Iterator
from importlib.util import find_spec

from encode_once.cache import EncodeOnceError, MissingDataError
from encode_once.cache.errors import brief, unknown_name
from encode_once.classify.data.split_lists import short_split
from encode_once.classify.evaluation.metrics import Metrics
from encode_once.classify.heads.history import Epoch
from encode_once.classify.runs.run import Run

CURVES = ("loss", "validation_loss", "validation_score")  # of `Epoch`
TENSORBOARD, MLFLOW = "tensorboard", "mlflow"


class TrackerError(EncodeOnceError, OSError):
    """An experiment tracker did not take a run."""


def check_tracker(name: str) -> None:
    """Raise if there is no such tracker.

    Raises:
        UsageError: unknown name.
        MissingDataError: its library is not installed.
    """
    if name not in TRACKERS:
        raise unknown_name("tracker", name, TRACKERS)
    if find_spec(name) is None:
        raise MissingDataError(f"--track {name} needs: pip install 'encode-once[{name}]'")


def track(run: Run, metrics: Metrics, name: str) -> str:
    """Send a run that was just fitted to a tracker; return where it is.

    Raises:
        TrackerError: the tracker fails.
    """
    check_tracker(name)
    try:
        return TRACKERS[name](run, metrics)
    except Exception as error:  # of any class: a server is down, a text is too long for it
        raise TrackerError(f"{run.path} is fitted, but {name} did not take it ({brief(error)})") from error


def _curves(run: Run) -> Iterator[tuple[str, Epoch, float]]:
    """Each figure of each epoch, under a name that also has the model, if the head trained several."""
    several = any(epoch.model for epoch in run.history)
    for epoch in run.history:
        for name in CURVES:
            value = getattr(epoch, name)
            if value is not None:
                yield f"model_{epoch.model}/{name}" if several else name, epoch, value


def _figures(metrics: Metrics) -> dict[str, float]:
    """The figures of the eval rows."""
    return {name: float(value) for name, value in metrics.items() if isinstance(value, float | int)}


def _settings(run: Run) -> dict[str, str]:
    """What was asked for, by name."""
    spec = run.spec
    options = {f"option.{name}": str(value) for name, value in spec.options.items()}
    return {
        "head": spec.head,
        "features": " + ".join(spec.features),
        "split": short_split(spec.split),
        "groups": spec.groups,
        "validation": spec.validation,
        "scale": spec.scale,
        "decision": str(spec.decision),
        "table": run.record.table,
        **options,
    }


def _tensorboard(run: Run, metrics: Metrics) -> str:
    from torch.utils.tensorboard import SummaryWriter

    folder = run.path / TENSORBOARD
    for path in folder.glob("events.*"):  # of a run that this one replaces
        path.unlink()
    with SummaryWriter(str(folder)) as writer:
        for name, epoch, value in _curves(run):
            writer.add_scalar(name, value, epoch.epoch)
        for name, value in _figures(metrics).items():
            writer.add_scalar(f"eval/{name}", value)
        for name, text in _settings(run).items():
            writer.add_text(name, text)
    return str(folder)


def _mlflow(run: Run, metrics: Metrics) -> str:
    from mlflow import MlflowClient

    client = MlflowClient()
    experiment = client.get_experiment_by_name("encode-once")
    number = experiment.experiment_id if experiment else client.create_experiment("encode-once")
    tracked = client.create_run(number, run_name=run.path.name).info.run_id
    for name, text in _settings(run).items():
        client.log_param(tracked, name, text)
    for name, epoch, value in _curves(run):
        client.log_metric(tracked, name, value, step=epoch.epoch)
    for name, value in _figures(metrics).items():
        client.log_metric(tracked, f"eval.{name}", value)
    client.set_terminated(tracked)
    return f"{client.tracking_uri}, run {tracked}"


TRACKERS: dict[str, Callable[[Run, Metrics], str]] = {TENSORBOARD: _tensorboard, MLFLOW: _mlflow}
