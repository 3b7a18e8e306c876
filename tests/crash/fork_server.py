"""Start real `extract` processes quickly: the libraries are imported once, and each process is a fork.

Reads a line of JSON with the arguments of `ForkServer.run` for each process, and prints its exit status,
negative for a signal. Run as `python -m tests.crash.fork_server`.
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
from encode_once.deploy import update  # noqa: F401 — imports what fits and evaluates, too
from encode_once.extract import workers
from encode_once.extract.encoders import towers
from encode_once.extract.encoders.base import Options


def start(args, largest_file, stderr):
    """Start a process of `cli.py`; returns its pid."""
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        if largest_file is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
        try:
            cli.main(args)
        except SystemExit as end:
            os._exit(end.code)  # without the interpreter's slow shutdown
    return pid


def main():
    # Small parts, and a commit for each input, so that many kills hit between them.
    feature_writer.PART_BYTES = 1000
    workers.COMMIT_SECONDS = 0
    torch.set_num_threads(1)
    towers("timm:test_vit", Options("random"))  # imports its libraries
    for line in sys.stdin:
        request = json.loads(line)
        pid = start(request["args"], request["largest_file"], request["stderr"])
        process = os.pidfd_open(pid)
        ended, _, _ = select.select([process], [], [], request["kill_after"])
        os.close(process)
        if not ended:
            os.kill(pid, signal.SIGKILL)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
