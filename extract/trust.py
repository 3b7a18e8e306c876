"""Check encoders that a store, a run or a recipe names before they are used.

The user trusts an encoder that is named on the command line. A name that is read from a file may come from
someone else: it may refer to Python code (`file.py:Class`) or to any file, as `onnx:FILE` and recorded local
weights do. Such code and files are used only if the user names them too, or passes --trust and their hash is
the recorded hash. Every caller that reads encoder names from a file must call `approve`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from encode_once.cache import Feature
from encode_once.cache.format.spec_file import EncoderRecord, encoder_records
from encode_once.cache.own_code import check
from encode_once.cache.terminal import Log, print_message
from encode_once.cache.views import without_view
from encode_once.extract.encoders import custom
from encode_once.extract.encoders.base import RANDOM, file_identity
from encode_once.extract.encoders.transformers_models import WEIGHTS_FILES, identities


@dataclass(frozen=True)
class Trust:
    """The code and files that the user trusts; by default none.

    encoders: names such as `file.py:Class`. weights: encoder → local file or folder. recorded: whether files
    with the recorded hash are trusted (--trust); `log` is called with a line for each before it is used.
    """

    encoders: Collection[str] = ()
    weights: Mapping[str, str] = field(default_factory=dict)
    recorded: bool = False
    log: Log = print_message


def approve(origin: str, recorded: Mapping[str, EncoderRecord], trust: Trust) -> dict[str, str]:
    """Local weights of the encoders that `origin` names, for `encode`: encoder → file, folder or `RANDOM`.

    Raises:
        UntrustedError: the user does not name the code or file, or its hash is not the recorded hash.
    """
    weights = {}
    for encoder, record in recorded.items():
        if custom.is_custom(encoder) and encoder not in trust.encoders:
            code, hashes = str(custom.file_of(encoder)), record.hashes("source")
            name_it = f"to run it, name it with --encoder {encoder} in extract or recipe"
            remedy = "read it, then pass --trust" if hashes else name_it
            missing = f"run the command in the folder that holds it, or copy it here; {remedy}"
            _check(f"{origin} names code to run", code, hashes, remedy, missing, trust)
        if encoder in trust.weights:
            weights[encoder] = trust.weights[encoder]
        elif record.weights_file == RANDOM:
            weights[encoder] = RANDOM
        elif file := record.weights_file or _file_in(encoder):
            hashes = record.hashes("weights")
            remedy = f"pass --weights {encoder}={file}" + ", or --trust" * bool(hashes)
            missing = f"pass --weights {encoder}=FILE"
            _check(f"{origin} names a file of weights to open", file, hashes, remedy, missing, trust)
            weights[encoder] = file
    return weights


def _file_in(encoder: str) -> str | None:
    """The file or folder that an encoder's name refers to, as in `onnx:FILE`."""
    location = "" if custom.is_custom(encoder) else encoder.partition(":")[2]
    path = location.removeprefix("local-dir:")  # open_clip's prefix for folders
    return path if path != location or (location and Path(location).exists()) else None


def _check(what: str, path: str, hashes: Collection[str], remedy: str, missing: str, trust: Trust) -> None:
    """Refuse a file unless --trust was passed and its hash is the recorded hash."""
    check(
        what, path, hashes, remedy, missing,
        consent=trust.recorded, identity=lambda: _identity(path), log=trust.log,
    )  # fmt: skip


def _identity(path: str) -> str:
    """The hash of a file, or of a folder of weights."""
    return identities(path, None, {"": WEIGHTS_FILES})[""] if Path(path).is_dir() else file_identity(path)


def of_features(features: Collection[Feature]) -> dict[str, EncoderRecord]:
    """Encoder, without a view, → what features of a store record about it; imported features have none."""
    encoded = (feature for feature in features if not feature.is_imported)
    return encoder_records(
        (without_view(feature.encoder), feature.weights_file, feature.spec) for feature in encoded
    )
