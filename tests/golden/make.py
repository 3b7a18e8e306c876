"""Make the golden files of a format: `python -m tests.golden.make PROGRAM FILE.zip`, see README.md.

PROGRAM is a check-out of the commit whose files are wanted. It extracts, exports, fits and predicts on the
data of `golden_data`; later programs are compared with what it wrote. With `unknown`, some labels are.
"""

import os
import runpy
import shutil
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from tests.golden.golden_data import write_input

PLACE = Path("/tmp/golden")  # runs before version 8 and all tables hold absolute paths
TABLE = "input-train-63ca14b9"  # its name follows from its place
IMAGES, CAPTIONS = "onnx:image", "glove-50"
RUNS = {  # name → the options of fit
    "linear": f"--head linear --features {IMAGES}/pooled --features {CAPTIONS}/mean --features tfidf:9 "
    "--split tail:6",
    "folds": f"--head linear --features {IMAGES}/pooled --split kfold:3",
    "mlp": f"--head mlp --features {IMAGES}/pooled --features {CAPTIONS}/mean --split stratified:0.2 "
    "--set hidden=[4] --set epochs=4 --set members=2",
    "knn": f"--head knn --features {IMAGES}/pooled --split random:0.2 --set ks=[2,3]",
    "forest": f"--head forest --features {IMAGES}/pooled --split random:0.2 --set trees=3",
}
RULES = {"folds": "--decide expected-f1 --calibrate isotonic", "knn": "--decide expected-f1"}
KEPT = "store", "runs", "predictions", "vectors"
LEFT_OUT = ".lock", ".owner", ".sqlite", ".html"


def main(program: Path, file: Path, runs: Sequence[str], unknown: bool) -> None:
    """Write what a program makes of the data to a zip file."""
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir()
    write_input(PLACE / "input", unknown)
    for name in ("image.onnx", "glove.txt"):
        shutil.copy(Path(__file__).with_name(name), PLACE)
    source = "".join(path.read_text() for path in (*program.glob("cli.py"), *program.glob("*/commands.py")))
    trust = "--trust" if "--trust" in source else ""
    rules = RULES if "--calibrate" in source else {}
    extract = [f"--encoder {IMAGES} --encoder {CAPTIONS}"]
    extract += [f"--weights {IMAGES}=image.onnx --weights {CAPTIONS}=glove.txt"]
    commands = [f"extract {' '.join(extract)}"]
    for name in (f"{IMAGES}/pooled", f"{CAPTIONS}/mean"):
        commands += [f"store export {name} --to npy -o vectors/{name.replace('/', '-')}.npy --table {TABLE}"]
    for name in runs:
        commands += [f"fit --run runs/{name} {RUNS[name]} {rules.get(name, '')}"]
        commands += [f"predict runs/{name} --table test -o predictions/{name}.csv {trust}"]
    program = program.resolve()
    for name in ("predictions", "vectors"):
        (PLACE / name).mkdir()
    os.chdir(PLACE)
    sys.path[:0] = [str(program), str(program.parent)]
    for command in commands:
        print(f"$ {command}")
        sys.argv = ["cli.py", *command.split()]
        try:
            runpy.run_path(str(program / "cli.py"), run_name="__main__")
        except SystemExit as end:  # extract fails for the captions without a known word
            if end.code and sys.argv[1] != "extract":
                raise
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(path for name in KEPT for path in Path(name).rglob("*") if path.is_file()):
            if not path.name.endswith(LEFT_OUT):
                archive.write(path)
    shutil.rmtree(PLACE)


if __name__ == "__main__":
    file = Path(sys.argv[2]).resolve()
    names = [*RUNS] if file.name.startswith("runs") else []  # else only the store
    main(Path(sys.argv[1]), file, names, "unknown" in sys.argv[3:])
