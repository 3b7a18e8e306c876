"""The demo: run real commands on composed images, and print each so that the user can repeat it."""

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from encode_once.cache import EncodeOnceError
from encode_once.extract.demo.scenes import compose

ENCODERS = ("efficientnet-lite0", "glove-50")
MODALITIES = {
    "image": ["efficientnet-lite0/pooled"],
    "caption": ["glove-50/mean"],
    "both": ["efficientnet-lite0/pooled", "glove-50/mean"],
}
CLI = Path(__file__).parents[2] / "cli.py"
HEADS = ("linear", "mlp")


def run_demo(folder: Path, scenes: int, *, quiet: bool = False) -> dict[str, Any]:
    """Compose `scenes` images in `folder`, a fifth of them for evaluation, then extract, fit and predict.

    quiet: print everything on stderr.

    Returns:
        The paths of what was written: `images`, `store`, `runs`, `predictions` and `report`.

    Raises:
        EncodeOnceError: a command failed; it has printed the reason.
    """
    data, store, runs = folder / "input", folder / "store", folder / "runs"
    eval_rows = scenes // 5
    if not (data / "train.csv").exists():
        click.echo(f"Composing {scenes} images in {data} …", err=quiet)
        compose(data, scenes, eval_rows=eval_rows)
    encoders = [word for encoder in ENCODERS for word in ("--encoder", encoder)]
    _run("extract", *encoders, "--data", data, "--store", store, stderr=quiet)
    trained = []
    for head in HEADS:
        for modality, features in MODALITIES.items():
            trained.append(runs / f"{head}-{modality}")
            inputs = [word for feature in features for word in ("--features", feature)]
            split = ["--split", f"tail:{eval_rows}"]
            words = ["--head", head, *inputs, *split, "--store", str(store), "--run", str(trained[-1])]
            _run("fit", *words, hidden=True, stderr=quiet)
    page, predictions = folder / "report.html", folder / "predictions.csv"
    _run("report", *trained, "-o", page, stderr=quiet)
    _run("predict", trained[-1], "--data", data, "-o", predictions, stderr=quiet)
    click.echo(
        f"\nImages: {data}. Vectors: {store}. Runs: {runs}. The last run's labels for every image:"
        f" {predictions}.\nSliders, charts and mistakes, to look at in a browser: {page}.\n"
        f"The art is Twemoji, CC-BY 4.0: {data / 'ATTRIBUTION.md'}.",
        err=quiet,
    )
    files = {"predictions": str(predictions), "report": str(page)}
    return {"images": str(data), "store": str(store), "runs": [*map(str, trained)], **files}


def _run(*arguments: str | Path, hidden: bool = False, stderr: bool = False) -> None:
    """Print and run a command of this program; its results go nowhere, or to stderr, if asked."""
    words = [str(argument) for argument in arguments]
    click.echo(f"\n$ python cli.py {shlex.join(words)}", err=stderr)
    output = subprocess.DEVNULL if hidden else sys.stderr.fileno() if stderr else None
    process = subprocess.run([sys.executable, str(CLI), *words], stdout=output)  # noqa: S603 — fixed arguments
    if process.returncode:
        raise EncodeOnceError(f"{words[0]} ended with exit status {process.returncode}")
