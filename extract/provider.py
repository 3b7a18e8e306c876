"""Features on demand: whether an encoder can make one now, and all that are wanted made at once."""

from collections.abc import Callable, Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from encode_once.cache import EncodeOnceError, Store, UsageError
from encode_once.cache.captions import OWN, captioner
from encode_once.cache.errors import brief
from encode_once.cache.feature import REGIONS, encoder_of
from encode_once.cache.format.spec_file import EncoderRecord
from encode_once.extract.encoders import card
from encode_once.extract.pipeline import encode
from encode_once.extract.report import Report
from encode_once.extract.trust import Trust, UntrustedError, approve


def asked_for(feature: str) -> tuple[str, str]:
    """The encoder to ask for a feature, and whose captions it is given."""
    name, _, captions = feature.partition("@")
    return encoder_of(name), captions or OWN


class Supply:
    """Encodes features of some data.

    Args:
        data, store, options: as for `extract.encode`.
        weights: encoder → local file.
        told: called with each extraction's report.
        encoders: code of the user's own that may run, `file.py:Class`; other code is refused.
    """

    def __init__(
        self,
        data: str,
        store: Store,
        weights: Mapping[str, str],
        told: Callable[[Report], None] = lambda report: None,
        encoders: Collection[str] = (),
        **options: Any,
    ) -> None:
        self._data, self._store, self._weights, self._told = data, store, weights, told
        self._options = options
        self._trust = Trust(encoders, weights)
        self._reasons: dict[str, str] = {}  # feature → why it is not to be had

    def read(self) -> Report:
        """Have the store know the data's tables; nothing is encoded."""
        return encode(self._data, [], self._store, **self._options)

    def offered(self, pattern: str) -> list[str]:
        """The features that given weights could make, whose names fit the pattern."""
        output = pattern.rpartition("/")[2]
        names = [f"{encoder}/{output}" for encoder in self._weights]
        return [name for name in names if fnmatchcase(name, pattern)]

    def lacks(self, feature: str) -> str:
        """Why a feature cannot be encoded; empty where it can, as far as one knows before trying."""
        if feature in self._reasons:
            return self._reasons[feature]
        encoder, captions = asked_for(feature)
        for name in filter(None, (encoder.removesuffix(REGIONS), captioner(captions))):
            try:
                self._approve(name)
                here = name in self._weights or name in self._trust.encoders
                state = "here" if here else card(name).state
            except (UsageError, UntrustedError) as error:
                return str(error)
            if state != "here" and not state.endswith("to be fetched"):
                return f"{name}: {state}"
        return ""

    def _approve(self, *encoders: str) -> None:
        """Refuse code and files that a recipe names and the user does not."""
        approve("the recipe", dict.fromkeys(encoders, EncoderRecord()), self._trust)

    def make(self, features: Sequence[str]) -> None:
        """Encode features, all of the same captions in one pass; where that fails, one by one."""
        by_captions: dict[str, list[str]] = {}
        for feature in features:
            by_captions.setdefault(asked_for(feature)[1], []).append(feature)
        for captions, wanted in by_captions.items():
            why = self._encode(wanted, captions)
            for feature in wanted:
                alone = self._encode([feature], captions) if why and len(wanted) > 1 else why
                # Whoever asks again, though nothing failed, has not found it in the store.
                self._reasons[feature] = alone or f"{feature}: the encoder gave none of any row"

    def _encode(self, features: Sequence[str], captions: str) -> str:
        """Why it failed, or nothing."""
        names = list(dict.fromkeys(asked_for(feature)[0] for feature in features))
        needed = {*(name.removesuffix(REGIONS) for name in names), *filter(None, [captioner(captions)])}
        weights = {name: file for name, file in self._weights.items() if name in needed}
        try:
            self._approve(*needed)
            report = encode(
                self._data, names, self._store, weights=weights, captions=[captions], **self._options
            )
        except EncodeOnceError as error:
            return brief(error)
        self._told(report)
        return ""
