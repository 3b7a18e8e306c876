"""A .json file that is neither COCO's nor a list of records: columns, or the format of a known program.

{"data": [{"image": …, "caption": …}, …]}      records under a single name
{"0.jpg": {…} or "…" or […], …}                what is known of each image
{"558840": ["dog"], …}                         the labels of each id
{"image": […], "caption": […]}                 columns, as pandas writes them
{"classes": […], "labels": {…}}                FiftyOne's image classification
{"images": [{"sentences": …}], …}              Karpathy's dataset_flickr8k.json
[{"data": {…}, "annotations": […]}, …]         Label Studio
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from encode_once.cache.errors import DataError, brief
from encode_once.cache.input_files import open_regular, read_regular
from encode_once.extract.images.formats import IMAGE_SUFFIXES
from encode_once.extract.readers import coco
from encode_once.extract.readers.errors import file_errors
from encode_once.extract.readers.folders import Folder
from encode_once.extract.readers.image_search import SPLIT_NAMES
from encode_once.extract.readers.json_text import HEAD, holds_records, parse
from encode_once.extract.readers.label_studio import HEAD_NAMES, is_tasks, read_tasks
from encode_once.extract.readers.limits import is_too_sparse
from encode_once.extract.readers.options import ParsedOptions
from encode_once.extract.readers.raw import Cells, RawTable, Roles

ABOUT = "a .json file of columns, of FiftyOne, of Karpathy's splits or of Label Studio"
Records = list[dict[str, Any]]
KARPATHY = ("filepath", "filename", "split", "sentences")  # names that are used of an image
OTHER_FILES = ("state.json", "dataset_info.json", "dataset_dict.json", "package.json", "config.json")


def recognises(data: Path, options: ParsedOptions) -> bool:
    """Whether there are such files; in a folder only those with the name of a split, or a single one."""
    return bool(_files(data))


def has_precedence(data: Path, options: ParsedOptions) -> bool:
    """Label Studio's tasks are records of another kind than those of tables."""
    return any(map(_is_label_studio, _files(data)))


def _files(data: Path) -> list[Path]:
    if not data.is_dir():
        return [data] if data.suffix.lower() == ".json" and _is_other(data) else []
    names = sorted(name for name in Folder.listed(data).files if name.lower().endswith(".json"))
    names = [name for name in names if name not in OTHER_FILES and not name.startswith(".")]
    splits = [name for name in names if Path(name).stem.lower() in SPLIT_NAMES]
    if Folder.listed(data).pictures and not splits:
        return []  # notes next to images
    chosen = splits or (names if len(names) == 1 else [])
    return [data / name for name in chosen if _is_other(data / name)]


def _is_other(path: Path) -> bool:
    return _is_label_studio(path) or not (holds_records(path) or coco.recognises_file(path))


