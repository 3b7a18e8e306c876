"""One job per tower of the requested encoders, with the precision and bit depth of the store's features."""

from collections.abc import Collection, Mapping, Sequence

from encode_once.cache import Store, Table, UsageError
from encode_once.cache.names import OWN, TEXT, FeatureName, captioner, with_captioner, without_output
from encode_once.cache.views import without_view
from encode_once.extract import encoders
from encode_once.extract.encoders.base import BIT_DEPTH, RANDOM, TRIAL, Options, Tower
from encode_once.extract.images.bit_depth import common_bit_depth
from encode_once.extract.images.formats import FULL_DEPTH
from encode_once.extract.precisions import Precisions
from encode_once.extract.workers import Job


def requested_jobs(
    names: Sequence[str],
    captions: Sequence[str],
    features: Collection[str] | None,
    weights: Mapping[str, str],
    precisions: Precisions,
) -> tuple[list[Job], list[str]]:
    """The jobs of the encoders that are named, also by captions, and the kinds of captions in feature names.

    Args:
        names, captions, features, weights: as for `extract.encode`.
        precisions: how the encoders compute, and for which store.

    Raises:
        UsageError: there is no such encoder, or one that is to write captions writes none.
    """
    files = {without_output(name): file for name, file in weights.items()}
    regions = encoders.requested([*names, *filter(None, map(captioner, captions))])
    resolved = {requested: _resolve(requested, files) for requested in regions}
    kinds = [kind if kind == OWN else _renamed(kind, resolved) for kind in dict.fromkeys(captions)]
    compute = precisions.compute
    options = {
        name: Options(file, precisions.of(name), compute.backend, compute.compiled, regions[requested])
        for requested, (name, file) in resolved.items()
    }
    jobs = _jobs(options, precisions)
    precisions.set_rules(jobs)
    _check_captioners(kinds, jobs)
    return _needed(jobs, features, kinds), kinds


def _resolve(requested: str, weights: Mapping[str, str]) -> tuple[str, str | None]:
    """An encoder's name in feature names, and its weights: from `weights`, or from the requested name."""
    encoder = without_view(requested)
    if encoder.endswith(TRIAL) or weights.get(encoder) == RANDOM:
        return encoders.trial_name(requested), RANDOM
    return (requested, weights[encoder]) if encoder in weights else encoders.named(requested)


def _renamed(captions: str, resolved: Mapping[str, tuple[str, str | None]]) -> str:
    """The kind of captions with the captioner's name in feature names."""
    return with_captioner(captions, resolved[captioner(captions) or ""][0])


def _jobs(options: Mapping[str, Options], precisions: Precisions) -> list[Job]:
    """A job for each tower of the encoders; that of captions is named without a view, and there once."""
    store = precisions.store
    jobs: dict[tuple[str, ...], Job] = {}  # by features
    for name, of_encoder in options.items():
        for tower in _towers(name, of_encoder, store, precisions.compute.bit_depth):
            encoder = name if tower.modality == "image" else without_view(name)
            job = Job(encoder, precisions.own(encoder, tower), store, of_encoder.weights)
            jobs.setdefault((*job.names.values(),), job)
    return [*jobs.values()]


def _towers(encoder: str, options: Options, store: Store, bit_depth: int | None) -> list[Tower]:
    """An encoder's towers, with the given bit depth, or that of their rows in the store."""
    towers = encoders.towers(encoder, options)
    for tower in towers:
        if tower.modality == "image":
            names = {str(FeatureName(encoder, output)) for output in tower.specs} & {*store.features()}
            depths = [int(store.feature(name).spec.get(BIT_DEPTH, FULL_DEPTH)) for name in names]
            tower.set_bit_depth(bit_depth or min(depths, default=FULL_DEPTH))
    return towers


def _check_captioners(captions: Sequence[str], jobs: Sequence[Job]) -> None:
    """Raise if an encoder that generates no captions is used as a captioner."""
    writers = {job.encoder for job in jobs if job.tower.modality == "image" and TEXT in job.names}
    for writer in filter(None, map(captioner, captions)):
        if writer not in writers:
            raise UsageError(
                f"--captions: {writer} writes no captions; use a captioner such as coca-b32 (extract --list)"
            )


def _needed(jobs: Sequence[Job], features: Collection[str] | None, captions: Sequence[str]) -> list[Job]:
    """The jobs that make these features or the captions, and store no others; all if `features` is None."""
    if features is None:
        return [*jobs]
    needed = {*features, *(f"{writer}/{TEXT}" for writer in map(captioner, captions) if writer)}
    for job in jobs:
        job.keep(needed)
    return [job for job in jobs if job.names]


def find_bit_depth(jobs: Sequence[Job], tables: Sequence[Table], workers: int) -> list[str]:
    """Find the bit depth of the tables' 16-bit images, for image encoders without rows in the store.

    Returns:
        Warnings about it.
    """
    new = [job for job in jobs if not job.has_rows]
    if not new:
        return []
    paths = [*dict.fromkeys(path for table in tables for path in table.images if path)]
    depth, warnings = common_bit_depth(paths, workers)
    for job in new:
        job.set_bit_depth(depth)
    return warnings
