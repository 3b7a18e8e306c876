"""Requests for files at URLs: repeated if there is no answer, with errors by type.

An object store that does not answer is tried again a few times; then the input fails, and the next `extract`
tries it. If many fail so, one after the other, the command ends: it is the store that is down, not the input.
So does it with credentials that have expired; a single file to which access is denied fails, and is tried by
the next `extract`.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from encode_once.cache.errors import RemoteError, brief
from encode_once.cache.remote.folder import ATTEMPTS, reaching
from encode_once.cache.remote.location import protocol_of
from encode_once.extract.errors import InputError
from encode_once.extract.remote.session import session_of
from encode_once.extract.remote.urls import WEB

Result = TypeVar("Result")
PAUSE = 0.5  # seconds before the second attempt, and twice as long before each further one
GIVE_UP = 20  # files, one after the other, that could not be reached
TIMEOUT, UNREACHABLE, DENIED = "timeout", "unreachable", "denied"
PASSING = TIMEOUT, UNREACHABLE, DENIED  # reasons that say nothing of the input: the next extract tries again
# Parts of names of exceptions, and of S3's error codes, that concern all files.
CREDENTIALS = "Credential", "Token", "Skewed", "AccessKeyId", "Signature"


def requested(url: str, request: Callable[[], Result]) -> Result:
    """The result of a request, which is repeated if there is no answer.

    Raises:
        InputError: "missing", "unreadable", or one of PASSING.
        RemoteError: no file can be read: the credentials or a package are missing, or the store is down.
    """
    session = session_of(url)
    for attempt in range(ATTEMPTS):
        if session.down:
            raise RemoteError(session.down)
        try:
            result = _typed(url, request)
        except InputError as error:
            if error.reason not in (TIMEOUT, UNREACHABLE):
                session.unreached = 0
                raise
            if attempt + 1 < ATTEMPTS and protocol_of(url) != "s3":  # whose library has tried again already
                time.sleep(PAUSE * 2**attempt)
                continue
            session.unreached += 1
            if session.unreached >= GIVE_UP:
                session.down = session.down or (
                    f"{url}: {error}, as were {GIVE_UP - 1} files before: check the network and the server, "
                    "then run the same command again; what was encoded is kept"
                )
                raise RemoteError(session.down) from error
            raise
        session.unreached = 0
        return result
    raise AssertionError("the last attempt returns or raises")


def _typed(url: str, request: Callable[[], Result]) -> Result:
    try:
        with reaching(url):
            return request()
    except FileNotFoundError as error:
        raise InputError("missing", "no such file at the URL") from error
    except RemoteError as error:
        cause = error.__cause__
        if cause is None or isinstance(cause, ImportError):
            raise
        names = [type(part).__name__ for part in _parts(cause)]
        if any(part in name for name in (*names, _code(cause)) for part in CREDENTIALS):
            raise
        status = _status(cause)
        if status == 404:
            raise InputError("missing", "no such file at the URL") from error
        if any("Timeout" in name for name in names) or isinstance(cause, TimeoutError):
            raise InputError(TIMEOUT, "no answer in time") from error
        if status >= 500 or status == 429 or _has_no_connection(cause, names):
            raise InputError(UNREACHABLE, f"not reached ({brief(cause)})") from error
        if status in (401, 403) or (protocol_of(url) not in WEB and _is_denied(cause, status)):
            raise InputError(DENIED, f"access denied ({brief(cause)})") from error
        raise InputError("unreadable", brief(cause)) from error


def _parts(error: BaseException) -> Iterator[BaseException]:
    """An error and its causes, of which libraries make others."""
    part: BaseException | None = error
    while part is not None:
        yield part
        reason = getattr(part, "reason", None)  # of urllib's errors
        if isinstance(reason, BaseException):
            yield reason
        part = part.__cause__ or part.__context__


def _has_no_connection(error: BaseException, names: Sequence[str]) -> bool:
    of_libraries = any("Connect" in name or "IncompleteRead" in name for name in names)
    return of_libraries or any(isinstance(part, ConnectionError) for part in _parts(error))


def _is_denied(error: BaseException, status: int) -> bool:
    """Whether an object store refuses access; to a request without a body, S3 answers 400 for credentials."""
    return isinstance(error, PermissionError) or status == 400


def _response(error: BaseException) -> Mapping[str, Any]:
    """The answer of S3; empty if there is none."""
    responses = (getattr(part, "response", None) for part in _parts(error))
    return next((response for response in responses if isinstance(response, Mapping)), {})


def _code(error: BaseException) -> str:
    return str(_response(error).get("Error", {}).get("Code", ""))


def _status(error: BaseException) -> int:
    """The status of the server's answer; 0 if there is none."""
    if response := _response(error):
        return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    numbers = (getattr(part, name, None) for part in _parts(error) for name in ("code", "status_code"))
    return next((number for number in numbers if isinstance(number, int)), 0)
