"""One self-contained HTML page of findings, on which a person decides each and exports the decisions."""

from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.resources import files
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from encode_once.cache import Store, Table
from encode_once.classify.audit.findings import ABSENT, KINDS, Finding, TableRow
from encode_once.classify.pages.images import CAPTION, Thumbnail, image_url
from encode_once.classify.pages.render import render, script_json
from encode_once.classify.runs.run import Run

FILES = files(__package__) / "page"
SCRIPTS = ("decisions.js", "expectation.js", "work.js")  # in the order of their use
TO_DECIDE = ("duplicate", "near-duplicate", "label")  # other kinds of findings are only shown
FILTER = ("duplicate", "near-duplicate", "missing", "wrong", "rare", "leak")  # its values, in their order
NAMES = {"missing": "labels that may be missing", "wrong": "labels that may be wrong", "rare": "rare class"}
IMAGES = 400
MOST = 5000  # findings of a kind: more than a person works through

Place = tuple[str, int]  # a table's source, and a row of it


class Decision(NamedTuple):
    """What was decided about a label of a row, as a line of a file of corrections has it."""

    split: str
    id: str
    label: str
    decision: str  # add, remove or keep


def page(
    run: Run,
    findings: Sequence[Finding],
    thumbnail: Thumbnail,
    decided: Iterable[Decision] = (),
    notes: Sequence[str] = (),
    limit: int = IMAGES,
) -> tuple[str, list[str]]:
    """The page of findings, and warnings about what it does not show.

    Args:
        decided: earlier decisions, which the page exports together with the new ones.
        notes: shown at the top.
        limit: maximum number of images.
    """
    counts = Counter(finding.kind for finding in findings)
    by_kind = {kind: [f for f in findings if f.kind == kind][:MOST] for kind in KINDS}
    warnings = [
        f"the page has the first {MOST} of {counts[kind]} findings of the kind {kind}; the table has all"
        for kind in KINDS
        if counts[kind] > MOST
    ]
    shown = list(chain.from_iterable(by_kind.values()))
    rows = _rows(by_kind)
    number_of = {place: number for number, place in enumerate(rows)}
    content, image_warnings = _contents(list(rows.values()), thumbnail, limit)
    payload = {
        "key": f"encode-once audit {run.path.name} {run.record.created}",
        "rows": content,
        "findings": [_finding(finding, number_of) for finding in shown],
        "decided": [list(decision) for decision in decided],
    }
    warnings += image_warnings
    text = render(
        FILES,
        SCRIPTS,
        title=f"Audit of {run.path.name}",
        notes=[*notes, *warnings],
        run=run,
        data="/".join(Path(run.record.table).parts[-2:]),  # the rest is the reader's machine
        found=_numbers(shown),
        names=NAMES,
        classes=sorted({label for finding in shown for label in finding.labels}),
        payload=script_json(payload),
    )
    return text, warnings


def corrections_files(store: Store, table: Table) -> list[str]:
    """The files by which the labels of a run's table were corrected when it was extracted.

    A store may be a stranger's: only files whose content is recorded there are among them, and a table whose
    files changed is no run's table, see `own_table`.
    """
    return [
        header.corrections
        for header in store.headers()
        if header.corrections in table.more_sources
        and any(source.path == header.corrections for source in header.sources or ())
    ]


def _numbers(findings: Sequence[Finding]) -> dict[str, int]:
    """How many findings of each kind there are, by the values of the page's filter."""
    kinds = Counter(
        finding.kind if finding.kind != "label" else "missing" if finding.given == ABSENT else "wrong"
        for finding in findings
    )
    return {kind: kinds[kind] for kind in FILTER if kinds[kind]}


def _place(row: TableRow) -> Place:
    return row.table.source, row.row  # tables of different data may have the same split and ids


def _rows(by_kind: dict[str, list[Finding]]) -> dict[Place, TableRow]:
    """The rows of findings, each once: first those of the first findings of each kind to decide, in turn."""
    to_decide, others = [[by_kind[kind] for kind in kinds] for kinds in (TO_DECIDE, ("leak", "rare"))]
    in_turn = chain(*zip_longest(*to_decide), *others)
    return {
        _place(row): row
        for finding in filter(None, in_turn)
        for row in (finding.row, finding.other_row)
        if row is not None
    }


def _finding(finding: Finding, number_of: dict[Place, int]) -> dict[str, Any]:
    """A finding for the scripts of the page; rows by their number."""
    row, other = (number_of[_place(row)] if row else None for row in (finding.row, finding.other_row))
    return {
        "kind": finding.kind,
        "score": finding.score,
        "labels": list(finding.labels),
        "missing": finding.kind == "label" and finding.given == ABSENT,
        "why": finding.why,
        "row": row,
        "other": other,
    }


def _contents(
    rows: Sequence[TableRow], thumbnail: Thumbnail, limit: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows for the scripts of the page, the first `limit` with their images; and warnings."""
    contents, images, unreadable = [], 0, 0
    for row in rows:
        images += bool(row.image)
        left_out = bool(row.image) and images > limit
        image = "" if left_out else image_url(row.table, row.row, thumbnail)
        unreadable += bool(row.image) and not left_out and not image
        contents.append(
            {
                "id": row.id,
                "split": row.split,
                "caption": row.caption[:CAPTION],
                "labels": list(row.labels),
                "has_image": bool(row.image),
                "left_out": left_out,
                "image": image,
            }
        )
    warnings = []
    if images > limit:
        warnings.append(f"{images - limit} of {images} images are not in the page: --thumbnails N shows more")
    if unreadable:
        warnings.append(f"{unreadable} of {min(images, limit)} images cannot be read, or are others now")
    return contents, warnings
