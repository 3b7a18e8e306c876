"""The interface of encoders: towers, each of which turns images or captions into one or more features."""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from encode_once.cache import Spec
from encode_once.cache.source_files import file_key
from encode_once.cache.views import OWN_VIEW, View
from encode_once.extract.errors import WeightsError
from encode_once.extract.images.formats import FULL_DEPTH

Modality = Literal["image", "caption"]
Vectors = NDArray[np.float32]  # (b, d)
Sequences = list[Vectors]  # b arrays, each (length, d)
Texts = list[NDArray[np.uint8]]  # b arrays, each (length, 1): bytes of UTF-8

RANDOM = "random"  # weights of an untrained model: only on request, and every output warns of them
TRIAL = "+random"  # behind the name of an encoder with such weights, so that they never mix with real ones
SEED = 0
BIT_DEPTH = "bit_depth"  # in specs, unless it is that of the format
EXACT = "float32"  # the precision that others are compared with
CAST = (
    " weights"  # behind the precision in a spec: the weights have it; without, they are in float32 (autocast)
)
CHARACTERS = 32  # per token; words of text have 4 to 5, so that no text's first tokens take more on average

CUT = re.compile(r"(\d+) captions? (?:is|are) longer than (\d+) tokens and (?:was|were) cut")  # `cut_remarks`


@dataclass(frozen=True)
class Options:
    """Options of an encoder."""

    weights: str | None = None  # a local file, `RANDOM`, or None for the published weights
    precision: str = EXACT  # of computation, as specs say it
    backend: str = "auto"  # of image networks on a CPU: "auto", "torch" or "onnxruntime"
    compiled: bool = False  # whether image networks run through torch.compile
    regions: bool = False  # whether image networks also return vectors of an image's regions
    view: View = OWN_VIEW  # what image networks see of an image


class Tower(ABC):
    """The part of an encoder that handles one modality.

    Constructing it is cheap, so that `specs` can be compared with a store. `load` is called once, and only
    when something must be encoded. `prepare` is called from several threads at once; so is `encode` if the
    tower is `parallel`, otherwise from one thread at a time.
    """

    modality: ClassVar[Modality]
    libraries: ClassVar[tuple[str, ...]] = ("torch", "pillow")  # whose versions are recorded with the feature
    parallel: ClassVar[bool] = False
    casts: ClassVar[bool] = False  # whether `model` can have weights in reduced precision
    compares: ClassVar[bool] = True  # whether outputs in two precisions can be compared: they are no texts
    cpu_batch: ClassVar[int] = 16
    gpu_batch: ClassVar[int] = 256
    shorter_side: int | None = None  # pixels after resizing; large images are decoded at less
    view = OWN_VIEW  # what it sees of an image
    bit_depth = FULL_DEPTH  # bits that 16-bit grey images use
    expected = 0  # approximate number of inputs to encode; set before `load`
    model: Any = None  # the torch module of towers that cast it, once loaded
    backend = ""  # what runs the model, where there is a choice
    cosine: float | None = None  # to float32, of a tower in reduced precision that was compared

    def __init__(self, specs: Mapping[str, Spec]) -> None:
        # output → everything that determines its values
        self.specs: dict[str, Spec] = {o: {"modality": self.modality, **spec} for o, spec in specs.items()}
        self.device = "cpu"
        self._follow(str(next(iter(self.specs.values()), {}).get("precision", EXACT)))
        self.is_cast = False  # whether the weights of `model` are in the precision

    def _follow(self, precision: str) -> None:
        self.precision = number_format(precision)  # of computation
        self.casts_weights = precision.endswith(CAST)

    def set_precision(self, precision: str) -> None:
        """Compute in that precision, as specs say it: it is part of what decides the values."""
        self._follow(precision)
        self.specs = {output: {**spec, "precision": precision} for output, spec in self.specs.items()}

    def cast(self) -> None:
        """Give a loaded model weights in the tower's precision; others that share them keep theirs."""
        import torch

        self.model = deepcopy(self.model).to(getattr(torch, self.precision))
        self.is_cast = True

    def arithmetic(self) -> AbstractContextManager[Any]:
        """A context manager in which the model computes in the tower's precision."""
        import torch

        if self.precision == EXACT or self.is_cast:
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=getattr(torch, self.precision))

    def set_bit_depth(self, bits: int) -> None:
        """Decode 16-bit grey images as of that many bits, which then is part of what decides the values."""
        self.bit_depth = bits
        for output, spec in self.specs.items():
            others = {name: value for name, value in spec.items() if name != BIT_DEPTH}
            self.specs[output] = others if bits == FULL_DEPTH else {**others, BIT_DEPTH: bits}

    @abstractmethod
    def load(self, device: str) -> None:
        """Load the weights onto a device.

        Raises:
            WeightsError: they cannot be loaded.
        """

    @abstractmethod
    def prepare(self, item: Any) -> Any:
        """Preprocess a decoded image (PIL, RGB) or a caption (str) for a batch.

        Raises:
            InputError: this item cannot be encoded.
        """

    @abstractmethod
    def encode(self, batch: Sequence[Any]) -> Mapping[str, Vectors | Sequences | Texts]:
        """Prepared items → output → for each item a vector, a sequence of vectors, or a text."""

    def remarks(self) -> list[str]:
        """Warnings about the inputs prepared so far, a line each; none by default."""
        return []

    def provenance(self) -> dict[str, str]:
        """Versions of the libraries that compute the values, and how they do; recorded with the feature."""
        versions = {}
        for name in self.libraries:
            try:
                versions[name] = version(name)
            except PackageNotFoundError:
                continue
        if self.backend:
            way = f", {'weights in' if self.is_cast else 'autocast to'} {self.precision}"
            versions["backend"] = self.backend + (way if self.precision != EXACT else "")
        if self.cosine is not None:
            versions["cosine to float32"] = f"{self.cosine:.6f}"
        return versions


