"""Check stored features: encode a sample of their rows again and compare."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encode_once.cache import DataError, Feature, Keys, Store
from encode_once.cache.captions import all_captioned_tables
from encode_once.cache.device import device_name
from encode_once.cache.keys import pack
from encode_once.cache.views import without_view
from encode_once.extract.batches import STORED
from encode_once.extract.encoders.base import Tower
from encode_once.extract.encoders.precision import loaded
from encode_once.extract.errors import InputError
from encode_once.extract.images.decode import quiet_pillow
from encode_once.extract.recorded import recorded_towers
from encode_once.extract.trust import Trust, approve, of_features
from encode_once.extract.workers import Input, distinct_inputs

# Relative to a vector's norm. Rounding to float16 costs .0005; other batches or devices a few times that.
TOLERANCE = 0.02


@dataclass(frozen=True)
class FeatureCheck:
    """Stored rows of a feature compared with the same rows encoded again."""

    feature: str
    rows: int  # compared
    worst: float  # the largest distance between the two vectors of a row, relative to the vector's norm

    @property
    def agrees(self) -> bool:
        """Whether the difference is small enough to be numerical."""
        return self.worst <= TOLERANCE


def recompute(
    store: Store,
    rows: int,
    names: Sequence[str] = (),
    *,
    device: str = "auto",
    seed: int = 0,
    trust: Trust | None = None,
) -> list[FeatureCheck]:
    """Encode up to `rows` random rows of each feature again.

    Raises:
        DataError: none of a feature's inputs exists unchanged.
        WeightsError: an encoder's weights cannot be loaded.
        UntrustedError: the store names code or a file that `trust` does not cover.
    """
    compared = []
    features = [store.feature(name) for name in names or store.features()]
    recorded = of_features(features)
    weights = approve(str(store.path), recorded, trust or Trust())
    for encoder in dict.fromkeys(feature.encoder for feature in features if not feature.is_imported):
        by_output = {feature.output: feature for feature in features if feature.encoder == encoder}
        specs = {output: feature.spec for output, feature in by_output.items()}
        for tower in recorded_towers(encoder, specs, weights.get(without_view(encoder))):
            outputs = {output: by_output[output] for output in tower.specs if output in by_output}
            compared += _compare(store, tower, outputs, rows, device, seed)
    return compared


def _compare(
    store: Store, tower: Tower, features: dict[str, Feature], rows: int, device: str, seed: int
) -> list[FeatureCheck]:
    _, inputs = distinct_inputs(all_captioned_tables(store), tower.modality)
    keys = inputs.keys
    stored = np.all([feature.has(keys) for feature in features.values()], axis=0)
    tower, _ = loaded(tower, device_name(device))
    sample: list[tuple[Input, Any]] = []
    for i in np.random.default_rng(seed).permutation(np.flatnonzero(stored)):
        if len(sample) == rows:
            break
        try:
            with quiet_pillow():
                sample.append((inputs[i], inputs[i].open().prepared(tower)))
        except InputError:  # the file is missing or has changed
            continue
    if not sample:
        raise DataError(f"{', '.join(f.name for f in features.values())}: no input is left to encode again")
    again: dict[str, list[NDArray[Any]]] = {output: [] for output in features}
    for start in range(0, len(sample), tower.cpu_batch):
        encoded = tower.encode([prepared for _, prepared in sample[start : start + tower.cpu_batch]])
        for output, vectors in again.items():
            vectors.extend(np.asarray(vector).astype(STORED) for vector in encoded[output])
    keys = pack(item.key for item, _ in sample)
    return [
        FeatureCheck(feature.name, len(sample), max(map(_distance, _stored(feature, keys), again[output])))
        for output, feature in features.items()
    ]


def _stored(feature: Feature, keys: Keys) -> list[NDArray[Any]]:
    if not feature.ragged:
        return list(feature.read(keys))
    values, offsets = feature.read_ragged(keys)
    return np.split(values, offsets[1:-1])


def _distance(stored: NDArray[Any], again: NDArray[Any]) -> float:
    if stored.shape != again.shape:
        return float("inf")
    a, b = stored.astype(np.float64), again.astype(np.float64)
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(a), np.finfo(np.float32).tiny))
