"""Which rows no split parts, so that none is judged by a model that was fitted on its double."""

from dataclasses import dataclass

import numpy as np

from encode_once.cache import Store, Table, UsageError
from encode_once.cache.errors import unknown_name
from encode_once.classify.arrays import Groups, RowIndex
from encode_once.classify.data import duplicates
from encode_once.classify.data import features as featuring
from encode_once.classify.data.features import StoredFeature
from encode_once.classify.data.rows import content_keys
from encode_once.classify.data.splits import straddling

CONTENT, NONE = "content", "none"


@dataclass(frozen=True)
class Grouping:
    """What `--groups SPEC` asks for."""

    spec: str
    feature: StoredFeature | None = None  # rows near one another by it belong together
    similarity: float = 1.0  # from that cosine on

    @classmethod
    def parse(cls, spec: str, store: Store, table: Table) -> "Grouping":
        """A SPEC is `content`, `none`, a column of the table, or `FEATURE:COSINE` as `clip-vit-l/image:0.95`.

        Rows of equal content are together under all but `none`.

        Raises:
            UsageError: there is no such column or feature, or the feature has not one vector a row.
        """
        if spec in (CONTENT, NONE, *table.columns):
            return cls(spec)
        name, _, told = spec.rpartition(":")
        similarity = _number(told)
        if not name or similarity is None:
            features = [f"{feature}:0.95" for feature in store.features()]
            raise unknown_name("--groups", spec, [CONTENT, NONE, *table.columns, *features])
        if not 0 < similarity <= 1:
            raise UsageError(f"--groups {spec}: a cosine above 0, and at most 1, belongs after the colon")
        feature = featuring.find_feature(store, name)
        if not isinstance(feature, StoredFeature) or feature.feature.ragged:
            raise UsageError(f"--groups {spec}: {name} is not a feature of one vector a row")
        return cls(spec, feature, similarity)

    @property
    def decides(self) -> list[str]:
        """What of it, beside the table, decides the groups."""
        made = (self.feature.feature, self.feature.written) if self.feature else ()
        return [self.spec, *(one.key for one in made if one)]

    def of(self, table: Table, device: str = "auto") -> Groups:
        """The groups of a table's rows; near-duplicates are compared on that device.

        Raises:
            MissingRowsError: rows that were never extracted.
        """
        if self.spec == NONE:
            return np.arange(len(table))
        groups = duplicates.exact(content_keys(table))
        if self.feature:
            X = featuring.load([self.feature], table)[:]
            return duplicates.joined(groups, duplicates.near(X, self.similarity, device))
        if self.spec == CONTENT:
            return groups
        values = table.columns[self.spec]
        named = [value or f"\0{row}" for row, value in enumerate(values)]  # of no name: alone
        return duplicates.joined(groups, np.unique(named, return_inverse=True)[1])

    def warnings(self, split: str, held: RowIndex, groups: Groups) -> list[str]:
        """What to tell of a split that parts groups all the same, as `tail` and columns do."""
        many = straddling(held, groups)
        if not many:
            return []
        are = "are duplicates of" if self.spec == CONTENT else f"belong, by --groups {self.spec}, with"
        return [f"{many} of the {len(held)} rows held out by {split} {are} training rows"]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
