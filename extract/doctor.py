"""What `doctor` checks of stage 1: the GPU, the formats, the encoders' weights, and the data."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from encode_once.cache import Store
from encode_once.cache.doctor import Check, each
from encode_once.cache.errors import EncodeOnceError
from encode_once.cache.terminal import short_list
from encode_once.extract.encoders import listed
from encode_once.extract.encoders.catalogue import EncoderInfo

DRIVER_TIMEOUT = 5.0  # seconds to wait for nvidia-smi, which hangs if a driver does
# What Pillow calls the libraries that decode formats.
CODECS = {
    "JPEG": "jpg",
    "PNG": "zlib",
    "WEBP": "webp",
    "TIFF": "libtiff",
    "AVIF": "avif",
    "JPEG2000": "jpg_2000",
}
NEEDED = ("JPEG", "PNG")  # formats that hardly any data does without


def checks(data: str | None, store: str) -> Iterator[Check]:
    """The GPU, formats and weights; and the data, if it is named or in the folder `input`."""
    yield gpu(_driver())
    yield from formats()
    yield from weights(dict(listed()))
    yield from of_data(data, store)


def gpu(driver: str) -> Check:
    """Whether torch can use a GPU; driver: what `nvidia-smi` reports of the GPUs, or ""."""
    import torch

    built = (
        f"torch {torch.__version__} for CUDA {torch.version.cuda}"
        if torch.version.cuda
        else (f"torch {torch.__version__} without CUDA")
    )
    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        return Check("GPU", "PASS", f"{', '.join(devices)}; {built}; {driver or 'driver unknown'}")
    if driver:
        remedy = "install a torch for the driver's version of CUDA, or a newer driver"
        return Check("GPU", "WARN", f"{driver}, which cannot be used by {built}", remedy)
    return Check("GPU", "PASS", f"none; {built}: networks run on the CPU")


def _driver() -> str:
    """Name, driver and memory of the GPUs, as the driver reports them; "" without one."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    query = [program, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        output = subprocess.run(query, capture_output=True, text=True, timeout=DRIVER_TIMEOUT)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return "nvidia-smi, which does not answer"
    return "; ".join(output.stdout.split("\n")).strip("; ") if output.returncode == 0 else ""


def formats() -> Iterator[Check]:
    """HDF5, and the image formats that can be decoded."""
    import h5py
    from PIL import features

    yield Check("HDF5", "PASS", h5py.version.hdf5_version)
    missing = [name for name, codec in CODECS.items() if not features.check(codec)]
    heif = find_spec("pillow_heif") is not None
    decoded = [name for name in CODECS if name not in missing] + ["HEIC"] * heif
    remedy = "" if heif else "pip install 'encode-once[heic]' for photos of iPhones"
    yield Check("image formats", "PASS", ", ".join(decoded), remedy)
    if missing:
        state = "FAIL" if {*missing} & {*NEEDED} else "WARN"
        finding = f"Pillow cannot decode {', '.join(missing)}"
        yield Check("image formats", state, finding, "install Pillow from its wheel")  # type: ignore[arg-type]


def weights(encoders: Mapping[str, EncoderInfo]) -> Iterator[Check]:
    """Which encoders can run, by what `EncoderInfo.state` says; sites are asked at the same time."""
    with ThreadPoolExecutor() as pool:
        states = list(pool.map(lambda info: info.state, encoders.values()))
    names: dict[str, list[str]] = {}
    for name, state in zip(encoders, states, strict=True):
        if not name.endswith(":"):  # any model of a library: its state is that of the model
            names.setdefault(state, []).append(name)
    here = names.pop("here", [])
    if here:
        yield Check("weights", "PASS", f"here: {short_list(here)}")
    for state, of_state in names.items():
        finding = f"{state}: {short_list(of_state, 3)}"
        if state.endswith("out of reach"):
            yield Check("weights", "WARN", finding, "check the network or proxy, or pass --weights FILE")
        else:
            yield Check("weights", "PASS", finding)
    if not here and not any(state.endswith("to be fetched") for state in names):
        yield Check("weights", "FAIL", "no encoder can run", "pip install 'encode-once[demo]'")


def of_data(data: str | None, store: str | Path) -> Iterator[Check]:
    """What is read of the data, with the label sets that its tables in the store have, as `extract` reads it.

    data: None for the folder `input`, if there is one.
    """
    if data is None and not Path("input").exists():
        yield Check("data", "PASS", "there is no folder input", "doctor --data FOLDER checks another")
        return
    from encode_once.extract.pipeline import earlier_label_sets
    from encode_once.extract.readers import understand

    data = data or "input"
    try:
        reading = understand(data, earlier_label_sets=earlier_label_sets(data, Store(store, read_only=True)))
    except (EncodeOnceError, OSError) as error:
        yield Check("data", "FAIL", str(error), "extract --dry-run takes options that say how to read it")
        return
    for table in reading.understood:
        parts = (f"{subject}: {table.decisions[subject]}" for subject in ("images", "captions", "labels"))
        yield Check("data", "PASS", f"{table.source}: {table.rows:,} rows; {'; '.join(parts)}")
    if all(table.labels is None for table in reading.tables.values()):
        yield Check("data", "WARN", "no table has labels", "name their column with --label-column")
    yield from each("data", "WARN", reading.warnings)
    yield from each("data", "WARN", [f"not used: {line}" for line in reading.unused])
