"""An exported folder where nothing is installed but what its requirements name, on real photographs."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from encode_once.classify import load_run

pytestmark = pytest.mark.real
PHOTOS = 1000
SCRIPT = """
import json, sys
from predict import ExportedModel

model = ExportedModel("model.onnx")
for photo, caption in json.load(sys.stdin):
    print(json.dumps(model(photo, caption)))
"""


def environment(folder, requirements):
    """The Python of a new environment with the packages of a file; skips where they cannot be installed."""
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    if not Path(uv).exists():
        pytest.skip("no uv to make an environment with")
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, folder], check=True)
    install = [uv, "pip", "install", "-q", "--python", folder / "bin/python", "-r", requirements]
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the packages cannot be installed: {done.stderr}")
    return folder / "bin/python"


@pytest.mark.parametrize("encoders", [["efficientnet-lite0"], ["efficientnet-lite0", "minilm"]], ids="+".join)
def test_a_thousand_photographs_get_the_scores_and_labels_of_predict(shared, run, tmp_path, encoders):
    data = shared / "coco19-9k"
    with (data / "train.csv").open() as file:
        table = [*csv.reader(file)][: 1 + PHOTOS]
    Path("input").mkdir()
    with Path("input/train.csv").open("w") as file:
        csv.writer(file).writerows(table)
    images = ["--images", data / "data"]
    run("extract", *(word for name in encoders for word in ("--encoder", name)), *images)
    features = [word for name in encoders for word in ("--features", f"{name}/pooled")]
    run("fit", "--head", "mlp", *features, "--set", "epochs=5", "--run", "run")
    run("export", "run", "--folder", "model", "--check", 50)
    run("predict", "run", *images, "--scores", "scores.jsonl", "-o", "labels.csv")
    scores = [json.loads(line) for line in Path("scores.jsonl").read_text().splitlines()]
    with Path("labels.csv").open() as file:
        labels = [{*row["Labels"].split()} for row in csv.DictReader(file)]

    python = environment(tmp_path / "environment", "model/requirements.txt")
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    without = subprocess.run([python, "-c", "import torch"], capture_output=True, env=clean)
    assert without.returncode, "the environment is not clean"
    rows = [(str(data / "data" / row[0]), row[2]) for row in table[1:]]
    done = subprocess.run(
        [python, "-c", SCRIPT], input=json.dumps(rows), capture_output=True, text=True, cwd="model", env=clean
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    classes = load_run("run").record.classes
    differences = [
        abs(result[0][name] - row[name])
        for result, row in zip(results, scores, strict=True)
        for name in classes
    ]
    others = sum({*result[1]} != names for result, names in zip(results, labels, strict=True))
    print(
        f"{len(rows)} photographs: scores differ by {max(differences):.1e} at most, {others} rows in labels"
    )
    assert np.max(differences) < 1e-4
    assert others <= 2  # a score may be as near to its threshold
    command = [python, "predict.py", rows[0][0]]
    printed = subprocess.run(
        command, capture_output=True, text=True, cwd="model", env=clean, check=True
    ).stdout
    assert printed.startswith(f"{rows[0][0]}: ")
