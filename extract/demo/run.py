"""The demonstration: real commands on composed pictures, each printed so that a reader can repeat it."""

import shlex
import subprocess
import sys
from pathlib import Path

import click

from encode_once.cache import EncodeOnceError
from encode_once.extract.demo.scenes import compose

MODALITIES = {
    "image": ["efficientnet-lite0/pooled"],
    "caption": ["glove-50/mean"],
    "both": ["efficientnet-lite0/pooled", "glove-50/mean"],
}
CLI = Path(__file__).parents[2] / "cli.py"
HEADS = ("linear", "mlp")


def run_demo(folder: Path, scenes: int) -> None:
    """Compose `scenes` pictures, a fifth of them held out, under `folder`, and take them the whole way.

    Raises:
        EncodeOnceError: a step failed; it has said why.
    """
    data, store, runs = folder / "input", folder / "store", folder / "runs"
    held_out = scenes // 5
    if not (data / "train.csv").exists():
        click.echo(f"Composing {scenes} pictures in {data} …")
        compose(data, scenes, held_out=held_out)
    _run(
        "extract",
        "--encoder",
        "efficientnet-lite0",
        "--encoder",
        "glove-50",
        "--data",
        data,
        "--store",
        store,
    )
    made = []
    for head in HEADS:
        for modality, features in MODALITIES.items():
            made.append(runs / f"{head}-{modality}")
            chosen = [word for feature in features for word in ("--features", feature)]
            where: list[str | Path] = ["--store", store, "--split", f"tail:{held_out}", "--run", made[-1]]
            _run("fit", "--head", head, *chosen, *where, quiet=True)
    _run("report", *made)
    _run("predict", made[-1], "--data", data, "-o", folder / "predictions.csv")
    click.echo(
        f"\nPictures: {data}. Vectors: {store}. Runs: {runs}. The last run's labels for every picture:"
        f" {folder / 'predictions.csv'}.\nThe art is Twemoji, CC-BY 4.0: {data / 'ATTRIBUTION.md'}."
    )


def _run(*arguments: str | Path, quiet: bool = False) -> None:
    """Print one of this program's commands and run it."""
    words = [str(argument) for argument in arguments]
    click.echo(f"\n$ python cli.py {shlex.join(words)}")
    output = subprocess.DEVNULL if quiet else None
    done = subprocess.run([sys.executable, str(CLI), *words], stdout=output)  # noqa: S603 — our own words
    if done.returncode:
        raise EncodeOnceError(f"{words[0]} ended with exit status {done.returncode}")
