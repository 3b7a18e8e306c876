"""Views: which part of an image an encoder sees, and at what size, as a suffix of the encoder's name.

`efficientnet-lite0@whole-320` sees the whole image, resized to 320 × 320 pixels. The words of a view are
joined by `-`, in any order; the name has them in this one: how the image becomes a square, its size, `flip`.
Without a view, an encoder sees what its own preprocessing leaves, mostly the centre.
"""

import re
from contextlib import suppress
from dataclasses import dataclass

from encode_once.cache.errors import UsageError, unknown_name

AT = "@"  # between an encoder and its view
CROP = "crop"  # how the model itself makes a square, which needs no word in a name
# Word → how the image becomes a square, as `extract --list` prints it.
SQUARES = {
    "whole": "the whole image, squashed to a square",
    "pad": "the whole image with its shape, padded to a square",
    "five-crops": "the four corners and the centre, averaged",
}
FLIP = "flip"
MIRRORED = "the mean with the mirror image"
COPIES = {"five-crops": 5, FLIP: 2}  # how often the network runs
LEAST, MOST = 32, 2048  # pixels: networks halve their input up to five times
WORD = rf"(?:{'|'.join(SQUARES)}|{CROP}|{FLIP}|\d+)"
VIEW = rf"{WORD}(?:-{WORD})*"


@dataclass(frozen=True)
class View:
    """What an encoder sees of an image.

    square: one of `SQUARES`; "" for the model's own crop. size: pixels per side of what the network takes;
    None for the model's own. flip: whether the vectors of the image and of its mirror image are averaged.
    """

    square: str = ""
    size: int | None = None
    flip: bool = False

    @classmethod
    def parse(cls, text: str) -> "View":
        """The view that `str` writes as `text`.

        Raises:
            UsageError: a word is unknown, or two exclude each other.

        Examples:
            >>> str(View.parse("flip-320-whole"))
            'whole-320-flip'
        """
        words = re.findall(rf"{WORD}(?=-|$)|[^-]+", text)
        squares, sizes, flips = [], list[str](), []
        for word in words:
            if word in SQUARES or word == CROP:
                squares.append(word)
            elif word.isdecimal():
                sizes.append(word)
            elif word == FLIP:
                flips.append(word)
            else:
                raise unknown_name("view", word, [CROP, *SQUARES, FLIP])
        if not words or "-".join(words) != text or max(map(len, (squares, sizes, flips))) > 1:
            raise UsageError(
                f"view {text!r}: name one of {', '.join([CROP, *SQUARES])}, a size and {FLIP}, each at most "
                "once, joined by -, as whole-320-flip"
            )
        if sizes and not (len(sizes[0]) <= len(str(MOST)) and LEAST <= int(sizes[0]) <= MOST):
            raise UsageError(f"view {text!r}: the size is {sizes[0]} pixels; use {LEAST} to {MOST:,}")
        return cls("".join(squares).removeprefix(CROP), int(sizes[0]) if sizes else None, bool(flips))

    def __str__(self) -> str:
        return "-".join(filter(None, [self.square, str(self.size or ""), FLIP if self.flip else ""]))

    def __bool__(self) -> bool:
        """Whether it is another view than the model's own."""
        return self != OWN_VIEW


OWN_VIEW = View()  # the model's


def split_view(encoder: str) -> tuple[str, View]:
    """An encoder's name without its view, and the view.

    Where what follows the last `@` is no view, it is part of the name, as in `onnx:net@2.onnx`.
    """
    name, at, text = encoder.rpartition(AT)
    with suppress(UsageError):
        return (name, View.parse(text)) if at else (encoder, OWN_VIEW)
    return encoder, OWN_VIEW


def views_text() -> str:
    """What each word of a view does, and what it costs, a line each."""
    words = {CROP: "the model's own, mostly the centre", **SQUARES, FLIP: MIRRORED}
    lines = [f"  {word:<11} {text}; time × {COPIES.get(word, 1)}" for word, text in words.items()]
    sizes = "  320         a size in pixels; time × (320 / the model's own size)²"
    return "\n".join(["views, as efficientnet-lite0@whole-320-flip, of image networks:", *lines, sizes])


def without_view(encoder: str) -> str:
    """An encoder's name without its view: what weights, licences and code belong to."""
    return split_view(encoder)[0]


def with_view(encoder: str, view: View) -> str:
    """An encoder's name with a view."""
    return f"{encoder}{AT}{view}" if view else encoder


def canonical(encoder: str) -> str:
    """An encoder's name with the words of its view in order."""
    return with_view(*split_view(encoder))
