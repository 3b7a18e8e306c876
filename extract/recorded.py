"""The towers that make features as their specs are recorded."""

from collections.abc import Mapping

from encode_once.cache import Spec, SpecMismatchError
from encode_once.cache.keys import spec_differences, spec_key
from encode_once.cache.names import REGIONS, FeatureName
from encode_once.extract import encoders
from encode_once.extract.compute import ComputeOptions
from encode_once.extract.encoders.base import BIT_DEPTH, EXACT, Options, Tower, number_format
from encode_once.extract.encoders.precision import LEAST_COSINE
from encode_once.extract.images.formats import FULL_DEPTH


def recorded_towers(
    encoder: str,
    specs: Mapping[str, Spec],
    weights: str | None,
    compute: ComputeOptions = ComputeOptions(),
) -> list[Tower]:
    """The towers, not loaded, that make an encoder's outputs as their specs are recorded.

    Args:
        specs: output → spec.
        weights: a local file, `RANDOM`, or None for the published weights.
        compute: what runs image networks; the values are those of the specs.

    Raises:
        SpecMismatchError: the encoder makes an output in another way, or not at all.
        WeightsError: the weights cannot be read.
    """
    first = next(iter(specs.values()))
    precision = number_format(str(first.get("precision", EXACT)))
    options = Options(weights, precision, compute.backend, compute.compiled, REGIONS in specs)
    towers, lacking = [], {*specs}
    for tower in encoders.towers(encoder, options):
        outputs = specs.keys() & tower.specs.keys()
        for output in outputs:
            tower.set_bit_depth(int(specs[output].get(BIT_DEPTH, FULL_DEPTH)))
            precision = str(specs[output].get("precision", EXACT))
            if tower.casts and number_format(precision) in (EXACT, *LEAST_COSINE):
                tower.set_precision(precision)
            if spec_key(tower.specs[output]) != spec_key(specs[output]):
                raise SpecMismatchError(
                    f"{FeatureName(encoder, output)} is not made as it was before "
                    f"({spec_differences(specs[output], tower.specs[output])})"
                )
        if outputs:
            towers.append(tower)
        lacking -= outputs
    if lacking:
        raise SpecMismatchError(f"{encoder} does not give {', '.join(sorted(lacking))} any more")
    return towers