def _is_label_studio(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            head = file.read(HEAD)
    except OSError:
        return False
    return head.lstrip().startswith(b"[") and all(name in head for name in HEAD_NAMES)


def read(data: Path, options: ParsedOptions) -> list[RawTable]:
    """The table of each file, or of each split in it.

    Raises:
        DataError: a file is not JSON, or in none of the forms above.
    """
    return [part for path in _files(data) for part in _read(path, data, options)]


def _read(path: Path, data: Path, options: ParsedOptions) -> list[RawTable]:
    with file_errors(path):
        text = read_regular(path)
        try:
            content = parse(text)
        except ValueError as error:
            raise DataError(f"{path}: not JSON ({brief(error)}); write it again") from error
    base = data if data.is_dir() else data.parent
    folders = [base, base / "images", base / "data"]
    for form in (_karpathy, _fiftyone, _label_studio):
        if tables := form(path, content, folders):
            return tables
    records, keys = _records(content)
    if records is None:
        raise DataError(
            f"{path}: {_described(content)}; expected COCO's JSON or a list of records, "
            '[{"image": …, "labels": …}, …], or save it as JSON lines (.jsonl) or CSV'
        )
    return [_table(path.stem, path, records, keys, folders)]


def _described(content: Any) -> str:
    if isinstance(content, dict):
        return f"an object with the names {brief(', '.join(content))}" if content else "an empty object"
    return f"a list of {type(content[0]).__name__}" if isinstance(content, list) and content else "no table"


def _table(
    split: str,
    path: Path,
    records: Records,
    keys: list[str] | None,
    folders: list[Path],
    roles: Roles = Roles(),  # noqa: B008 — immutable
) -> RawTable:
    """A table whose columns are the names in the records, which have the keys if there are any."""
    names = list(dict.fromkeys(name for record in records for name in record))
    if is_too_sparse(len(records), len(names), sum(map(len, records))):
        raise DataError(f"{path}: {len(names):,} names in its records; give all of them the same names")
    columns: dict[str, Cells] = {name: [record.get(name) for record in records] for name in names}
    return RawTable.of_columns(
        split,
        [path],
        columns,
        lambda row: f"{path}, record {keys[row] if keys else row}",
        roles=roles,
        folders=folders,
    )


def _records(content: Any) -> tuple[Records | None, list[str] | None]:
    """The records in the content, with their keys if they have any; None if there are none."""
    if isinstance(content, dict) and len(content) == 1:  # {"data": [{…}]}
        (inner,) = content.values()
        content = inner if isinstance(inner, list) else content
    if isinstance(content, list):
        return (
            (content, None)
            if content and all(isinstance(record, dict) for record in content)
            else (None, None)
        )
    if not isinstance(content, dict) or not content:
        return None, None
    values = [*content.values()]
    if all(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in content):
        return [_of_image(name, value) for name, value in content.items()], [*content]
    if all(isinstance(value, list) for value in values) and len({*map(len, values)}) == 1:
        return [dict(zip(content, cells, strict=True)) for cells in zip(*values, strict=True)], None
    if all(isinstance(value, dict) and value.keys() == values[0].keys() for value in values) and values[0]:
        if all(name.isdecimal() for name in values[0]):  # {"image": {"0": …}}, as pandas writes by default
            return [{name: column[row] for name, column in content.items()} for row in values[0]], None
        return [{"id": name, **value} for name, value in content.items()], [*content]
    if len(content) > 1 and all(map(_are_labels, values)):  # {"558840": [1, 67], …}
        return [{"id": name, "labels": value} for name, value in content.items()], [*content]
    return None, None


def _are_labels(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(label, str | int) for label in value)


def _of_image(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {"file_name": name, **value}
    is_text = isinstance(value, str) and " " in value.strip()
    return {"file_name": name, "caption" if is_text else "labels": value}


# ---------------------------------------------------------------------------------------- of known programs


def _karpathy(path: Path, content: Any, folders: list[Path]) -> list[RawTable]:
    """Karpathy's splits: a table of each, `restval` by itself."""
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list) or not images or not _all_have(images, "sentences", "filename"):
        return []
    by_split: dict[str, Records] = {}
    unused: dict[str, None] = dict.fromkeys(content.keys() - {"images"})
    for image in images:
        folder = image.get("filepath") or ""
        name = f"{folder}/{image['filename']}" if folder else str(image["filename"])
        captions = [text.get("raw") or " ".join(text.get("tokens", ())) for text in image["sentences"]]
        record = {key: value for key, value in image.items() if key not in KARPATHY}
        by_split.setdefault(str(image.get("split", "train")), []).append(
            {**record, "image": name, "captions": captions}
        )
        unused |= {f"{key} of sentences": None for text in image["sentences"] for key in text if key != "raw"}
    roles = Roles(image="image", captions=("captions",))
    tables = [_table(split, path, records, None, folders, roles) for split, records in by_split.items()]
    tables[0].unused += [f"{', '.join(sorted(unused))} in {path.name}"] if unused else []
    return tables


def _fiftyone(path: Path, content: Any, folders: list[Path]) -> list[RawTable]:
    """FiftyOne's image classification: names or numbers of classes by image, without suffix."""
    if not isinstance(content, dict) or content.keys() - {"classes", "labels"}:
        return []
    if not isinstance(content.get("labels"), dict):
        return []
    if not any(Folder.listed(folder).pictures for folder in folders):
        raise DataError(
            f"{path}: FiftyOne's labels, but there are no images in data/ next to it: export the images "
            "too, or save the labels and captions as CSV"
        )
    classes = content.get("classes")
    names = classes if isinstance(classes, list) else []

    def label(value: Any) -> Any:
        value = value.get("label") if isinstance(value, dict) else value
        return names[value] if type(value) is int and 0 <= value < len(names) else value

    records = [
        {"image": name, "labels": [*map(label, value)] if isinstance(value, list) else label(value)}
        for name, value in content["labels"].items()
    ]
    roles = Roles(id="image", labels=("labels",))
    return [_table(path.stem, path, records, [*content["labels"]], folders, roles)] if records else []


def _label_studio(path: Path, content: Any, folders: list[Path]) -> list[RawTable]:
    if not is_tasks(content):
        return []
    tasks = read_tasks(content)
    table = _table(path.stem, path, tasks.records, None, folders, Roles(labels=(*tasks.label_columns,)))
    table.warnings += tasks.warnings(path)
    table.unused += tasks.unused(path)
    return [table]


def _all_have(entries: list[Any], *names: str) -> bool:
    return all(isinstance(entry, Mapping) and all(name in entry for name in names) for entry in entries)
