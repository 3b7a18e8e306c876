"""Join the rows of one image: five captions of it, or a row for each of its labels."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from encode_once.cache.errors import DataError
from encode_once.extract.readers.split_rows import SplitRows

Value = TypeVar("Value")


def joined(rows: SplitRows) -> SplitRows:
    """The same rows, with one for each id: its captions and labels are those of all its rows, in their order.

    Equal captions of an image are kept once. Other columns are kept if the rows of each image agree.

    Raises:
        DataError: rows of one id have different images.
    """
    if len(set(rows.ids)) == len(rows.ids):
        return rows
    members: dict[str, list[int]] = {}
    for row, row_id in enumerate(rows.ids):
        members.setdefault(row_id, []).append(row)
    if "" in members:
        return rows  # which is refused
    _check_images(rows, members)
    groups = list(members.values())
    first = [group[0] for group in groups]
    kept = {name: cells for name, cells in rows.columns.items() if _agree(cells, groups)}
    notes = [f"{len(rows.ids)} rows are of {len(groups)} images, by {rows.id_column}: joined"]
    if dropped := [name for name in rows.columns if name not in kept]:
        notes.append(f"{', '.join(dropped)} differs between rows of an image: not kept")
    where = rows.where
    captions = rows.captions
    if captions is not None:
        captions = [
            tuple(dict.fromkeys(text for row in group for text in rows.captions[row]))  # type: ignore[index]
            for group in groups
        ]
        equal = sum(map(len, rows.captions or ())) - sum(map(len, captions))
        notes += [f"{equal} equal captions of an image are kept once"] if equal else []
    return replace(
        rows,
        where=lambda row: where(first[row]),
        ids=list(members),
        captions=captions,
        labels=_joined_cells(rows.labels, groups),
        unknown=_joined_cells(rows.unknown, groups),
        image_names=_of(rows.image_names, first),
        images=_of(rows.images, first),
        columns={name: [cells[row] for row in first] for name, cells in kept.items()},
        notes=rows.notes | {"rows": notes},
    )


def _joined_cells(
    cells: Sequence[tuple[Value, ...]] | None, groups: Sequence[Sequence[int]]
) -> list[tuple[Value, ...]] | None:
    if cells is None:
        return None
    return [tuple(entry for row in group for entry in cells[row]) for group in groups]


def _check_images(rows: SplitRows, members: dict[str, list[int]]) -> None:
    names = rows.image_names or rows.images
    if names is None:
        return
    for row_id, group in members.items():
        for row in group:
            if names[row] != names[group[0]]:
                raise DataError(
                    f"{rows.where(row)}: the id {row_id!r} is already used by {rows.where(group[0])}, for "
                    f"another image ({names[row]!r}, {names[group[0]]!r}); rename one of them, or use "
                    "--id-column"
                )


def _agree(cells: Sequence[Any], groups: Sequence[Sequence[int]]) -> bool:
    return all(cells[row] == cells[group[0]] for group in groups for row in group[1:])


def _of(column: Sequence[Value] | None, rows: Sequence[int]) -> list[Value] | None:
    return None if column is None else [column[row] for row in rows]