def number_format(precision: str) -> str:
    """The format of numbers in a spec's precision, which also says whether the weights have it.

    >>> number_format("bfloat16 weights")
    'bfloat16'
    """
    return precision.removesuffix(CAST)


def beginning(caption: str, tokens: int) -> str:
    """The part of a caption that a tower with room for that many tokens is given to tokenize.

    Tokenizers read a text to its end before they cut it: 10 MB took 47 s and 3 GB of memory.
    """
    return caption[: CHARACTERS * tokens]


def cut_remarks(captions: int, context: int) -> list[str]:
    """The warning that `captions` captions were cut to `context` tokens, if there are any."""
    if captions == 0:
        return []
    if captions == 1:
        return [f"1 caption is longer than {context} tokens and was cut"]
    return [f"{captions} captions are longer than {context} tokens and were cut"]


def summed_remarks(remarks: Iterable[str]) -> list[str]:
    """The remarks of several towers of the same kind in one: the captions that were cut are added up.

    >>> summed_remarks([*cut_remarks(1, 77), *cut_remarks(2, 77)])
    ['3 captions are longer than 77 tokens and were cut']
    """
    others, cut = dict[str, None](), Counter[int]()
    for remark in remarks:
        if match := CUT.fullmatch(remark):
            cut[int(match[2])] += int(match[1])
        else:
            others[remark] = None
    return [*others, *(line for context, captions in cut.items() for line in cut_remarks(captions, context))]


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let torch use `number` threads in each of our threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def file_identity(path: str) -> str:
    """A file's content key, which identifies its weights.

    Raises:
        WeightsError: the file cannot be read.
    """
    try:
        return f"blake2b:{file_key(path).hex()}"
    except OSError as error:
        raise WeightsError(f"--weights {path}: {error.strerror}") from error


def identity(weights: str | None, published: str) -> str:
    """The weights in a feature's key: a file's content key, the published name, or "RANDOM"."""
    if weights is None:
        return published
    return f"RANDOM(seed={SEED})" if weights == RANDOM else file_identity(weights)


@contextmanager
def seeded_weights() -> Iterator[None]:
    """A context manager and decorator under which random weights are the same on every call.

    It restores the state of torch's random generator.
    """
    import torch

    with torch.random.fork_rng(devices=[]):  # models are built on the CPU
        torch.default_generator.manual_seed(SEED)
        yield
