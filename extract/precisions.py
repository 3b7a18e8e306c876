"""The precision in which each encoder of an extraction computes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from encode_once.cache import Shard, Store, UsageError
from encode_once.cache.names import OWN, FeatureName
from encode_once.extract.compute import ComputeOptions
from encode_once.extract.encoders.base import EXACT, Tower, number_format
from encode_once.extract.encoders.precision import AUTOCAST, WEIGHTS, PrecisionRule
from encode_once.extract.workers import Job


@dataclass(frozen=True)
class Precisions:
    """The precision of each tower: the one requested, or with "auto" and "fast" that of the feature.

    So a feature has only one. That of shards depends on neither their machines' speed nor their inputs.

    Raises:
        UsageError: shards are to choose it by speed.
    """

    store: Store
    device: str
    compute: ComputeOptions
    shard: Shard

    def __post_init__(self) -> None:
        if self.compute.precision == "fast" and self.shard.count > 1:
            raise UsageError(
                "--precision fast: shards on other machines would differ; name float32 or bfloat16"
            )

    @property
    def _is_automatic(self) -> bool:
        return self.compute.precision in ("auto", "fast")

    def of(self, encoder: str) -> str:
        """That of an encoder whose tower has no feature."""
        if not self._is_automatic:
            return self.compute.precision
        for name in self.store.features():
            if FeatureName.parse(name, OWN).encoder == encoder:
                return number_format(self._recorded(name))
        return "float16" if self.device.startswith("cuda") else EXACT

    def own(self, encoder: str, tower: Tower) -> Tower:
        """The tower, in the precision of its own features; also if only their way was not requested."""
        names = {str(FeatureName(encoder, output)) for output in tower.specs} & {*self.store.features()}
        recorded = self._recorded(min(names)) if names else EXACT
        if (
            names
            and tower.casts
            and (self._is_automatic or self.compute.precision == number_format(recorded))
        ):
            tower.set_precision(recorded)
        return tower

    def _recorded(self, feature: str) -> str:
        return str(self.store.feature(feature).spec.get("precision", EXACT))

    def set_rules(self, jobs: Sequence[Job]) -> None:
        """Set what may follow from comparisons of each job's precision with float32."""
        alone, least_cosine = self.shard.count == 1, self.compute.min_cosine
        new = PrecisionRule(
            least_cosine,
            (WEIGHTS, AUTOCAST) if alone else (WEIGHTS,),
            "float32" if self._is_automatic and alone else "error",
        )
        if self._is_automatic and alone and self.compute.backend != "onnxruntime":
            new = replace(new, if_faster="used" if self.compute.precision == "fast" else "reported")
        for job in jobs:
            job.rule = PrecisionRule.decided(least_cosine) if job.is_declared else new
