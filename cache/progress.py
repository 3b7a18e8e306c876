"""The progress bar of all commands; where there is no terminal, a line a minute."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any, ClassVar

from tqdm import tqdm

from encode_once.cache.terminal import one_line

SECONDS = 60.0  # between two lines


class ProgressBar(tqdm):  # type: ignore[misc]  # tqdm is untyped
    """tqdm without its monitor thread, which would remain in the process.

    disable: True for no progress at all. By default a bar is shown on a terminal; elsewhere, as in the log of
        a batch job, its text is printed as a line every minute.
    """

    monitor_interval: ClassVar[int] = 0
    hidden: ClassVar[bool] = False

    def __init__(self, *args: Any, disable: bool | None = None, **options: Any) -> None:
        self._ended: Event | None = None
        if disable or self.hidden:
            super().__init__(*args, disable=True, **options)
        elif sys.stderr.isatty():
            super().__init__(*args, **options)
        else:
            super().__init__(*args, delay=float("inf"), **options)  # it counts, and shows nothing
            self._ended = Event()
            Thread(target=self._print_lines, args=(self._ended,), daemon=True).start()

    def _print_lines(self, ended: Event) -> None:
        while not ended.wait(SECONDS):
            print(one_line(str(self)), file=sys.stderr, flush=True)  # noqa: T201

    def refresh(self, *args: Any, **options: Any) -> Any:
        """Show the bar again, on a terminal."""
        return None if self._ended else super().refresh(*args, **options)

    def close(self) -> None:
        """End the bar; may be called again."""
        if self._ended:
            self._ended.set()
        super().close()

    def set_description(self, desc: str | None = None, refresh: bool = True) -> None:
        """Show what is being done; names in it are escaped."""
        super().set_description(one_line(desc or ""), refresh)


@contextmanager
def hidden_bars() -> Iterator[None]:
    """A context manager in which no progress is shown."""
    before, ProgressBar.hidden = ProgressBar.hidden, True
    try:
        yield
    finally:
        ProgressBar.hidden = before
