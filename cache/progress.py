"""The progress bar of all commands."""

from typing import ClassVar

from tqdm import tqdm


class ProgressBar(tqdm):  # type: ignore[misc]  # tqdm is untyped
    """tqdm without its monitor thread, which would remain in the process."""

    monitor_interval: ClassVar[int] = 0
