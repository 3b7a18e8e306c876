"""Groups of rows that splits keep together, so that no model is evaluated on duplicates of its train rows."""

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
    """The option `--groups SPEC`."""

    spec: str
    feature: StoredFeature | None = None  # its near-duplicates belong together
    similarity: float = 1.0  # the least cosine of near-duplicates

    @classmethod
    def parse(cls, spec: str, store: Store, table: Table) -> "Grouping":
        """Parse `content`, `none`, a column of the table, or `FEATURE:COSINE` as `clip-vit-l/image:0.95`.

        All but `none` keep rows of equal content together.

        Raises:
            UsageError: the column or feature is unknown, or the feature has several vectors per row.
        """
        if spec in (CONTENT, NONE, *table.columns):
            return cls(spec)
        name, _, number = spec.rpartition(":")
        similarity = _float(number)
        if not name or similarity is None:
            features = [f"{feature}:0.95" for feature in store.features()]
            raise unknown_name("--groups", spec, [CONTENT, NONE, *table.columns, *features])
        if not 0 < similarity <= 1:
            raise UsageError(f"--groups {spec}: a cosine above 0, at most 1, is required after the colon")
        feature = featuring.find_feature(store, name)
        if not isinstance(feature, StoredFeature) or feature.feature.ragged:
            raise UsageError(f"--groups {spec}: {name} is not a feature of one vector per row")
        return cls(spec, feature, similarity)

    @property
    def identity(self) -> list[str]:
        """All that the groups of a table depend on: the spec and the keys of the features."""
        features = (self.feature.feature, self.feature.written) if self.feature else ()
        return [self.spec, *(feature.key for feature in features if feature)]

    def of(self, table: Table, device: str = "auto") -> Groups:
        """The groups of a table's rows; near-duplicates are compared on `device`.

        Raises:
            MissingRowsError: rows of the table were never extracted.
        """
        if self.spec == NONE:
            return np.arange(len(table))
        groups = duplicates.exact(content_keys(table))
        if self.feature:
            X = featuring.load([self.feature], table)
            return duplicates.join(groups, duplicates.near(X, self.similarity, device))
        if self.spec == CONTENT:
            return groups
        values = table.columns[self.spec]
        names = [value or f"\0{row}" for row, value in enumerate(values)]  # a row without a value is alone
        return duplicates.join(groups, np.unique(names, return_inverse=True)[1])

    def warnings(self, split: str, eval_rows: RowIndex, groups: Groups) -> list[str]:
        """A warning about a split that divides groups, as `tail` and columns may."""
        count = straddling(eval_rows, groups)
        if not count:
            return []
        are = "are duplicates of" if self.spec == CONTENT else f"belong, by --groups {self.spec}, with"
        return [f"{count} of the {len(eval_rows)} eval rows of {split} {are} train rows"]


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
