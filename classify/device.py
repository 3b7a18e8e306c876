"""The device that torch computes on."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is the GPU if there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def on_device(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """Features or labels as float32 on the device."""
    return torch.as_tensor(array, dtype=torch.float32, device=device)
