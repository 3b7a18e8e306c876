"""Compute the content keys of a table's images and captions; unchanged files are not read again."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from encode_once.cache import NO_KEY, Table, content_key
from encode_once.cache.captions import text_keys
from encode_once.cache.errors import RemoteError, brief
from encode_once.cache.file_index import FileIndex, Stat
from encode_once.cache.keys import KEY_BYTES, Keys, pack
from encode_once.cache.large_arrays import new_array, row_slices
from encode_once.cache.progress import ProgressBar
from encode_once.extract.errors import InputError
from encode_once.extract.images import containers
from encode_once.extract.remote import contents, files
from encode_once.extract.remote.session import allows_any
from encode_once.extract.remote.urls import is_remote

Result = TypeVar("Result")


@contextmanager
def _file_errors() -> Iterator[None]:
    try:
        yield
    except (InputError, RemoteError):
        raise
    except FileNotFoundError as error:
        raise InputError("missing", "no such file") from error
    except OSError as error:
        raise InputError("unreadable", error.strerror or str(error)) from error
    except ValueError as error:  # of a container
        raise InputError("unreadable", brief(error)) from error


def read_file(path: str) -> bytes:
    """The bytes of an image, from a file or a container.

    Raises:
        InputError: with reason "missing" or "unreadable".
    """
    with _file_errors():
        return containers.read(path)


def add_keys(
    table: Table, index: FileIndex, workers: int, *, progress: bool = False
) -> dict[str, InputError]:
    """Set a table's `image_keys` and the keys of all its captions.

    progress: show how many images have been read, of those that must be.

    Returns:
        Image path → error, of the images that cannot be read; their rows have `NO_KEY`.
    """
    table.caption_keys = text_keys(table.captions)
    table.more_caption_keys = [text_keys(texts) for texts in table.more_captions]
    image_keys: Keys = new_array((len(table), KEY_BYTES), np.uint8)
    unreadable: dict[str, InputError] = {}
    if allows_any() and any(map(is_remote, table.images)):
        workers = max(workers, files.READERS)  # which wait for answers
    with ThreadPoolExecutor(workers) as pool:
        for rows in row_slices(len(table)):
            images = table.images[rows]
            keys, failed = _keys(images, index, pool, progress=progress)
            image_keys[rows] = pack(keys.get(path, NO_KEY) for path in images)
            unreadable |= failed
    table.image_keys = image_keys
    return unreadable


def _keys(
    images: Sequence[str], index: FileIndex, pool: ThreadPoolExecutor, *, progress: bool
) -> tuple[dict[str, bytes], dict[str, InputError]]:
    """Path → key, and path → error, of images; "" is none."""
    paths = dict.fromkeys(path for path in images if path)  # in order: containers are read sequentially
    stats, unreadable = _stats(pool, paths)
    keys = index.find(stats)
    unknown = [path for path in paths if path in stats and path not in keys]
    off = None if progress and unknown else True
    with ProgressBar(desc="reading", total=len(unknown), unit="image", leave=False, disable=off) as bar:
        new, failed = _each(pool, _key, unknown, bar.update)
    index.remember((path, stats[path], key) for path, key in new.items())
    return keys | new, unreadable | failed


def hash_again(paths: Iterable[str], index: FileIndex) -> None:
    """Correct an index that has other keys for images of unchanged size and time than they have now."""
    with ThreadPoolExecutor() as pool:
        stats, _ = _each(pool, _stat, paths)
        keys, _ = _each(pool, _key, stats)
    index.remember((path, stats[path], key) for path, key in keys.items())


def _stats(pool: ThreadPoolExecutor, paths: Collection[str]) -> tuple[dict[str, Stat], dict[str, InputError]]:
    """Path → stat of an image's file, and path → error; files at URLs are listed."""
    at_urls = {path: containers.container_of(path) for path in paths if is_remote(path)}
    stats, unreadable = _each(pool, _stat, (path for path in paths if path not in at_urls))
    by_url, errors = files.stats(at_urls.values()) if at_urls else ({}, {})
    stats |= {path: by_url[url] for path, url in at_urls.items() if url in by_url}
    unreadable |= {path: errors[url] for path, url in at_urls.items() if url in errors}
    return stats, unreadable


def _stat(path: str) -> Stat:
    with _file_errors():
        return containers.stat(containers.container_of(path))


def _key(path: str) -> bytes:
    return contents.streamed_key(path) or content_key(read_file(path))


def _each(
    pool: ThreadPoolExecutor,
    function: Callable[[str], Result],
    paths: Iterable[str],
    done: Callable[[], object] = lambda: None,
) -> tuple[dict[str, Result], dict[str, InputError]]:
    """Apply a function to each path; return results and errors by path. `done` is called after each."""
    results, errors = {}, {}

    def attempt(path: str) -> None:
        try:
            results[path] = function(path)
        except InputError as error:
            errors[path] = error

    for _ in pool.map(attempt, paths):
        done()
    return results, errors
