"""A run with its encoders as a folder for programs without encode-once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from encode_once.cache import DataError
from encode_once.cache.format.atomic import write_json
from encode_once.cache.format.files import open_without_links, reading
from encode_once.cache.format.replacement import replacing_together
from encode_once.classify.runs.model_card import model_card
from encode_once.classify.runs.run import CARD, RULE, Run
from encode_once.deploy import predict_script

MODEL, SCRIPT, LABELS, NEEDS = "model.onnx", "predict.py", "labels.txt", "requirements.txt"
FILES = (MODEL, SCRIPT, LABELS, NEEDS, RULE, CARD)
LIBRARIES = ("onnxruntime", "numpy", "pillow")


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds something else than an earlier export.

    Raises:
        DataError: it does.
    """
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if folder.is_file() or (names and not {MODEL, SCRIPT} <= names):
        raise DataError(f"{folder} exists and is not an exported folder: name another with --folder")


def write_folder(run: Run, folder: Path, content: bytes, inputs: Sequence[dict[str, Any]]) -> int:
    """Write all files of the folder, or none; returns their size in bytes.

    Args:
        content: of the ONNX file.
        inputs: what its metadata say of its inputs.

    Raises:
        DamagedError: the run's card is a symbolic link, or cannot be read.
    """
    needs = [*LIBRARIES, *(["tokenizers"] if any(entry["kind"] == "tokens" for entry in inputs) else [])]
    texts = {
        SCRIPT: Path(predict_script.__file__).read_text(encoding="utf-8"),
        LABELS: "".join(f"{name}\n" for name in run.record.classes),
        NEEDS: "".join(f"{name}\n" for name in needs),
        CARD: f"{_card(run).rstrip()}\n\n{_usage(inputs)}",
    }
    with replacing_together(folder, FILES) as new:
        new(MODEL).write_bytes(content)
        write_json(new(RULE), run.decision.as_json(run.record.classes))
        for name, lines in texts.items():
            new(name).write_text(lines, encoding="utf-8")
    return sum((folder / name).stat().st_size for name in FILES)


def _card(run: Run) -> str:
    """The card in the run's folder, which may come from strangers, or a new one."""
    path = run.path / CARD
    try:
        with reading(path), open_without_links(path) as file:
            return file.read().decode("utf-8")
    except FileNotFoundError:
        return model_card(run)


def _usage(inputs: Sequence[dict[str, Any]]) -> str:
    """The section of the card about this folder."""
    with_image = any(entry["kind"] == "image" for entry in inputs)
    with_caption = any(entry["kind"] != "image" for entry in inputs)
    words = [
        "python predict.py",
        *(["--caption 'a dog in the snow'"] if with_caption else []),
        *(["photo.jpg"] if with_image else []),
    ]
    lines = [
        "## This folder",
        f"`{MODEL}` holds the encoders, the head and the decision rule; its metadata say how its inputs are "
        f"made. `{SCRIPT}` makes them and prints labels, or with `--json` all scores:",
        f"```sh\npip install -r {NEEDS}\n{' '.join(words)}\n```",
        "From Python:",
        f'```python\nfrom predict import ExportedModel\n\nmodel = ExportedModel("{MODEL}")\n'
        f"scores, labels = model({_arguments(with_image, with_caption)})\n```",
    ]
    return "\n\n".join(lines) + "\n"


def _arguments(with_image: bool, with_caption: bool) -> str:
    image = ['"photo.jpg"'] if with_image else []
    caption = ['caption="a dog in the snow"'] if with_caption else []
    return ", ".join(image + caption)
