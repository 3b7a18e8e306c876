"""Information that `extract --list` prints about encoders, and whether their weights are available."""

import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from encode_once.cache.text_table import table_text

TIMEOUT = 2.0  # seconds to wait for a site
HUB = "huggingface.co"


@dataclass(frozen=True)
class EncoderInfo:
    """Information about an encoder that needs no weights."""

    outputs: str  # names and dimensions
    takes: str  # size of images in pixels, of captions in tokens
    licence: str  # of the weights
    weights: str  # their origin: a site, an extra of this package, or an option
    here: bool  # whether the weights are on this machine
    package: str = ""  # that must be installed to run it
    extra: str = ""  # of this package that installs it

    @property
    def state(self) -> str:
        """Whether the encoder can run now, and if not, what it needs."""
        if self.package and not find_spec(self.package):
            return f"needs pip install 'encode-once[{self.extra}]'"
        if self.here:
            return "here"
        if self.weights.startswith("--"):
            return f"needs {self.weights}"
        return f"{self.weights}: {'to be fetched' if _answers(self.weights) else 'out of reach'}"


def on_hub(repository: str, files: Sequence[str]) -> bool:
    """Whether any of these files of a Hugging Face repository is in the local cache."""
    from huggingface_hub import try_to_load_from_cache

    return any(repository and isinstance(try_to_load_from_cache(repository, file), str) for file in files)


def from_torch(url: str) -> bool:
    """Whether torch has downloaded that file."""
    import torch

    return (Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]).is_file()


@cache
def _answers(site: str) -> bool:
    try:
        socket.create_connection((site, 443), timeout=TIMEOUT).close()
    except OSError:
        return False
    return True


def listing(encoders: Sequence[tuple[str, EncoderInfo]]) -> str:
    """A line for each encoder, in aligned columns."""
    with ThreadPoolExecutor() as pool:  # to wait for all unreachable sites at the same time
        states = list(pool.map(lambda encoder: encoder[1].state, encoders))
    return table_text(
        [
            {
                "encoder": name,
                "outputs": info.outputs,
                "takes": info.takes,
                "licence": info.licence,
                "weights": state,
            }
            for (name, info), state in zip(encoders, states, strict=True)
        ],
        header=False,
    )
