"""WebDataset: uncompressed tar archives whose members of one name, up to the first dot, are a sample.

    0.jpg  (or any image's suffix)  the image, read in its place whenever it is needed; never extracted
    0.txt, 0.caption                a caption
    0.json                          an object with `caption`, `captions`, `label` or `labels`
    0.cls                           the label, or several as in the plain data folder

The id is the image's name in the archive, with its folder; without an image, what the members' names share.
A split is a folder's archives whose names differ in a number: `train-000.tar`, `train-001.tar` …
"""

import json
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from encode_once.cache.errors import DataError, UsageError, brief
from encode_once.cache.table import Table
from encode_once.extract.images import containers as members
from encode_once.extract.readers.image_lookup import IMAGE_SUFFIXES
from encode_once.extract.readers.options import Options
from encode_once.extract.readers.samples import Labels, Samples, captions_of, labels_of, tables

ABOUT = "WebDataset's .tar archives of images with .txt, .json or .cls of the same name, or a folder of such"
SHARD = re.compile(r"(?:(.+)[-_.])?\d+")
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
CAPTIONS = ("txt", "caption")
MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # of gzip, bzip2, xz, zstd
BLOCK = 512  # bytes of a tar archive's header


def recognises(data: Path, options: Options) -> bool:
    """Whether there are archives, compressed ones too: these are refused with the remedy."""
    return bool(_archives(data))


def _archives(data: Path) -> list[Path]:
    paths = sorted(data.iterdir()) if data.is_dir() else [data]
    return [path for path in paths if path.name.lower().endswith((".tar", *COMPRESSED)) and path.is_file()]


def read(data: Path, options: Options) -> tuple[dict[str, Table], list[str]]:
    """The tables by the archives' names without their numbers, and a line for each kind of oddity.

    Raises:
        DataError: an archive is compressed, broken or cut off, or a sample is not as above.
    """
    if options.columns.named:
        raise UsageError(f"{data} is WebDataset's: it has no columns to name")
    splits: dict[str, list[Path]] = {}
    for path in _archives(data.resolve()):
        shard = SHARD.fullmatch(path.stem)
        splits.setdefault((shard[1] or "train") if shard else path.stem, []).append(path)
    parts = [_samples(split, paths) for split, paths in splits.items()]
    return tables(parts, options.label_separator)


@dataclass(slots=True)
class _Sample:
    """What the members of one name hold."""

    archive: Path
    id: str
    image: str = ""  # its source
    texts: list[str] = field(default_factory=list)
    captions: tuple[str, ...] = ()  # of the JSON, which may repeat the text
    labels: Labels | None = None

    @property
    def all_captions(self) -> list[str]:
        return [*(text for text in self.texts if text not in self.captions), *self.captions]


def _samples(split: str, paths: list[Path]) -> Samples:
    warnings: list[str] = []
    samples = [one for path in paths for one in _of_archive(path, warnings)]
    if not samples:
        raise DataError(f"{paths[0]}: there are no samples in the archive")
    captions = [one.all_captions for one in samples]
    labelled = any(one.labels is not None for one in samples)
    part = Samples(
        files=paths,
        split=split,
        where=lambda row: f"{samples[row].archive}, sample {samples[row].id!r}",
        ids=[one.id for one in samples],
        captions=captions if any(captions) else None,
        labels=[() if one.labels is None else one.labels for one in samples] if labelled else None,
        images=[one.image for one in samples],
        warnings=warnings,
    )
    missing = [row for row, one in enumerate(samples) if not one.image]
    part.count("rows without an image", missing, "their samples have no member with an image's suffix")
    return part


def _of_archive(path: Path, warnings: list[str]) -> list[_Sample]:
    """The samples of an archive, in the order of their first members."""
    samples: dict[str, _Sample] = {}
    seen: set[str] = set()
    left_out: set[str] = set()  # suffixes
    for member, content in _members(path, warnings):
        name = member.name.removeprefix("./")
        key, suffix = _split(name)
        if name in seen:
            raise DataError(f"{path}: two members are called {name!r}; rename one of them")
        seen.add(name)
        sample = samples.get(key) or _Sample(path, key)
        try:
            if not _take(sample, name, suffix, member, content):
                left_out.add(suffix)
                continue
        except (ValueError, TypeError, AttributeError, tarfile.TarError, OSError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path}, member {name!r}: cannot be read ({error}); write it again") from error
        samples[key] = sample
    if left_out:
        shown = brief(", ".join(f"*.{one}" for one in sorted(left_out)))
        warnings.append(f"{path}: members that are not read: {shown}")
    return list(samples.values())


def _split(name: str) -> tuple[str, str]:
    """What a sample's members share, and the suffix, which begins at the first dot of the name proper."""
    folder, slash, proper = name.rpartition("/")
    stem, _, suffix = proper.partition(".")
    return f"{folder}{slash}{stem}", suffix.lower()


def _take(
    sample: _Sample, name: str, suffix: str, member: tarfile.TarInfo, content: Callable[[], bytes]
) -> bool:
    """Take a member into its sample; whether its suffix means anything."""
    if f".{suffix}" in IMAGE_SUFFIXES:
        if sample.image:
            raise DataError(
                f"{sample.archive}: the sample of {sample.id!r} and {name!r} has two images; rename one"
            )
        sample.id = name
        sample.image = members.in_tar(str(sample.archive), name, member.offset_data, member.size)
    elif suffix in CAPTIONS:
        sample.texts.append(content().decode().removesuffix("\n").removesuffix("\r"))
    elif suffix == "cls":
        sample.labels = sample.labels or content().decode().strip()
    elif suffix == "json":
        record = json.loads(content())
        sample.captions = captions_of(record.get("caption", [])) + captions_of(record.get("captions", []))
        for known in ("label", "labels"):
            if known in record:
                sample.labels = labels_of(record[known])
    else:
        return False
    return True


def _members(path: Path, warnings: list[str]) -> Iterator[tuple[tarfile.TarInfo, Callable[[], bytes]]]:
    """The regular files of an archive, and what reads each.

    Raises:
        DataError: it is compressed, no tar archive, broken or cut off.
    """
    with path.open("rb") as file:
        if path.suffix.lower() != ".tar" or file.read(6).startswith(MAGIC):
            raise DataError(
                f"{path}: is compressed, so images cannot be read in their places; unpack it to a .tar"
            )
    links = 0
    try:
        with tarfile.open(path, "r:") as archive:
            while member := archive.next():
                archive.members.clear()  # type: ignore[attr-defined]  # it would keep all
                if member.isreg() and not member.issparse():
                    yield member, partial(_content, archive, member)
                elif not member.isdir():
                    links += 1
            end = archive.offset
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{path}: broken, or cut off ({error}); get the archive again") from error
    if links:
        warnings.append(f"{path}: members that are no plain files, such as links: {links}; they are not read")
    with path.open("rb") as file:
        file.seek(end)
        mark = file.read(BLOCK)
    if any(mark):
        raise DataError(
            f"{path}: broken at byte {end}: no header of a member is there; get the archive again"
        )
    if len(mark) < BLOCK:
        warnings.append(
            f"{path}: ends without an archive's end mark: it may have been cut off between members"
        )


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """As `extractfile` would, in half the time."""
    file = archive.fileobj
    assert file is not None, "an archive that is read is open"
    file.seek(member.offset_data)
    content = file.read(member.size)
    if len(content) < member.size:
        raise tarfile.ReadError("unexpected end of data")
    return content
