"""WebDataset: uncompressed tar archives in which members with the same name up to the first dot are a sample.

    0.jpg (or another image suffix)  the image, read from the archive on demand, never extracted
    0.txt, 0.caption                 a caption
    0.json                           an object with `caption`, `captions`, `label` or `labels`
    0.cls                            the label, or several as in the plain data folder

The id is the image's path in the archive; without an image, the common part of the members' names. The
archives of a split have names that differ in a number: `train-000.tar`, `train-001.tar` …
"""

import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from encode_once.cache.errors import DataError, brief
from encode_once.cache.input_files import TEXT_MB, check_size, open_regular
from encode_once.extract.images import containers
from encode_once.extract.images.formats import IMAGE_SUFFIXES
from encode_once.extract.readers.bad_rows import BadRows
from encode_once.extract.readers.cells import captions_of
from encode_once.extract.readers.errors import file_errors
from encode_once.extract.readers.folders import Folder
from encode_once.extract.readers.json_text import parse
from encode_once.extract.readers.limits import is_too_sparse
from encode_once.extract.readers.options import ParsedOptions
from encode_once.extract.readers.raw import Cells, RawTable, Roles

ABOUT = (
    "WebDataset's .tar archives: images with .txt, .json or .cls of the same name, or a folder of archives"
)
SHARD = re.compile(r"(?:(.+)[-_.])?\d+")
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
CAPTIONS = ("txt", "caption")
ID = "ImageID"  # as the id column is called in predictions
MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # of gzip, bzip2, xz, zstd
BLOCK = 512  # bytes of a tar archive's header


def recognises(data: Path, options: ParsedOptions) -> bool:
    """Whether there are archives; compressed ones count too, so that `read` can refuse them."""
    return bool(_archives(data))


def _archives(data: Path) -> list[Path]:
    paths = [data / name for name in sorted(Folder.listed(data).files)] if data.is_dir() else [data]
    return [path for path in paths if path.name.lower().endswith((".tar", *COMPRESSED))]


def read(data: Path, options: ParsedOptions) -> list[RawTable]:
    """The table of each archive name without number.

    The other values of the JSON objects are columns, too, which `--label-column` may name.

    Raises:
        DataError: an archive is compressed, damaged or truncated, or a sample is not in the format above.
    """
    splits: dict[str, list[Path]] = {}
    for path in _archives(data.resolve()):
        shard = SHARD.fullmatch(path.stem)
        splits.setdefault((shard[1] or "train") if shard else path.stem, []).append(path)
    return [_table(split, paths, options.bad_rows) for split, paths in splits.items()]


@dataclass(slots=True)
class _Sample:
    """The contents of the members with the same name."""

    archive: Path
    id: str
    image: str = ""  # its source
    texts: list[str] = field(default_factory=list)
    captions: tuple[str, ...] = ()  # from the JSON, which may repeat the text
    labels: Any = None  # a text, a list or a number, as the member has it
    fields: dict[str, Any] = field(default_factory=dict)  # the JSON's other values

    @property
    def all_captions(self) -> list[str]:
        return [*(text for text in self.texts if text not in self.captions), *self.captions]


def _table(split: str, paths: list[Path], bad_rows: BadRows) -> RawTable:
    warnings: list[str] = []
    samples = []
    for path in paths:
        with file_errors(path):
            samples += _of_archive(path, warnings, bad_rows)
    if not samples:
        raise DataError(f"{paths[0]}: the archive contains no samples")
    columns: dict[str, Cells] = {
        ID: [sample.id for sample in samples],
        "image": [sample.image for sample in samples],
    }
    captions = [sample.all_captions for sample in samples]
    if any(captions):
        columns["captions"] = captions
    if any(sample.labels is not None for sample in samples):
        columns["labels"] = [sample.labels for sample in samples]
    names = dict.fromkeys(name for sample in samples for name in sample.fields)
    if is_too_sparse(len(samples), len(names), sum(len(sample.fields) for sample in samples)):
        raise DataError(f"{paths[0]}: {len(names):,} names in its JSON; give all samples the same names")
    for name in names.keys() - columns.keys():
        columns[name] = [sample.fields.get(name) for sample in samples]
    return RawTable.of_columns(
        split,
        paths,
        columns,
        lambda row: f"{samples[row].archive}, sample {samples[row].id!r}",
        sources={"image": lambda: columns[ID]},
        roles=Roles(
            id=ID,
            image="image",
            captions=("captions",) if any(captions) else (),
            labels=("labels",) if "labels" in columns else (),
        ),
        warnings=warnings,
    )


