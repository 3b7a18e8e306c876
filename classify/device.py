"""The device that torch computes on."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encode_once.cache.device import device_name


def choose_device(name: str) -> torch.device:
    """The device of that name; raises as `device_name` does."""
    return torch.device(device_name(name))


def on_device(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """Features or labels as float32 on the device."""
    return torch.as_tensor(array, dtype=torch.float32, device=device)
