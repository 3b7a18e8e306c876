"""Data at URLs for readers of files: a temporary folder with what describes the data, without the images.

Tables and texts are copied. An image is an empty file of its name. Of a tar archive everything but the images
is copied, to the same places, in one pass in which the images are hashed; of a parquet file, all columns but
those of bytes. So every layout is read as on a disk, and what is read of an image later is read at its URL.
"""

import os
import posixpath
import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self, TypeVar

from encode_once.cache.errors import DataError, EncodeOnceError, MissingDataError, brief
from encode_once.cache.input_files import IMAGE_MB, TEXT_MB, limit_mb
from encode_once.cache.keys import content_key
from encode_once.cache.packed import GZIP
from encode_once.cache.packed_columns import Texts
from encode_once.cache.remote.location import local_path, protocol_of
from encode_once.extract.errors import InputError
from encode_once.extract.images import containers
from encode_once.extract.images.formats import is_image_name
from encode_once.extract.readers.folders import Folder
from encode_once.extract.remote import contents, files
from encode_once.extract.remote.urls import (
    WEB,
    UrlPrefix,
    check_readable,
    is_remote,
    joined,
    parent,
)

Anything = TypeVar("Anything")
Images = str | os.PathLike[str] | Sequence[str] | None
# Suffixes of the files that are copied as a whole: tables, texts and descriptions.
COPIED = (
    ".csv", ".tsv", ".txt", ".caption", ".json", ".jsonl", ".ndjson", ".xlsx", ".xml", ".yaml", ".yml",
    *(f"{suffix}{GZIP}" for suffix in (".csv", ".tsv", ".jsonl", ".ndjson")),
)  # fmt: skip
CONTAINERS = ".tar", ".parquet"  # of which parts are copied
NUMBERS = re.compile(r"\{(\d+)\.\.(\d+)\}")  # as in shard-{000..099}.tar
MOST_NUMBERS = 100_000
MARK = 1 << 10  # bytes of zeros at the end of a tar archive
PARQUET_END = 8  # bytes: the length of the metadata before it, and the magic