def _of_archive(path: Path, warnings: list[str], bad_rows: BadRows) -> list[_Sample]:
    """The samples of an archive, in the order of their first members."""
    samples: dict[str, _Sample] = {}
    seen: set[str] = set()
    ignored: set[str] = set()  # suffixes
    bad: set[str] = set()  # keys of samples with a member that cannot be read
    for member, content in _members(path, warnings):
        name = member.name.removeprefix("./")
        key, suffix = _split(name)
        if name in seen:
            raise DataError(f"{path}: two members have the name {name!r}; rename one of them")
        seen.add(name)
        sample = samples.get(key) or _Sample(path, key)
        try:
            if name.startswith("/") or ".." in name.split("/"):
                raise ValueError("its name leads out of the archive")
            if not _add_member(sample, name, suffix, member, content):
                ignored.add(suffix)
                continue
        except (ValueError, tarfile.TarError, OSError) as error:
            if isinstance(error, DataError):
                raise
            reason = brief((isinstance(error, OSError) and error.strerror) or error)
            bad_rows.add(DataError(f"{path}, member {name!r}: cannot be read ({reason}); write it again"))
            bad.add(key)
        samples[key] = sample
    if ignored:
        suffixes = brief(", ".join(f"*.{suffix}" for suffix in sorted(ignored)))
        warnings.append(f"{path}: members that are not read: {suffixes}")
    return [sample for key, sample in samples.items() if key not in bad]


def _split(name: str) -> tuple[str, str]:
    """The name that a sample's members share, and the suffix after the file name's first dot."""
    folder, slash, file_name = name.rpartition("/")
    stem, _, suffix = file_name.partition(".")
    return f"{folder}{slash}{stem}", suffix.lower()


def _add_member(
    sample: _Sample, name: str, suffix: str, member: tarfile.TarInfo, content: Callable[[], bytes]
) -> bool:
    """Add a member to its sample; False if its suffix is not supported."""
    if f".{suffix}" in IMAGE_SUFFIXES:
        if sample.image:
            raise DataError(
                f"{sample.archive}: the sample of {sample.id!r} and {name!r} has two images; rename one"
            )
        sample.id = name
        sample.image = containers.in_tar(str(sample.archive), name, member.offset_data, member.size)
    elif suffix in CAPTIONS:
        sample.texts.append(content().decode().removesuffix("\n").removesuffix("\r"))
    elif suffix == "cls":
        sample.labels = sample.labels or content().decode().strip()
    elif suffix == "json":
        record = parse(content())
        if not isinstance(record, dict):
            raise ValueError("it is not an object")
        try:
            sample.captions = captions_of(record.pop("caption", [])) + captions_of(record.pop("captions", []))
        except DataError as error:
            raise ValueError(f"a caption {error}") from error
        for key in ("label", "labels"):
            sample.labels = record.pop(key, sample.labels)
        sample.fields = record
    else:
        return False
    return True


def _members(path: Path, warnings: list[str]) -> Iterator[tuple[tarfile.TarInfo, Callable[[], bytes]]]:
    """The regular files of an archive, each with a function that reads it.

    Raises:
        DataError: the file is compressed, not a tar archive, damaged or truncated.
    """
    with open_regular(path) as file:
        if path.suffix.lower() != ".tar" or file.read(6).startswith(MAGIC):
            raise DataError(
                f"{path}: is compressed, so single images cannot be read; decompress it to a .tar"
            )
    links = 0
    try:
        with open_regular(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            start = -1
            while member := archive.next():
                if not start < member.offset <= member.offset_data <= archive.offset:
                    raise tarfile.ReadError(f"the member {member.name!r} has a negative size")
                start = member.offset
                archive.members.clear()  # type: ignore[attr-defined]  # otherwise it keeps all members
                if member.isreg() and not member.issparse():
                    yield member, partial(_content, archive, member)
                elif not member.isdir():
                    links += 1
            end = archive.offset
    except (tarfile.TarError, ValueError, OverflowError, OSError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: damaged or truncated ({brief(error)}); get the archive again") from error
    if links:
        warnings.append(
            f"{path}: members that are not regular files, such as links: {links}; they are not read"
        )
    _check_end(path, end, warnings)


def _check_end(path: Path, end: int, warnings: list[str]) -> None:
    """Check that a mark of zeros follows the last member, which ends at byte `end`."""
    with open_regular(path) as file:
        file.seek(end)
        end_mark = file.read(BLOCK)
    if any(end_mark):
        raise DataError(
            f"{path}: damaged at byte {end}: expected the header of a member; get the archive again"
        )
    if len(end_mark) < BLOCK:
        warnings.append(f"{path}: ends without an end mark: it may have been truncated between members")


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Like `archive.extractfile(member).read()`, in half the time."""
    check_size(member.size, TEXT_MB, member.name)
    file = archive.fileobj
    assert file is not None, "an archive that is read is open"
    file.seek(member.offset_data)
    content = file.read(member.size)
    if len(content) < member.size:
        raise tarfile.ReadError("unexpected end of data")
    return content
