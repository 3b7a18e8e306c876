"""The progress bar of all rooms."""

from typing import ClassVar

from tqdm import tqdm


class ProgressBar(tqdm):  # type: ignore[misc]  # tqdm is untyped
    """tqdm's, without the thread that it would leave running in the process."""

    monitor_interval: ClassVar[int] = 0
