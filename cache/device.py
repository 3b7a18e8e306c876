"""The device that torch computes on, by its name."""

from encode_once.cache.errors import UsageError


def device_name(name: str) -> str:
    """The name of a device that torch can use; `auto` is the GPU if there is one. Imports torch.

    Raises:
        UsageError: the name is unknown, or there is no such GPU.
    """
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if gpus else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"unknown device {name!r}: choose from auto, cpu, cuda, cuda:1, …") from error
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise UsageError(f"device {name}: torch finds {gpus or 'no'} GPUs; use auto or cpu, or run doctor")
    return name
