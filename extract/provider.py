"""Provide features on demand: check whether encoders can run, and encode missing features together."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from encode_once.cache import EncodeOnceError, Store, UsageError
from encode_once.cache.errors import brief
from encode_once.cache.format.spec_file import EncoderRecord
from encode_once.cache.names import FeatureName
from encode_once.cache.own_code import UntrustedError
from encode_once.extract.encoders import card
from encode_once.extract.encoders.base import RANDOM
from encode_once.extract.pipeline import encode
from encode_once.extract.readers import ReadOptions
from encode_once.extract.report import Report
from encode_once.extract.trust import Trust, approve


class Provider:
    """Encodes features of a data folder.

    Args:
        data, store, read, device: as for `extract.encode`.
        weights: encoder → local file.
        log: called with the report of each extraction.
        encoders: the user's own encoders that may run, `file.py:Class`; others are refused.
    """

    def __init__(
        self,
        data: str,
        store: Store,
        weights: Mapping[str, str],
        log: Callable[[Report], None] = lambda report: None,
        encoders: Collection[str] = (),
        read: ReadOptions = ReadOptions(),
        device: str = "auto",
    ) -> None:
        self._data, self._store, self._weights, self._log = data, store, weights, log
        self._read, self._device = read, device
        self._trust = Trust(encoders, weights)
        self._reasons: dict[str, str] = {}  # feature → why it cannot be encoded

    def read(self) -> Report:
        """Save the data's tables in the store, without encoding."""
        return encode(self._data, [], self._store, read=self._read)

    def offered(self, pattern: str) -> list[str]:
        """The features that match the pattern, of encoders for which the user gave weights."""
        name = FeatureName.parse(pattern)
        names = [str(replace(name, encoder=encoder)) for encoder in self._weights]
        return [name for name in names if fnmatchcase(name, pattern)]

    def lacks(self, feature: str) -> str:
        """Why a feature cannot be encoded; empty if it probably can. Does not load the encoder."""
        if feature in self._reasons:
            return self._reasons[feature]
        for name in FeatureName.parse(feature).encoders:
            try:
                self._approve(name)
                if self._weights.get(name) == RANDOM:
                    return f"{name}: random weights are for trials with fit, whose features they name"
                here = name in self._weights or name in self._trust.encoders
                state = "here" if here else card(name).state
            except (UsageError, UntrustedError) as error:
                return str(error)
            if state != "here" and not state.endswith("to be fetched"):
                return f"{name}: {state}"
        return ""

    def _approve(self, *encoders: str) -> None:
        """Refuse code and files that the recipe names but the user does not."""
        approve("the recipe", dict.fromkeys(encoders, EncoderRecord()), self._trust)

    def make(self, features: Sequence[str]) -> None:
        """Encode features, those of the same captions in one pass; if that fails, one by one."""
        by_captions: dict[str, list[str]] = {}
        for feature in features:
            by_captions.setdefault(FeatureName.parse(feature).captions, []).append(feature)
        for captions, group in by_captions.items():
            error = self._encode(group, captions)
            for feature in group:
                reason = self._encode([feature], captions) if error and len(group) > 1 else error
                # If the feature is requested again without an error, the encoder produced no rows.
                self._reasons[feature] = reason or f"{feature}: the encoder produced no rows"

    def _encode(self, features: Sequence[str], captions: str) -> str:
        """Encode; return the error message, empty if there is none."""
        names = [FeatureName.parse(feature) for feature in features]
        requested = list(dict.fromkeys(name.requested for name in names))
        needed = {encoder for name in names for encoder in name.encoders}
        weights = {name: file for name, file in self._weights.items() if name in needed}
        try:
            self._approve(*needed)
            report = encode(
                self._data,
                requested,
                self._store,
                weights=weights,
                captions=[captions],
                features=[name.stored for name in names],
                read=self._read,
                device=self._device,
            )
        except EncodeOnceError as error:
            return brief(error)
        self._log(report)
        return ""
