"""The progress bar of all commands."""

from typing import ClassVar

from tqdm import tqdm

from encode_once.cache.terminal import one_line


class ProgressBar(tqdm):  # type: ignore[misc]  # tqdm is untyped
    """tqdm without its monitor thread, which would remain in the process."""

    monitor_interval: ClassVar[int] = 0

    def set_description(self, desc: str | None = None, refresh: bool = True) -> None:
        """Show what is being done; names in it are escaped."""
        super().set_description(one_line(desc or ""), refresh)
