"""Start-up time and peak memory of commands, each in a new process."""

import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from encode_once.cache.errors import EncodeOnceError

CLI = str(Path(__file__).parents[2] / "cli.py")

# A small process starts the command: Linux counts a parent's memory to the peak of a process it starts.
LAUNCHER = """
import os, sys, time
started = time.perf_counter()
process = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[1:]], os.environ)
_, status, usage = os.wait4(process, 0)
print()
print(status, time.perf_counter() - started, usage.ru_maxrss)
"""


def start(run: str | Path, store: str | Path, repeats: int = 5) -> list[dict[str, Any]]:
    """Median seconds and peak MB of commands that do little work, next to Python alone and importing torch.

    Args:
        run: a run's folder; `tune` fits its thresholds again.
        store: a store's folder.
        repeats: rounds in which every command runs once.

    Raises:
        EncodeOnceError: a command failed.
    """
    commands = {
        "python -c pass": ["-c", "pass"],
        'python -c "import torch"': ["-c", "import torch"],
        "--help": [CLI, "--help"],
        "store list": [CLI, "store", "list", "--store", str(store)],
        "report RUN": [CLI, "report", str(run)],
        "tune RUN": [CLI, "tune", str(run)],
        "recipe list": [CLI, "recipe", "list", "--store", str(store)],
        "extract --list": [CLI, "extract", "--list"],
    }
    rounds = [[_measured(words) for words in commands.values()] for _ in range(repeats)]
    rows = []
    for name, of_command in zip(commands, zip(*rounds, strict=True), strict=True):
        seconds, megabytes = zip(*of_command, strict=True)
        rows.append({"command": name, "seconds": median(seconds), "MB": median(megabytes)})
    return rows


def _measured(words: list[str]) -> tuple[float, float]:
    """Seconds and peak resident MB of a Python process."""
    launcher = [sys.executable, "-S", "-c", LAUNCHER, *words]
    process = subprocess.run(launcher, capture_output=True, text=True, check=True)  # noqa: S603 — fixed words
    status, seconds, peak = process.stdout.splitlines()[-1].split()
    if status != "0":
        raise EncodeOnceError(f"python {' '.join(words)} failed: {process.stderr.strip()}")
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    return float(seconds), int(peak) * unit / 1e6