class DataMirror:
    """Local folders that stand for URLs, until the block ends.

    What the user names is read by `data`, which lists it, or `folder`, which lists what is asked for.
    """

    def __init__(self) -> None:
        self._temporary: TemporaryDirectory[str] | None = None  # if there is any URL
        self._root = ""
        self._urls: list[str] = []  # of the folder of each number
        self.unused: list[str] = []  # files that are not mirrored

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, EncodeOnceError):
            error.args = tuple(self.named(argument) for argument in error.args)
        if self._temporary:
            self._temporary.cleanup()

    def folder(self, url: str) -> Path:
        """The local folder of a folder at a URL, which is listed as far as it is used."""
        if self._temporary is None:
            self._temporary = TemporaryDirectory(prefix="encode-once-", ignore_cleanup_errors=True)
            self._root = os.path.realpath(self._temporary.name)
            self._pattern = re.compile(rf"{re.escape(self._root)}/(\d+)(?![^/:\s'\",;)])")
        self._urls.append(url.rstrip("/"))
        path = Path(self._root, str(len(self._urls) - 1))
        path.mkdir()
        return path

    def image_folders(self, images: Images) -> list[str]:
        """The folders of the images, each as `[SPLIT=]DIR`, with local ones in place of URLs."""
        texts = []
        for text in as_texts(images):
            split, place = split_and_place(text)
            local = str(self.folder(place) if check_readable(place) else local_path(place))
            texts.append(f"{split}={local}" if split else local)
        return texts

    def data(self, url: str) -> Path:
        """The local copy of a file or folder, or of files like `shard-{000..099}.tar`; a path as it is.

        Raises:
            MissingDataError: there is nothing.
            DataError: it cannot be read.
        """
        if not check_readable(url):
            return local_path(url)
        names = _numbered(url)
        try:
            if len(names) == 1 and files.is_folder(names[0]):
                return self._whole(names[0])
            path = self.folder(parent(names[0]))
            self._copy_all([(name, path / _file_name(name)) for name in names])
        except InputError as error:
            kind = MissingDataError if error.reason == "missing" else DataError
            raise kind(f"{url}: {error}; --data names the data") from error
        return path if len(names) > 1 else path / _file_name(names[0])

    def _whole(self, url: str) -> Path:
        """All files below a URL."""
        root = self.folder(url)
        stats = {name: stat for name, stat in files.listing(url, deep=True).items() if not name.endswith("/")}
        if not stats:
            raise MissingDataError(f"{url}: no files there; --data names the data")
        repeated = Counter(map(posixpath.basename, stats))
        copied, left_out = [], []
        for name in stats:
            path = root / name
            if any(part in ("", ".", "..") or "\0" in part for part in name.split("/")):
                left_out.append(name)
                continue
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                # Files of one name in several folders are compared, by what the listing says of them.
                path.write_text(repr(stats[name]) if repeated[posixpath.basename(name)] > 1 else "")
            except OSError:  # a file and a folder of one name, or a name that is too long
                left_out.append(name)
                continue
            if not is_image_name(name):
                copied.append((joined(url, name), path))
        self._copy_all(copied)
        if left_out:
            self.unused.append(
                f"{url}: names that no file can have: {len(left_out)} (such as {brief(repr(left_out[0]))})"
            )
        return root

    def listed(self, folder: str) -> Folder | None:
        """The files and folders at the URL that a local folder stands for; None if it stands for none."""
        url = self.named(folder)
        if url == folder:
            return None
        names = files.listing(url)
        return Folder(
            {name: joined(url, name) for name in names if not name.endswith("/")},
            [name[:-1] for name in names if name.endswith("/")],
        )

    def named(self, value: Anything) -> Anything:
        """The same with URLs in place of local paths, in all texts of it."""
        return self._named(value) if self._urls else value

    def _named(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._pattern.sub(self._url_of, value) if self._root in value else value
        if isinstance(value, list):
            return [self._named(item) for item in value]
        if isinstance(value, Texts):
            return Texts.of(map(self._named, value))
        if isinstance(value, Mapping):
            return {self._named(key): self._named(item) for key, item in value.items()}
        if is_dataclass(value) and not isinstance(value, type):
            return replace(
                value, **{f.name: self._named(getattr(value, f.name)) for f in fields(value) if f.init}
            )
        return value

    def _url_of(self, match: re.Match[str]) -> str:
        return self._urls[int(match[1])]

    # ---------------------------------------------------------------------------------- copies of files

    def _copy_all(self, pairs: Sequence[tuple[str, Path]]) -> None:
        with ThreadPoolExecutor(files.READERS) as pool:
            for _ in pool.map(lambda pair: self._copy(*pair), pairs):
                pass

    def _copy(self, url: str, path: Path) -> None:
        """Copy what describes the data in a file; others become empty files of their name.

        Raises:
            InputError: it cannot be read.
        """
        name = path.name.lower()
        if is_image_name(name):
            files.stat(url)  # which may be missing
            path.touch()
        elif name.endswith(".tar"):
            _copy_archive(url, path)
        elif name.endswith(".parquet"):
            _copy_parquet(url, path)
        elif name.endswith(COPIED):
            size = files.stat(url)[0]
            with path.open("wb") as file:
                if size < 0:  # a server that does not say
                    most = limit_mb(TEXT_MB) << 20
                    file.write(files.read(url, 0, most + 1))
                    if file.tell() > most:
                        raise DataError(f"{url}: more than {most >> 20} MB; {TEXT_MB[0]} raises the limit")
                for start in range(0, size, contents.BLOCK):
                    file.write(files.read(url, start, min(start + contents.BLOCK, size)))
        elif name.endswith(".arrow"):
            raise DataError(
                f"{url}: arrow files are not read at URLs; save the data as parquet, or copy the folder"
            )
        else:
            path.touch()


def _file_name(url: str) -> str:
    """The name of a file without the query of a web server's."""
    return posixpath.basename(url).partition("?")[0]


def _is_file(url: str) -> bool:
    """Whether a URL is that of a file by its name, as that of a web server always is."""
    name = url.lower()
    return protocol_of(url) in WEB or name.endswith((*COPIED, *CONTAINERS)) or is_image_name(name)


def _numbered(url: str) -> list[str]:
    """The URLs that `{000..099}` stands for."""
    match = NUMBERS.search(url)
    if not match:
        return [url]
    first, last = int(match[1]), int(match[2])
    if not first <= last < first + MOST_NUMBERS:
        raise DataError(f"{url}: {match[0]} are not up to {MOST_NUMBERS:,} numbers in their order")
    width = len(match[1]) if match[1].startswith("0") else 0
    return [
        f"{url[: match.start()]}{number:0{width}}{url[match.end() :]}" for number in range(first, last + 1)
    ]


def _copy_archive(url: str, path: Path) -> None:
    """Copy the headers and texts of a tar archive to their places, and hash its images."""
    size, remote = files.size(url), contents.OpenUrl(url)
    with path.open("wb") as local:

        def copy(start: int, end: int) -> None:
            local.seek(start)
            local.write(contents.read_part(url, start, min(end, size)))

        start = 0  # of what is not copied yet
        try:
            with tarfile.open(fileobj=remote, mode="r:") as archive:
                while member := archive.next():
                    if not start <= member.offset <= member.offset_data <= archive.offset:
                        raise tarfile.ReadError(f"the member {member.name!r} has a negative size")
                    archive.members.clear()  # type: ignore[attr-defined]  # otherwise it keeps all members
                    copy(start, member.offset_data)
                    start = archive.offset
                    if member.isreg() and is_image_name(member.name):
                        _hash_image(url, member)
                    elif member.isreg() and member.size <= limit_mb(TEXT_MB) << 20:  # others are not read
                        copy(member.offset_data, member.offset_data + member.size)
                copy(archive.offset, archive.offset + MARK)
        except (tarfile.TarError, ValueError, OverflowError, OSError) as error:
            if isinstance(error, EncodeOnceError):
                raise
            if start:
                raise DataError(
                    f"{url}: damaged or truncated ({brief(error)}); get the archive again"
                ) from error
            copy(0, MARK)  # it is no archive, as the reader says
        local.truncate(size)


def _hash_image(url: str, member: tarfile.TarInfo) -> None:
    """Remember the content key of an image in an archive, if it is whole and not too large."""
    start, end = member.offset_data, member.offset_data + member.size
    if member.size <= limit_mb(IMAGE_MB) << 20 and end <= files.size(url):
        source = containers.in_tar(url, member.name.removeprefix("./"), start, member.size)
        contents.remember_key(source, content_key(contents.read_part(url, start, end)))


def _copy_parquet(url: str, path: Path) -> None:
    """Copy a parquet file without its columns of bytes, which are holes."""
    size = files.size(url)
    with path.open("wb") as local:
        local.truncate(size)

        def copy(start: int, end: int) -> None:
            local.seek(start)
            local.write(contents.read_part(url, start, min(end, size)))

        copy(max(0, size - PARQUET_END), size)
        copy(0, 4)
        try:
            from pyarrow.parquet import ParquetFile

            metadata = ParquetFile(contents.OpenUrl(url)).metadata
        except EncodeOnceError:
            raise
        except Exception:  # the reader says what is wrong with the same bytes
            return
        end = int.from_bytes(contents.read_part(url, size - PARQUET_END, size - 4), "little")
        copy(size - PARQUET_END - end, size)
        for group in range(metadata.num_row_groups):
            for start, stop in _text_columns(metadata, metadata.row_group(group)):
                copy(start, stop)


def _text_columns(metadata: Any, group: Any) -> Iterable[tuple[int, int]]:
    """Where each column of a row group is that has not bytes."""
    for number in range(group.num_columns):
        column, kind = group.column(number), metadata.schema.column(number)
        if kind.physical_type == "BYTE_ARRAY" and kind.logical_type.type == "NONE":
            continue
        starts = (column.dictionary_page_offset, column.data_page_offset)
        offsets = [offset for offset in starts if offset is not None and offset > 0]
        if offsets:  # else the file is damaged, which the reader of the copy says
            yield min(offsets), min(offsets) + column.total_compressed_size


def as_texts(images: Images) -> list[str]:
    """The folders of images that a user names, as texts."""
    return [os.fspath(images)] if isinstance(images, str | os.PathLike) else [*map(os.fspath, images or ())]


def split_and_place(text: str) -> tuple[str, str]:
    """The split, if the text is `SPLIT=URL`, and the URL or the path."""
    match = re.fullmatch(r"([^/=]+)=([A-Za-z][A-Za-z0-9+.-]*://.*)", text, re.DOTALL)
    return (match[1], match[2]) if match else ("", text)


def allowed_urls(data: object, images: Images, allow_urls: Sequence[str] = ()) -> list[UrlPrefix]:
    """The URLs that a user allows: of the data (or of the folder of its file), of the images, and others.

    Raises:
        UsageError: one is no URL that is read.
    """
    prefixes = [UrlPrefix.parse(text) for text in allow_urls]
    places = [split_and_place(text)[1] for text in as_texts(images)]
    if isinstance(data, str | os.PathLike):
        place = os.fspath(data)
        places.append(parent(place) if is_remote(place) and _is_file(place) else place)
    return prefixes + [UrlPrefix.parse(place) for place in places if check_readable(place)]
