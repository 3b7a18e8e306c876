"""What is at hand of the features that a file names: each itself, or the first that may replace it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Protocol

from encode_once.cache import MissingRowsError, Store, Table, UsageError
from encode_once.classify.data import features as featuring
from encode_once.classify.data.columns import is_of_column
from encode_once.classify.data.learned import is_learned, texts_of


class FeatureProvider(Protocol):
    """Encodes features that a store lacks: `extract.provider.Provider` for example."""

    def offered(self, pattern: str) -> list[str]:
        """The features it could encode whose names match a pattern such as `onnx:*/scores`."""
        ...

    def lacks(self, feature: str) -> str:
        """Why a feature cannot be encoded; empty if it can."""
        ...

    def make(self, features: Sequence[str]) -> None:
        """Encode the features; `lacks` gives the reason for those that turn out to be impossible."""
        ...


@dataclass(frozen=True)
class Available:
    """What the features of a file are here, by their names in it."""

    used: Mapping[str, str] = field(default_factory=dict)  # name → itself, or what replaces it
    to_encode: Sequence[str] = ()  # those used that are not in the store
    lacks: Mapping[str, str] = field(default_factory=dict)  # name → why there is nothing to use for it

    @property
    def replaced(self) -> dict[str, str]:
        """Name → its replacement, if it has one; what a pattern matches does not replace it."""
        return {
            name: used for name, used in self.used.items() if used != name and not fnmatchcase(used, name)
        }


@dataclass(frozen=True)
class AvailableFeatures:
    """Looks for features in a store, and in what can be encoded.

    table: whose rows need the features; None to look only whether the store has them.
    provider: encodes what the store lacks; None if nothing can be encoded.
    """

    store: Store
    table: Table | None = None
    provider: FeatureProvider | None = None

    def find(self, names: Sequence[str], instead: Mapping[str, Sequence[str]]) -> Available:
        """For each name, the first of it and what may replace it that is stored or can be encoded.

        Names may be patterns, such as `onnx:*/scores`.
        """
        used: dict[str, str] = {}
        to_encode, lacks = list[str](), dict[str, str]()
        for name in names:
            reasons = []
            for candidate in self._candidates((name, *instead.get(name, ()))):
                is_stored = self._is_stored(candidate)
                reason = "" if is_stored else self._reason(candidate)
                if not reason:
                    used[name] = candidate
                    to_encode += [] if is_stored else [candidate]
                    break
                reasons.append(reason)
            else:
                reasons.append(f"{name}: none is in {self.store.location}, and no file is given")
                lacks[name] = reasons[0]
        return Available(used, to_encode, lacks)

    def _candidates(self, names: Sequence[str]) -> Iterator[str]:
        for name in names:
            if "*" not in name:
                yield name
                continue
            yield from (stored for stored in self.store.features() if fnmatchcase(stored, name))
            yield from self.provider.offered(name) if self.provider else ()

    def _is_stored(self, name: str) -> bool:
        """Whether no row of the table waits for the feature, and at least one row has it."""
        if self.table is None:
            return is_learned(name) or name in self.store.features()
        try:
            if is_learned(name):
                return any(texts_of(name, self.table))
            return not featuring.find_feature(self.store, name).block(self.table).missing().all()
        except (UsageError, MissingRowsError):
            return False

    def _reason(self, name: str) -> str:
        """Why a feature that is not stored cannot be encoded; empty if it can."""
        if is_learned(name):
            return f"{name}: there {'is no such column' if is_of_column(name) else 'are no captions'}"
        return self.provider.lacks(name) if self.provider else f"{name}: not in {self.store.location}"
