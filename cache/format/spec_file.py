"""The file `spec.json` in a feature's folder: its spec and provenance."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from encode_once.cache.errors import DamagedError, StoreError
from encode_once.cache.format.atomic import write_json
from encode_once.cache.format.files import read_json, reading, typed
from encode_once.cache.keys import Spec, spec_key

MODALITIES = "image", "caption", "row"
SPEC_FILE = "spec.json"


@dataclass(frozen=True)
class EncoderRecord:
    """What a store or a run records about an encoder: its local weights, and its features' specs."""

    weights_file: str | None = None
    specs: Collection[Spec] = ()

    def hashes(self, name: str) -> set[str]:
        """The values that the specs have under a name such as "weights"."""
        return {str(spec[name]) for spec in self.specs if name in spec}


def encoder_records(features: Iterable[tuple[str, str | None, Spec]]) -> dict[str, EncoderRecord]:
    """Encoder → its record, from the encoder, the local weights and the spec of each feature."""
    records: dict[str, EncoderRecord] = {}
    for encoder, weights_file, spec in features:
        record = records.get(encoder, EncoderRecord())
        records[encoder] = EncoderRecord(record.weights_file or weights_file, [*record.specs, spec])
    return records


@dataclass(frozen=True)
class FeatureRecord:
    """The content of `spec.json`."""

    feature: str
    key: str
    spec: Spec
    provenance: Mapping[str, str]  # library versions, files: recorded, but not compared
    created: str

    @classmethod
    def new(cls, feature: str, spec: Spec, provenance: Mapping[str, str]) -> "FeatureRecord":
        """The record of a feature that is created now."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(feature, spec_key(spec), dict(spec), dict(provenance), now)

    @classmethod
    def read(cls, folder: Path) -> "FeatureRecord":
        """Read the record in a feature's folder.

        Raises:
            DamagedError: the file has another content than a record, or its key is not that of its spec.
            StoreError: there is no such file, or the disk fails.
        """
        path = folder / SPEC_FILE
        if not path.exists():
            raise StoreError(f"{path} is gone: store verify --repair restores it")
        with reading(path):
            record = typed(cls, read_json(path))
            if record.spec.get("modality") not in MODALITIES:
                raise ValueError(f"the modality of its spec is none of {', '.join(MODALITIES)}")
        if record.key != spec_key(record.spec):
            raise DamagedError(f"{path} was altered: its key is not that of its spec")
        return record

    def write(self, folder: Path) -> None:
        """Write the record to a feature's folder."""
        write_json(folder / SPEC_FILE, asdict(self))

    @property
    def header(self) -> dict[str, str]:
        """The attributes that describe a part file."""
        return {
            "feature": self.feature,
            "feature_key": self.key,
            "spec": json.dumps(self.spec, sort_keys=True),
            "provenance": json.dumps(self.provenance, sort_keys=True),
        }
