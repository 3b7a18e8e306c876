"""How encoders compute: their precision, and what makes them fast."""

from dataclasses import dataclass, fields
from numbers import Integral, Real

from encode_once.cache.errors import UsageError, unknown_name

PRECISIONS = ("auto", "fast", "float32", "float16", "bfloat16")
BACKENDS = ("auto", "torch", "onnxruntime")
DECIDE_VALUES = ("precision", "bit_depth")  # of a feature; its spec records both


@dataclass(frozen=True)
class ComputeOptions:
    """How encoders compute.

    Attributes:
        precision: of arithmetic; "auto" is the precision of the encoder's features in the store, else float16
            on CUDA and float32 on a CPU. "fast" is the same, but for at least 500 inputs on a CPU bfloat16 if
            that is faster in a short measurement and passes the comparison with float32.
        min_cosine: the least cosine between vectors in reduced precision and in float32, on up to 64 inputs;
            by default .9999 for bfloat16 and .999 for float16. A new feature with less is an error, or with
            "auto" and "fast" float32.
        bit_depth: bits that 16-bit grey images use; by default those of the encoder's rows in the store, else
            those that the files say or, with a warning, that the largest value of all these images needs.
        backend: runs image networks on a CPU: "torch", "onnxruntime", or "auto", the faster of the two.
        compiled: whether to run image networks through torch.compile.
        batch_size: inputs per step of the model; the default depends on the encoder and the device.
        workers: number of threads that read, decode and prepare; by default one per core. With Ray, those of
            each actor, for which as many cores are reserved; see `ray_engine`.

    Raises:
        UsageError: there is no such precision or backend, or a number is out of its range.
    """

    precision: str = "auto"
    min_cosine: float | None = None
    bit_depth: int | None = None
    backend: str = "auto"
    compiled: bool = False
    batch_size: int | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise unknown_name("precision", str(self.precision), PRECISIONS)
        if self.backend not in BACKENDS:
            raise unknown_name("backend", str(self.backend), BACKENDS)
        limits = {"min_cosine": (-1, 1), "bit_depth": (8, 32), "batch_size": (1, None), "workers": (1, None)}
        for name, (least, most) in limits.items():
            value = getattr(self, name)
            if value is None:
                continue
            kind = Real if name == "min_cosine" else Integral
            is_number = isinstance(value, kind)
            if not (is_number and least <= value and (most is None or value <= most)):
                end = f"{least} or more" if most is None else f"between {least} and {most}"
                whole = "" if kind is Real else "a whole number, "
                raise UsageError(f"{name}={value!r}: it is {whole}{end}")

    def check_recorded(self) -> None:
        """Check that no option would decide values that are as they were recorded.

        Raises:
            UsageError: an option would.
        """
        defaults = {field.name: field.default for field in fields(self)}
        for name in DECIDE_VALUES:
            if getattr(self, name) != defaults[name]:
                raise UsageError(f"{name} is that of the features that a run was fitted on: leave it out")
