"""Feed broken files of every format to what reads them: python -m tests.fuzz.run [FORMAT…].

An input is read, or refused with an error that the command line prints as one line. Everything else is a
fault: a traceback, a hang, or the end of the process. An input is drawn from the seed, its format and its
number: `--only NUMBER` repeats it.
"""

import argparse
import json
import logging
import multiprocessing
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from encode_once.cache.options import REPORTED

MEMORY = 6 << 30  # bytes of address space
HANG = 30  # seconds
MEMORY_DISK = "/dev/shm" if Path("/dev/shm").is_dir() else None  # where a sync costs nothing


def feed(name, seed, numbers, folder, results):
    """In a process of its own: for each number (number, outcome, detail), and at the end the peak memory."""
    from tests.fuzz.formats import FORMATS

    logging.disable()  # as the command line does
    form = FORMATS[name]
    (folder / "valid").mkdir()
    form.prepare(folder / "valid")
    form.use(
        folder / "valid"
    )  # a valid file must be read; the libraries are imported before memory is limited
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    for number in numbers:
        results.send((number, "started", ""))
        results.send((number, *attempt(form, random.Random(f"{seed} {name} {number}"), folder)))
    results.send((None, "peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024))


def attempt(form, rng, folder):
    """Break a copy of the valid files and read it: ("read" | "refused" | "fault", the kind of error)."""
    broken = folder / "broken"
    shutil.rmtree(broken, ignore_errors=True)
    shutil.copytree(folder / "valid", broken, symlinks=True)
    form.mutate(rng, broken)
    try:
        form.use(broken)
    except REPORTED as error:
        kind = type(error).__name__
        return ("refused", kind) if "\n" not in str(error).strip() else ("fault", f"{kind} of several lines")
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return "fault", f"{type(error).__name__} {Path(place.filename).name}:{place.lineno} {str(error)[:80]}"
    return "read", ""


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
        while connection.poll(HANG):
            yield connection.recv()
        process.kill()
        yield None, "hang", ""
    except EOFError:
        process.join()
        if process.exitcode:
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
        "by kind": ", ".join(f"{kind} {count}" for kind, count in refusals.most_common()),
        "tracebacks": counts["fault"],
        "hangs": counts["hang"],
        "aborts": counts["abort"],
        "peak MB": peak,
        "seconds": round(time.perf_counter() - started, 1),
    }, faults


def main():
    from tests.fuzz.formats import FORMATS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=f"of {', '.join(FORMATS)}; default: all")
    parser.add_argument("--inputs", type=int, default=10_000, help="number of inputs of each format")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--only", type=int, help="repeat this input and print its traceback")
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    names = options.formats or [*FORMATS]
    if options.only is not None:
        folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        form = FORMATS[names[0]]
        (folder / "valid").mkdir()
        form.prepare(folder / "valid")
        shutil.copytree(folder / "valid", folder / "broken")
        form.mutate(random.Random(f"{options.seed} {names[0]} {options.only}"), folder / "broken")
        print(f"the broken files are in {folder / 'broken'}")
        form.use(folder / "broken")
        return
    rows, faults = [], []
    for name in names:
        row, new = fuzz(name, options.seed, range(options.inputs))
        rows.append(row)
        faults += new
        print(json.dumps(row), flush=True)
    kinds = Counter(fault.partition(": ")[2] for fault in faults)
    for kind, count in kinds.most_common(40):
        example = next(fault for fault in faults if fault.endswith(kind))
        print(f"{count} × {example}", file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
