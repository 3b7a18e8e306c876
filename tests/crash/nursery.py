"""Bears real `extract` processes quickly: the libraries are imported once, each run is a fork of that.

Reads lines of JSON: the arguments of `cli.py`, and what else a run of `Nursery` is given; prints the exit
status of each, negative for a signal. Run as `python -m tests.crash.nursery`.
"""

import json
import os
import resource
import select
import signal
import sys

import torch

from encode_once import cli
from encode_once.cache.format import feature_writer
from encode_once.extract import workers
from encode_once.extract.encoders import towers
from encode_once.extract.encoders.base import Options


def bear(args, largest_file, told):
    """Start a process of `cli.py` whose stderr goes to the file `told`; its pid."""
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        if largest_file is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
        try:
            cli.main(args)
        except SystemExit as end:
            os._exit(end.code)  # without the interpreter's leisurely end
    return pid


def main():
    # Small parts, and a commit for each input, so that many kills fall between them.
    feature_writer.PART_BYTES = 1000
    workers.COMMIT_SECONDS = 0
    torch.set_num_threads(1)
    towers("timm:test_vit", Options("random"))  # imports its libraries
    for line in sys.stdin:
        asked = json.loads(line)
        pid = bear(asked["args"], asked["largest_file"], asked["told"])
        process = os.pidfd_open(pid)
        ended, _, _ = select.select([process], [], [], asked["kill_after"])
        os.close(process)
        if not ended:
            os.kill(pid, signal.SIGKILL)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
