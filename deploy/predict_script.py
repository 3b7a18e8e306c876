"""Label photos with the model in this folder, without encode-once.

    python predict.py [--json] [--caption TEXT] [PHOTO]…

Needs onnxruntime, numpy and Pillow; tokenizers, if the model takes token ids; pillow-heif for HEIC.
"""

import argparse
import json
import re
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

# Of Pillow's formats only these: EPS, for one, would start Ghostscript. HEIF only with pillow-heif.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "HEIF")
MAX_ASPECT = 256  # a narrower photo would be huge after its shorter side is resized


class PhotoError(ValueError):
    """A photo that cannot be read, or is none."""


class ExportedModel:
    """The model of a file; its metadata say what it takes. Threads may share it."""

    def __init__(self, model: str | bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        about = self.session.get_modelmeta().custom_metadata_map
        self.classes: list[str] = json.loads(about["classes"])
        self.inputs: list[dict[str, Any]] = json.loads(about["inputs"])
        for entry in self.inputs:
            if entry["kind"] == "tokens":
                from tokenizers import Tokenizer

                entry["tokenizer"] = Tokenizer.from_str(entry["tokenizer"])
        with suppress(ImportError):
            from pillow_heif import register_heif_opener

            register_heif_opener()

    def __call__(self, image: Any = None, caption: str = "") -> tuple[dict[str, float], list[str]]:
        """The score of each class, and the labels, likeliest first; image: a path or an open file.

        Raises:
            PhotoError: the image is damaged, none, or of another format or a shape that is not accepted.
        """
        scores, labels = self.session.run(["scores", "labels"], self.prepare(image, caption))
        order = [column for column in (-scores[0]).argsort(kind="stable") if labels[0, column]]
        by_class = dict(zip(self.classes, scores[0].tolist(), strict=True))
        return by_class, [self.classes[column] for column in order]

    def prepare(self, image: Any, caption: str) -> dict[str, Any]:
        """The inputs of the graph, by name, for a batch of one."""
        arrays: dict[str, Any] = {}
        for entry in self.inputs:
            if entry["kind"] == "image":
                values = [pixels(image, entry)]
            elif entry["kind"] == "tokens":
                values = tokens(caption, entry)
            else:
                values = [word_counts(caption, entry)]
            arrays |= {name: value[None] for name, value in zip(entry["names"], values, strict=True)}
        return arrays


def pixels(file: Any, entry: dict[str, Any]) -> Any:
    """The photo resized and cropped, uint8 (height, width, 3); five crops are one behind the other."""
    image = upright_rgb(file, entry)
    height, width = entry["crop"]
    if entry.get("pad"):
        size = tuple(max(1, round(side * width / max(image.size))) for side in image.size)
    elif entry["shorter_side"]:
        side, w, h = entry["shorter_side"], *image.size
        size = (side, int(side * h / w)) if w <= h else (int(side * w / h), side)
    else:
        size = entry["resize_to"][1], entry["resize_to"][0]
    image = image.resize(size, Image.Resampling[entry["interpolation"].upper()])
    if entry.get("pad"):
        canvas = Image.new("RGB", (width, height), tuple(entry["pad"]))
        canvas.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
        return np.asarray(canvas)
    right, lower = image.width - width, image.height - height
    places = [(round(right / 2), round(lower / 2))]
    if entry.get("corners"):
        places = [(0, 0), (right, 0), (0, lower), (right, lower), (right // 2, lower // 2)]
    crops = [np.asarray(image.crop((left, top, left + width, top + height))) for left, top in places]
    return np.concatenate(crops, axis=2)


def upright_rgb(file: Any, entry: dict[str, Any]) -> Image.Image:
    """The photo as it was decoded for training: upright, 8-bit RGB, alpha over white."""
    try:
        return _decoded(file, entry)
    except PhotoError:
        raise
    except Exception as error:  # decoders may raise anything for damaged bytes
        raise PhotoError(f"not a photo that can be read: {error or type(error).__name__}") from error


def _decoded(file: Any, entry: dict[str, Any]) -> Image.Image:
    Image.init()
    image: Image.Image = Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
    if max(image.size) > MAX_ASPECT * min(image.size):
        raise PhotoError(f"{image.width} × {image.height} pixels; at most {MAX_ASPECT}:1")
    if image.format == "JPEG" and entry["jpeg_side"]:  # at 1/8, 1/4 or 1/2 if that is plenty, as it is faster
        scale = next((n for n in (8, 4, 2) if min(image.size) // n >= 2 * entry["jpeg_side"]), 1)
        image.draft(None, (image.width // scale, image.height // scale))
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # grey of 16 bits or more
        deep = np.asarray(image).astype(np.int64) >> (entry["bit_depth"] - 8)
        return Image.fromarray(np.clip(deep, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise PhotoError("floating-point pixels have no defined range: save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def tokens(caption: str, entry: dict[str, Any]) -> list[Any]:
    """The caption's token ids and, if the graph takes one, their mask; all 0 without a caption."""
    ids = np.zeros(entry["context"], np.int64)
    mask = np.zeros_like(ids)
    if caption:
        ids = np.array(entry["tokenizer"].encode(caption).ids)
        mask = np.ones_like(ids)
    return [ids, mask][: len(entry["names"])]


def word_counts(caption: str, entry: dict[str, Any]) -> Any:
    """How often each word of the vocabulary is in the caption; NaN without any word."""
    counts = Counter(re.findall(entry["pattern"], caption.lower()))
    return np.array([counts[word] if counts else np.nan for word in entry["words"]], np.float32)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("photos", nargs="*")
    parser.add_argument("--caption", default="", help="of all photos")
    parser.add_argument(
        "--json", action="store_true", help="print a line of JSON for each photo, with all scores"
    )
    arguments = parser.parse_args()
    model = ExportedModel(str(Path(__file__).with_name("model.onnx")))
    takes_photos = any(entry["kind"] == "image" for entry in model.inputs)
    if takes_photos != bool(arguments.photos):
        parser.error("name one photo or more" if takes_photos else "the model takes captions only")
    failed = False
    for photo in arguments.photos or [""]:
        try:
            scores, labels = model(photo, arguments.caption)
        except PhotoError as error:
            sys.stderr.write(f"{photo}: {error}\n")
            failed = True
            continue
        line = json.dumps({"photo": photo, "labels": labels, "scores": scores}, ensure_ascii=False)
        text = f"{photo}: {', '.join(labels)}".removeprefix(": ")
        sys.stdout.write(f"{line if arguments.json else text}\n")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
