"""The content keys of a table's images and captions; unchanged files are not read again."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from encode_once.cache import NO_KEY, DataError, Table, content_key
from encode_once.cache.captions import text_keys
from encode_once.cache.file_index import Stat, StatIndex, stat_of
from encode_once.cache.keys import pack
from encode_once.extract.errors import InputError
from encode_once.extract.images import containers as members

Found = TypeVar("Found")


@contextmanager
def _file_errors() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise InputError("missing", "there is no such file") from error
    except OSError as error:
        raise InputError("unreadable", error.strerror or str(error)) from error
    except DataError as error:
        raise InputError("unreadable", str(error)) from error


def read_file(path: str) -> bytes:
    """The bytes of an image, from a file of its own or a container.

    Raises:
        InputError: with reason "missing" or "unreadable".
    """
    with _file_errors():
        return members.read(path)


def add_keys(table: Table, index: StatIndex, workers: int) -> dict[str, InputError]:
    """Give a table its `image_keys` and the keys of all its captions.

    Returns:
        The image paths that cannot be read, with the reason; their rows have `NO_KEY`.
    """
    table.caption_keys = text_keys(table.captions)
    table.more_caption_keys = [text_keys(texts) for texts in table.more_captions]
    paths = dict.fromkeys(path for path in table.images if path)  # in order: containers are read forwards
    with ThreadPoolExecutor(workers) as pool:
        stats, unreadable = _each(pool, _stat, paths)
        keys = index.known(stats)
        new, lost = _each(pool, _key, [path for path in paths if path in stats and path not in keys])
    index.remember((path, stats[path], key) for path, key in new.items())
    keys |= new
    table.image_keys = pack(keys.get(path, NO_KEY) for path in table.images)
    return unreadable | lost


def hash_again(paths: Iterable[str], index: StatIndex) -> None:
    """Correct an index that has other keys for images of unchanged size and time than they have now."""
    with ThreadPoolExecutor() as pool:
        stats, _ = _each(pool, _stat, paths)
        keys, _ = _each(pool, _key, stats)
    index.remember((path, stats[path], key) for path, key in keys.items())


def _stat(path: str) -> Stat:
    with _file_errors():
        return stat_of(members.container_of(path))


def _key(path: str) -> bytes:
    return content_key(read_file(path))


def _each(
    pool: ThreadPoolExecutor, look: Callable[[str], Found], paths: Iterable[str]
) -> tuple[dict[str, Found], dict[str, InputError]]:
    """What `look` finds at each path, and what keeps it from finding it."""
    found, errors = {}, {}

    def attempt(path: str) -> None:
        try:
            found[path] = look(path)
        except InputError as error:
            errors[path] = error

    list(pool.map(attempt, paths))
    return found, errors
