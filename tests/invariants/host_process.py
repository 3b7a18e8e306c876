"""Use the library as a host program does. test_host_process.py runs this in a separate process.

`python -m tests.invariants.host_process FOLDER` prints what each case changed in the process, as JSON:
case → name → state before and after.
"""

import csv
import json
import locale
import logging
import os
import random
import signal
import sys
import tempfile
import threading
import warnings
from pathlib import Path

# Imported beforehand, so that what libraries do when they are imported is no difference.
import alembic.command  # noqa: F401
import cleanlab.filter  # noqa: F401
import gensim.models  # noqa: F401
import lightgbm  # noqa: F401
import numpy as np
import onnx  # noqa: F401
import onnxruntime  # noqa: F401
import open_clip  # noqa: F401
import optuna
import sklearn.ensemble  # noqa: F401
import timm  # noqa: F401
import torch
import torchvision  # noqa: F401
import transformers  # noqa: F401
import xxhash
from PIL import Image, ImageFile


def state():
    """The state of the process that a library might change, as texts by name."""
    umask = os.umask(0o022)
    os.umask(umask)
    loggers = (logger for _, logger in sorted(logging.root.manager.loggerDict.items()))
    state = {
        "logging is disabled": logging.root.manager.disable,
        "root logger": (logging.root.level, logging.root.handlers),
        "loggers": [x for x in loggers if isinstance(x, logging.Logger) and (x.level or x.disabled)],
        "environment": sorted(os.environ.items()),
        # Python replaces the text "__main__" in its own first filter by a pattern as soon as it is used.
        "warnings": [[getattr(part, "pattern", part) for part in line] for line in warnings.filters],
        "warnings are shown by": warnings.showwarning,
        "csv": csv.field_size_limit(),
        "files": [(os.fstat(fd).st_dev, os.fstat(fd).st_ino, os.get_inheritable(fd)) for fd in (0, 1, 2)],
        "signals": [signal.getsignal(number) for number in sorted(signal.valid_signals())],
        "working directory": os.getcwd(),
        "umask": umask,
        "sys.path": sys.path,
        "sys": (sys.stdin, sys.stdout, sys.stderr, sys.excepthook, sys.getrecursionlimit()),
        "switch interval": sys.getswitchinterval(),
        "locale": locale.setlocale(locale.LC_ALL),
        "temporary folder": tempfile.gettempdir(),
        "random": random.getstate(),
        "random of NumPy": [np.asarray(part).tobytes() for part in np.random.get_state()],  # noqa: NPY002,
        "NumPy": (np.geterr(), np.get_printoptions()),
        "threads": threading.enumerate(),
        "Pillow": (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES),
        "threads of torch": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "random of torch": xxhash.xxh64_hexdigest(torch.get_rng_state().numpy()),
        "torch": (
            torch.get_default_dtype(),
            torch.get_default_device(),
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.are_deterministic_algorithms_enabled(),
            torch.get_float32_matmul_precision(),
            torch.backends.mha.get_fastpath_enabled(),
            torch.backends.mkldnn.enabled,
            torch.backends.cudnn.benchmark,
            torch.hub.get_dir(),
        ),
        "Optuna": optuna.logging.get_verbosity(),
    }
    return {name: str(value) for name, value in state.items()}


def imports(data, folder):
    """Only import."""
    from encode_once import cache, classify, cli, extract

    assert cache.__all__, (classify, cli, extract)


def library(data, folder):
    """The Python interface: encode by both backends, encode again, fit each kind of head, export."""
    from encode_once.cache import Store
    from encode_once.classify import fit, load_run
    from encode_once.classify.decisions.rule import DecisionSpec
    from encode_once.deploy.onnx_export import export_onnx
    from encode_once.extract import ComputeOptions, encode
    from encode_once.extract.reencode import recompute

    encoder, store = "timm:test_efficientnet", Store(folder / "store")
    encode(
        data,
        [encoder],
        store,
        weights={encoder: "random"},
        compute=ComputeOptions(backend="onnxruntime"),
        progress=False,
    )
    encode(data, ["alexnet"], store, weights={"alexnet": "random"}, progress=False)
    encode(data, ["timm:test_vit"], store, weights={"timm:test_vit": "random"}, progress=False)
    assert recompute(store, 2, [f"{encoder}+random/pooled"])
    decision = DecisionSpec("macro", shrink=False, decide="thresholds", calibrate="none")
    for head, options in {"linear": {}, "mlp": {"epochs": 2}, "gbm": {}, "forest": {}, "knn": {}}.items():
        run, _ = fit(
            store,
            head,
            features=[f"{encoder}+random/pooled"],
            run=folder / head,
            options=options,
            decision=decision,
            validation="tenth",
        )
        if head in ("linear", "mlp"):
            export_onnx(run, folder / f"{head}.onnx")
    model = load_run(folder / "mlp").model
    assert len(model.scores(model.mean[None])) == 1
    fit(store, "linear", features=["word2vec:8/mean"], run=folder / "captions")


def command_line(data, folder):
    """Run commands inside the process, also ones that fail."""
    from click.testing import CliRunner

    from encode_once.cli import main

    def run(*words, status=0):
        result = CliRunner().invoke(main, [str(word) for word in words])
        assert result.exit_code == status, result.output

    store, encoder = folder / "store", "timm:test_efficientnet"
    where = ["--store", store, "--data", data]
    run("extract", "--encoder", encoder, "--weights", "random", *where)
    run("extract", "--encoder", "no such encoder", *where, status=2)
    chosen = ["--features", f"{encoder}+random/pooled", "--store", store]
    run("fit", "--head", "linear", *chosen, "--run", folder / "linear", "--set", "Cs=[1]")
    run("tune", folder / "linear", "--objective", "micro", "--decide", "thresholds", "--no-shrink",
        "--calibrate", "none", "--at-least", "0", "--at-most", "0")  # fmt: skip
    run("export", folder / "linear", "-o", folder / "linear.onnx")
    run("evaluate", folder / "linear", "--json")
    chosen += ["--validation", "tenth"]
    run("sweep", "--head", "forest", "--search", "2", *chosen, "--folder", folder / "search")
    run("report", folder / "linear")
    run("store", "verify", "--recompute", "2", "--store", store)


if __name__ == "__main__":
    changes = {}
    for case in (imports, library, command_line):
        before = state()
        case(Path(sys.argv[1]) / "input", Path(sys.argv[1]) / case.__name__)
        after = state()
        changes[case.__name__] = {x: (before[x], after[x]) for x in before if before[x] != after[x]}
    print(json.dumps(changes))
