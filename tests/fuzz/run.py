"""Feed broken files of every format to what reads them: python -m tests.fuzz.run [FORMAT…].

An input is read, or refused with an error that the command line prints as one line. Everything else is a
fault: a traceback, a hang, or the end of the process. An input is drawn from the seed, its format and its
number: `--only NUMBER` repeats it.
"""

import argparse
import json
import logging
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from datetime import date
from pathlib import Path

from encode_once.cache.options import REPORTED
from tests.conftest import MEMORY_DISK
from tests.fuzz.formats import FORMATS

ROOT = Path(__file__).parents[2]
MEMORY = 6 << 30  # bytes of address space
HANG = 30  # seconds of processor time for one input, so that a busy machine makes no difference
BLOCKED = 600  # seconds without an answer, as when it waits for a pipe
FAULTS = ("tracebacks", "hangs", "aborts")
COLUMNS = [
    {"name": "format"},
    *({"name": name, "format": ",d"} for name in ("inputs", "read", "refused")),
    {"name": "refused with"},
    *({"name": name, "format": ",d"} for name in (*FAULTS, "peak MB", "seconds")),
]


def prepare(form, folder):
    """Write valid files of a format to `folder/valid` and read them, which also imports the libraries."""
    (folder / "valid").mkdir(parents=True)
    form.prepare(folder / "valid")
    form.use(folder / "valid")


def broken_copy(name, seed, number, folder):
    """Replace `folder/broken` by a copy of the valid files, and break it; returns its path."""
    broken = folder / "broken"
    shutil.rmtree(broken, ignore_errors=True)
    shutil.copytree(folder / "valid", broken, symlinks=True)
    FORMATS[name].mutate(random.Random(f"{seed} {name} {number}"), broken)
    return broken


def attempt(name, seed, number, folder):
    """Break a copy of the valid files and read it: ("read" | "refused" | "fault", the kind of error)."""
    broken = broken_copy(name, seed, number, folder)
    try:
        FORMATS[name].use(broken)
    except REPORTED as error:
        kind = type(error).__name__
        return ("refused", kind) if "\n" not in str(error).strip() else ("fault", f"{kind} of several lines")
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return "fault", f"{type(error).__name__} {Path(place.filename).name}:{place.lineno} {str(error)[:80]}"
    return "read", ""


def feed(name, seed, numbers, folder, results):
    """In another process: for each number (number, outcome, detail), and at the end the peak memory."""
    logging.disable()  # as the command line does
    prepare(FORMATS[name], folder)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    for number in numbers:
        results.send((number, "started", ""))
        end = int(time.process_time()) + HANG
        resource.setrlimit(resource.RLIMIT_CPU, (end, resource.RLIM_INFINITY))
        results.send((number, *attempt(name, seed, number, folder)))
    results.send((None, "peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024))


def outcomes(name, seed, numbers):
    """Yield (number, outcome, detail) of each input; a process that hangs or dies is replaced."""
    left = list(numbers)
    while left:
        with tempfile.TemporaryDirectory(prefix="fuzz-", dir=MEMORY_DISK) as folder:
            ours, theirs = multiprocessing.Pipe(duplex=False)
            process = multiprocessing.Process(target=feed, args=(name, seed, left, Path(folder), theirs))
            process.start()
            theirs.close()
            current = None
            for number, outcome, detail in received(ours, process):
                current = current if number is None else number
                if outcome == "started":
                    continue
                if current is None:
                    raise RuntimeError(f"{name}: the valid file is not read")
                yield current, outcome, detail
                left = [] if outcome == "peak" else left[left.index(current) + 1 :]


def received(connection, process):
    """Yield what a process sends; last, that it hangs or died, if it did."""
    try:
        while connection.poll(BLOCKED):
            yield connection.recv()
        process.kill()
        yield None, "hang", ""
    except EOFError:
        process.join()
        if process.exitcode == -signal.SIGXCPU:
            yield None, "hang", ""
        elif process.exitcode:
            yield None, "abort", f"exit status {process.exitcode}"


def fuzz(name, seed, numbers):
    """Feed inputs to the readers of a format. Returns a row of the table, and the faults."""
    counts, refusals, faults, peak = Counter(), Counter(), [], 0
    started = time.perf_counter()
    for number, outcome, detail in outcomes(name, seed, numbers):
        if outcome == "peak":
            peak = max(peak, detail)
            continue
        counts[outcome] += 1
        if outcome == "refused":
            refusals[detail] += 1
        elif outcome != "read":
            faults.append(f"{name} {number}: {outcome} {detail}")
    return {
        "format": name,
        "inputs": len(numbers),
        "read": counts["read"],
        "refused": counts["refused"],
        "refused with": ", ".join(f"{kind} {count:,}" for kind, count in refusals.most_common()),
        "tracebacks": counts["fault"],
        "hangs": counts["hang"],
        "aborts": counts["abort"],
        "peak MB": peak,
        "seconds": round(time.perf_counter() - started),
    }, faults


def results_of(path, options):
    """The results file, as docs/tables.py reads it; continued if it is of the same command and commit."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT)
    results = {
        "title": "Broken files of each format: how many were read, refused in one line, or caused a fault",
        "command": f"python -m tests.fuzz.run --inputs {options.inputs} --seed {options.seed}",
        "machine": f"{os.cpu_count()} shared CPU cores",
        "date": date.today().isoformat(),
        "commit": commit.stdout.strip() or "unknown",
        "columns": COLUMNS,
        "rows": [],
    }
    earlier = json.loads(path.read_text()) if path.is_file() else {}
    is_same = all(earlier.get(key) == results[key] for key in ("command", "commit", "columns"))
    return earlier if is_same else results


def main(args=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=f"of {', '.join(FORMATS)}; default: all")
    parser.add_argument("--inputs", type=int, default=10_000, help="number of inputs of each format")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--only", type=int, help="repeat this input and print its traceback")
    parser.add_argument("--json", type=Path, help="results file; formats in it are not repeated")
    options = parser.parse_args(args)
    names = options.formats or [*FORMATS]
    if options.only is not None:
        folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        prepare(FORMATS[names[0]], folder)
        broken = broken_copy(names[0], options.seed, options.only, folder)
        print(f"the broken files are in {broken}")
        FORMATS[names[0]].use(broken)
        return 0
    results = results_of(options.json, options) if options.json else {"rows": []}
    complete = {row[0] for row in results["rows"]}
    for name in names:
        if name in complete:
            continue
        row, faults = fuzz(name, options.seed, range(options.inputs))
        results["rows"].append([row[column["name"]] for column in COLUMNS])
        print(json.dumps(row), flush=True)
        for kind, count in Counter(fault.partition(": ")[2] for fault in faults).most_common(40):
            example = next(fault for fault in faults if fault.endswith(kind))
            print(f"{count} × {example}", file=sys.stderr, flush=True)
        if options.json:
            options.json.write_text(json.dumps(results, indent=1) + "\n")
    places = [number for number, column in enumerate(COLUMNS) if column["name"] in FAULTS]
    return int(any(row[place] for row in results["rows"] for place in places))


if __name__ == "__main__":
    sys.exit(main())
