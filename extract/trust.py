"""The door for encoders that a store, a run or a recipe names.

An encoder named on the command line is the user's own. One that is read from a file may be a stranger's: its
name may be Python code (`file.py:Class`) or lead to any file, as `onnx:FILE` and recorded local weights do.
Such code and files are used only if the user names them, too, or passes --trust and they have the hash that
was recorded. Every caller that takes encoder names from a file comes through `approve`.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from encode_once.cache import EncodeOnceError, Feature
from encode_once.cache.errors import brief
from encode_once.cache.format.spec_file import EncoderRecord
from encode_once.extract.encoders import custom
from encode_once.extract.encoders.base import RANDOM, file_identity
from encode_once.extract.encoders.transformers_models import WEIGHTS_FILES, identities
from encode_once.extract.errors import WeightsError


class UntrustedError(EncodeOnceError, PermissionError):
    """A store, a run or a recipe names code or a file that the user has not named."""


@dataclass(frozen=True)
class Trust:
    """What the user vouches for; by default nothing.

    encoders: names such as `file.py:Class`. weights: encoder → local file or folder. recorded: whatever has
    the recorded hash (--trust); `log` is called with the path and hash of each such file before its use.
    """

    encoders: Collection[str] = ()
    weights: Mapping[str, str] = field(default_factory=dict)
    recorded: bool = False
    log: Callable[[str], None] = print


def approve(origin: str, recorded: Mapping[str, EncoderRecord], trust: Trust) -> dict[str, str]:
    """Local weights by encoder, for `encode`, of the encoders that `origin` names.

    Raises:
        UntrustedError: code or a file that the user has not named, or that is not the one that was recorded.
    """
    weights = {}
    for encoder, record in recorded.items():
        if custom.is_custom(encoder) and encoder not in trust.encoders:
            code, hashes = str(custom.file_of(encoder)), record.hashes("source")
            named = f"it runs only if named, by --encoder {encoder} of extract or recipe"
            remedy = "read it, then pass --trust" if hashes else named
            _check(f"{origin} names code to run", code, hashes, remedy, trust)
        if encoder in trust.weights:
            weights[encoder] = trust.weights[encoder]
        elif record.weights_file == RANDOM:
            weights[encoder] = RANDOM
        elif file := record.weights_file or _file_in(encoder):
            hashes = record.hashes("weights")
            remedy = f"pass --weights {encoder}={file}" + ", or --trust" * bool(hashes)
            _check(f"{origin} names a file of weights to open", file, hashes, remedy, trust)
            weights[encoder] = file
    return weights


def _file_in(encoder: str) -> str | None:
    """The file or folder that an encoder's name leads to, as `onnx:FILE` does."""
    place = "" if custom.is_custom(encoder) else encoder.partition(":")[2]
    local = place.removeprefix("local-dir:")  # how open_clip spells a folder
    return local if local != place or (place and Path(place).exists()) else None


def _check(what: str, path: str, hashes: Collection[str], remedy: str, trust: Trust) -> None:
    """Refuse a file unless --trust was given and it is the one that was recorded."""
    recorded = f"recorded as {' and '.join(sorted(hashes))}" if hashes else "no hash of it is recorded"
    if not (trust.recorded and hashes):
        raise UntrustedError(f"{what}: {path} ({recorded}); {remedy}")
    try:
        folder = Path(path).is_dir()
        found = identities(path, None, {"": WEIGHTS_FILES})[""] if folder else file_identity(path)
    except WeightsError as error:
        raise UntrustedError(f"{what}: {path}, which cannot be read ({brief(error)})") from error
    if {found} != set(hashes):
        raise UntrustedError(f"{what}: {path} ({recorded}), but that file is {found} by now: it is not used")
    trust.log(f"trusted: {path} ({found})")


def of_features(features: Collection[Feature]) -> dict[str, EncoderRecord]:
    """What features of a store record of their encoders."""
    return {
        encoder: EncoderRecord.of([(f.weights_file, f.spec) for f in features if f.encoder == encoder])
        for encoder in dict.fromkeys(feature.encoder for feature in features)
    }
