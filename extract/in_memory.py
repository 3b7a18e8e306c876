"""Encode images and captions in memory, as features of which the specs are recorded."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from encode_once.cache import Spec, UsageError
from encode_once.cache.device import device_name
from encode_once.cache.process import SharedContext
from encode_once.cache.views import without_view
from encode_once.extract.batches import (
    Openable,
    Row,
    TowerRunner,
    encode_batch,
    encode_in_batches,
)
from encode_once.extract.compute import ComputeOptions
from encode_once.extract.encoders.base import torch_threads
from encode_once.extract.encoders.runtime import MIN_INPUTS
from encode_once.extract.errors import InputError
from encode_once.extract.images.decode import quiet_pillow
from encode_once.extract.recorded import recorded_towers

QUIET = SharedContext(quiet_pillow)  # for all that threads do at once, see `SharedContext`
_SINGLE_THREADED = SharedContext(lambda: torch_threads(1), threaded=True)


class LoadedEncoders:
    """Encoders that are loaded once, and encode images and captions as often as wanted, in any thread.

    Args:
        specs: encoder → output → the recorded spec.
        weights: encoder → local file, or `RANDOM`; without one, the published weights.
        device, compute: as for `extract.encode`.

    Raises:
        UsageError: `compute` has what the specs decide, or `min_cosine`, as nothing is compared.
        SpecMismatchError, WeightsError: as `recorded_towers`.
    """

    def __init__(
        self,
        specs: Mapping[str, Mapping[str, Spec]],
        weights: Mapping[str, str],
        *,
        device: str = "auto",
        compute: ComputeOptions = ComputeOptions(),
    ) -> None:
        compute.check_recorded()
        if compute.min_cosine is not None:
            raise UsageError("min_cosine is for extractions: nothing is compared here")
        self.device = device_name(device)
        self._workers = compute.workers or os.cpu_count() or 1
        self.runners = [
            TowerRunner(encoder, tower, weights.get(without_view(encoder)))
            for encoder, outputs in specs.items()
            for tower in recorded_towers(encoder, outputs, weights.get(without_view(encoder)), compute)
        ]
        with torch_threads(1):
            for runner in self.runners:  # for enough inputs that the backend is chosen by its speed
                runner.load(self.device, self._workers, compute.batch_size, MIN_INPUTS)

    def encode(
        self, features: Collection[str], inputs: Sequence[Openable]
    ) -> dict[str, list[Row | InputError]]:
        """Encode inputs of one modality: feature → the row of each input, or its error. Thread-safe.

        features: `ENCODER/OUTPUT`, all of this modality.
        """
        runners = [runner for runner in self.runners if {*runner.names.values()} & {*features}]
        encoded: dict[str, list[Row | InputError]] = {name: [] for name in features}
        with QUIET():
            for runner, output, rows in self._rows([(item, runners) for item in inputs] if runners else []):
                if runner.names[output] in encoded:
                    encoded[runner.names[output]] += rows
        return encoded

    def _rows(
        self, inputs: Sequence[tuple[Openable, Sequence[TowerRunner]]]
    ) -> Iterable[tuple[TowerRunner, str, Sequence[Row | InputError]]]:
        """Batches of rows of each runner and output, in the order of the inputs."""
        if len(inputs) == 1:  # no thread is faster than this one
            _, results = encode_batch(inputs, alone=True)
            yield from _flat(results)
        elif inputs:
            with _SINGLE_THREADED(), ThreadPoolExecutor(min(self._workers, len(inputs))) as pool:
                for _, results in encode_in_batches(inputs, inputs[0][1], self._workers, pool):
                    yield from _flat(results)


def _flat(
    results: Iterable[tuple[TowerRunner, object, Mapping[str, Sequence[Row | InputError]]]],
) -> Iterable[tuple[TowerRunner, str, Sequence[Row | InputError]]]:
    return ((runner, output, rows) for runner, _, by_output in results for output, rows in by_output.items())
