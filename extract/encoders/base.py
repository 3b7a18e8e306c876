"""What every encoder is: towers, each turning images or captions into one or more features."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from encode_once.cache import Spec, content_key
from encode_once.extract.errors import WeightsError

Modality = Literal["image", "caption"]
Vectors = NDArray[np.float32]  # (b, d)
Sequences = list[Vectors]  # b arrays, each (length, d)
Texts = list[NDArray[np.uint8]]  # b arrays, each (length, 1): bytes of UTF-8

RANDOM = "random"  # the weights of an untrained model: only ever on request, and said in every output
SEED = 0


@dataclass(frozen=True)
class Options:
    """How an encoder is to be made."""

    weights: str | None = None  # a local file, `RANDOM`, or None for the published ones
    precision: str = "float32"  # of the arithmetic: float32, float16 or bfloat16
    backend: str = "auto"  # of image networks on a CPU, "auto", "torch" or "onnxruntime"
    compiled: bool = False  # whether torch is to compile image networks
    regions: bool = False  # whether image networks give the vectors of a picture's regions, too


class Tower(ABC):
    """One modality's half of an encoder.

    Made cheaply, so that `specs` can be compared with a store; `load` then brings the weights, once and only
    when something must be encoded. `prepare` runs in several threads at once; so does `encode` where a tower
    is `parallel`, else in one at a time.
    """

    modality: ClassVar[Modality]
    libraries: ClassVar[tuple[str, ...]] = ("torch", "pillow")  # their versions are recorded with the feature
    parallel: ClassVar[bool] = False
    cpu_batch: ClassVar[int] = 16
    gpu_batch: ClassVar[int] = 256
    shorter_side: int | None = None  # to which `prepare` resizes pictures; large ones are decoded smaller
    expected = 0  # about how many inputs will come, once that is known

    def __init__(self, specs: Mapping[str, Spec]) -> None:
        # output → what decides its values
        self.specs: dict[str, Spec] = {o: {"modality": self.modality, **spec} for o, spec in specs.items()}
        self.device = "cpu"

    @abstractmethod
    def load(self, device: str) -> None:
        """Bring the weights to a device.

        Raises:
            WeightsError: they are not to be had.
        """

    @abstractmethod
    def prepare(self, item: Any) -> Any:
        """One decoded image (PIL, RGB) or caption (str), made ready for a batch.

        Raises:
            InputError: this item cannot be encoded.
        """

    @abstractmethod
    def encode(self, batch: Sequence[Any]) -> Mapping[str, Vectors | Sequences | Texts]:
        """Prepared items → output → one vector, or one sequence of vectors, or one text an item."""

    def remarks(self) -> list[str]:
        """What a person should know of the inputs that were prepared, one line each; by default nothing."""
        return []

    def provenance(self) -> dict[str, str]:
        """Versions of the libraries whose code made the values, told beside them."""
        found = {}
        for name in self.libraries:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                continue
        return found


def cut_remarks(captions: int, context: int) -> list[str]:
    """That so many captions did not fit into a context of so many tokens; nothing where all did."""
    are, were = ("is", "was") if captions == 1 else ("are", "were")
    told = f"{captions} caption{'s' * (captions > 1)} {are} longer than {context} tokens and {were} cut"
    return [told] if captions else []


def arithmetic(device: str, precision: str) -> AbstractContextManager[Any]:
    """The context in which a torch model computes in that precision."""
    import torch

    if precision == "float32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=getattr(torch, precision))


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Have torch compute with so many threads in each of ours."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def bytes_identity(content: bytes) -> str:
    """A file's content key, as specs have it."""
    return f"blake2b:{content_key(content).hex()}"


def file_identity(path: str) -> str:
    """Weights by what they are: a file's content key.

    Raises:
        WeightsError: there is no such file.
    """
    try:
        return bytes_identity(Path(path).read_bytes())
    except OSError as error:
        raise WeightsError(f"--weights {path}: {error.strerror}") from error


def identity(weights: str | None, published: str) -> str:
    """What stands for the weights in a feature's key: a file's content, a published name, or random."""
    if weights is None:
        return published
    return f"RANDOM(seed={SEED})" if weights == RANDOM else file_identity(weights)


@contextmanager
def seeded_weights() -> Iterator[None]:
    """Within it (or a function it decorates) random weights are the same on every call.

    After it torch's random numbers go on as they would have without.
    """
    import torch

    with torch.random.fork_rng(devices=[]):  # models are built on the CPU
        torch.default_generator.manual_seed(SEED)
        yield
