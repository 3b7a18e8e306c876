"""The demo: run real commands on composed images, and print each so that the user can repeat it."""

import shlex
import subprocess
import sys
from pathlib import Path

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


def run_demo(folder: Path, scenes: int) -> None:
    """Compose `scenes` images in `folder`, a fifth of them for evaluation, then extract, fit and predict.

    Raises:
        EncodeOnceError: a command failed; it has printed the reason.
    """
    data, store, runs = folder / "input", folder / "store", folder / "runs"
    eval_rows = scenes // 5
    if not (data / "train.csv").exists():
        click.echo(f"Composing {scenes} images in {data} …")
        compose(data, scenes, eval_rows=eval_rows)
    encoders = [word for encoder in ENCODERS for word in ("--encoder", encoder)]
    _run("extract", *encoders, "--data", data, "--store", store)
    trained = []
    for head in HEADS:
        for modality, features in MODALITIES.items():
            trained.append(runs / f"{head}-{modality}")
            inputs = [word for feature in features for word in ("--features", feature)]
            split = ["--split", f"tail:{eval_rows}"]
            _run("fit", "--head", head, *inputs, "--store", store, *split, "--run", trained[-1], quiet=True)
    _run("report", *trained, "-o", folder / "report.html")
    _run("predict", trained[-1], "--data", data, "-o", folder / "predictions.csv")
    click.echo(
        f"\nImages: {data}. Vectors: {store}. Runs: {runs}. The last run's labels for every image:"
        f" {folder / 'predictions.csv'}.\nSliders, charts and mistakes, to look at in a browser: "
        f"{folder / 'report.html'}.\nThe art is Twemoji, CC-BY 4.0: {data / 'ATTRIBUTION.md'}."
    )


def _run(*arguments: str | Path, quiet: bool = False) -> None:
    """Print and run a command of this program."""
    words = [str(argument) for argument in arguments]
    click.echo(f"\n$ python cli.py {shlex.join(words)}")
    output = subprocess.DEVNULL if quiet else None
    process = subprocess.run([sys.executable, str(CLI), *words], stdout=output)  # noqa: S603 — fixed arguments
    if process.returncode:
        raise EncodeOnceError(f"{words[0]} ended with exit status {process.returncode}")
