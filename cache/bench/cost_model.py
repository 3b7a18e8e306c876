"""What many rows would take, as a sum of parts that were measured on a few.

Each part takes a number of seconds per row. N machines divide some parts among them, and others not:

    each of N machines, for its rows / N    read, encode, write, seal, and commit once a second
    each of N machines, for all rows        the table, in which it finds its own rows
    one machine, for all rows               the merge of N stores, each with the table; later, a fit

Parts are added, since they share the cores. The model assumes that all machines are like the measured one,
that the disk, the network and an object store keep up with them, and that no machine is lost.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from encode_once.cache.format.feature_writer import PART_BYTES
from encode_once.cache.remote.claims import RENEW_SECONDS
from encode_once.cache.remote.mirror import EVERY, MOST_SECONDS, SHARE
from encode_once.cache.text_table import table_text

COMMIT_SECONDS = 1.0  # between two commits of `extract`
HOUR = 3600  # seconds
MOST_MACHINES = 10_000
GETS_PER_IMAGE = 2  # to hash it, and to encode it
PUTS_PER_PART = 2  # the part and its note


@dataclass(frozen=True)
class RowCost:
    """What one row takes on the measured machine: seconds with all its cores, and bytes."""

    read: float  # seconds, to read its image and hash it
    encode: float  # seconds, to read it again, decode and prepare it, and compute its vectors
    write: float  # seconds, to write its vectors into a part
    seal: float  # seconds, to check them and to seal the part
    merge: float  # seconds, to check them and copy them to another store
    table: float  # seconds, to read its line of the data, and to save it in the store's table
    load: float  # seconds, to read it from the store's table
    fit: float  # seconds of one fit
    commit: float  # seconds of one commit, however many rows it has
    image_bytes: float  # of its image's file
    vector_bytes: float  # of its vectors in the store, with keys and checksums
    table_bytes: float  # in the store's table
    table_memory: float  # bytes that a process holds of it: in memory, or of large tables in temporary files
    index_memory: float  # bytes that a process needs likewise to find its vectors by its keys
    features: int  # number of features that its vectors are in


@dataclass(frozen=True)
class Fleet:
    """The machines that encode.

    Args:
        memory: of each machine, in bytes.
        shared_store: whether all write to one store, so that nothing is merged.
        price: of one machine for an hour, in any currency; None: it is not known.
    """

    machines: int = 1
    memory: float = math.inf
    shared_store: bool = False
    price: float | None = None


# Part of a forecast → its name as a bottleneck.
PARTS = {
    "read": "reading images",
    "encode": "networks",
    "disk": "disk: commits and seals",
    "table": "table, which each machine reads",
    "merge": "merge by one machine",
    "fit": "fit on one machine",
}


@dataclass(frozen=True)
class Forecast:
    """What a number of rows is predicted to take.

    Attributes:
        hours: by the clock, of each of `PARTS`.
        store_hours: of all of them but the fit.
        machine_hours: of all machines together, with the fit.
        cost: `machine_hours` times the price, without storage and requests.
        gets: requests to an object store for images, if each is an object.
        puts: requests to an object store for parts, if the store is there, and to renew claims.
        working_bytes: of the table and all keys in a process: in memory, or of many rows in temporary files.
        bottleneck: the part of the most hours; and the larger of these two, if they do not fit into memory.
        useful_machines: the least number of machines of which each spends no more time on the parts that they
            divide than on the others: more of them hardly help. `MOST_MACHINES` may stand for more.
    """

    rows: int
    machines: int
    hours: Mapping[str, float]
    store_hours: float
    machine_hours: float
    cost: float | None
    storage_bytes: float
    image_bytes: float
    gets: int
    puts: int
    working_bytes: float
    bottleneck: str
    useful_machines: int


def predict(cost: RowCost, rows: int, fleet: Fleet) -> Forecast:
    """What `rows` rows would take on these machines."""
    hours = _hours(cost, rows, fleet)
    of_each = sum(hours[part] for part in ("read", "encode", "disk", "table"))
    machine_hours = fleet.machines * of_each + hours["merge"] + hours["fit"]
    vector_bytes = rows * cost.vector_bytes
    seconds = HOUR * (hours["read"] + hours["encode"] + hours["disk"])
    puts = _puts(seconds, vector_bytes / fleet.machines / max(1, cost.features))
    return Forecast(
        rows=rows,
        machines=fleet.machines,
        hours=hours,
        store_hours=of_each + hours["merge"],
        machine_hours=machine_hours,
        cost=None if fleet.price is None else machine_hours * fleet.price,
        storage_bytes=vector_bytes + rows * cost.table_bytes,
        image_bytes=rows * cost.image_bytes,
        gets=GETS_PER_IMAGE * rows if cost.image_bytes else 0,
        puts=fleet.machines * cost.features * puts,
        working_bytes=rows * (cost.table_memory + cost.index_memory),
        bottleneck=_bottleneck(cost, rows, hours, fleet.memory),
        useful_machines=_useful_machines(cost, fleet),
    )


def machines_for(cost: RowCost, rows: int, hours: float, *, shared_store: bool = False) -> int | None:
    """The least number of machines that fill the store with `rows` rows in these hours; None if none does."""
    for machines in range(1, MOST_MACHINES + 1):
        needed = _hours(cost, rows, Fleet(machines, shared_store=shared_store))
        if sum(needed.values()) - needed["fit"] <= hours:
            return machines
    return None


def planned(
    cost: RowCost, sizes: Sequence[int], counts: Sequence[int], hours: float | None, fleet: Fleet
) -> list[Forecast]:
    """Predictions for each number of rows and of machines; with `hours`, for the number that is needed.

    Where no number of machines is enough for `hours`, that for the useful one.

    Args:
        fleet: all but its number of machines.
    """
    predictions = []
    for rows in sizes:
        needed = counts
        if hours is not None:
            enough = machines_for(cost, rows, hours, shared_store=fleet.shared_store)
            needed = [enough or _useful_machines(cost, fleet)]
        predictions += [predict(cost, rows, replace(fleet, machines=machines)) for machines in needed]
    return predictions


def _hours(cost: RowCost, rows: int, fleet: Fleet) -> dict[str, float]:
    """Hours by the clock of each of `PARTS`."""
    merges = fleet.machines > 1 and not fleet.shared_store
    commits = cost.encode / COMMIT_SECONDS  # per row
    per_row = {
        "read": cost.read / fleet.machines,
        "encode": cost.encode / fleet.machines,
        "disk": (cost.write + cost.seal + commits * cost.commit) / fleet.machines,
        "table": cost.table,
        "merge": cost.merge + fleet.machines * cost.load if merges else 0.0,
        "fit": cost.fit,
    }
    return {part: rows * seconds / HOUR for part, seconds in per_row.items()}


def _puts(seconds: float, nbytes: float) -> int:
    """Requests of a writer that fills a feature at a URL with so many bytes in so many seconds."""
    parts, sent = 0, 0.0
    while sent < min(seconds, MOST_SECONDS / SHARE):
        parts, sent = parts + 1, sent + max(EVERY[1], SHARE * sent)
    parts += math.ceil(max(0.0, seconds - sent) / MOST_SECONDS)
    return PUTS_PER_PART * max(parts, math.ceil(nbytes / PART_BYTES)) + math.ceil(seconds / RENEW_SECONDS)


def _useful_machines(cost: RowCost, fleet: Fleet) -> int:
    for machines in range(1, MOST_MACHINES):
        hours = _hours(cost, 1, Fleet(machines, shared_store=fleet.shared_store))
        if hours["read"] + hours["encode"] + hours["disk"] <= hours["table"] + hours["merge"]:
            return machines
    return MOST_MACHINES


def _bottleneck(cost: RowCost, rows: int, hours: Mapping[str, float], memory: float) -> str:
    needed = {"table": rows * cost.table_memory, "index of keys": rows * cost.index_memory}
    beyond = f"; {max(needed, key=needed.__getitem__)} beyond memory" if sum(needed.values()) > memory else ""
    return PARTS[max(hours, key=hours.__getitem__)] + beyond


def assumptions(fleet: Fleet) -> list[str]:
    """What the predictions take for granted, a line each."""
    store = (
        "all machines write to one store"
        if fleet.shared_store
        else "each machine fills a store of its own, and one merges them (--shared-store: nothing is merged)"
    )
    cost = (
        "no price is known (--price-per-hour), so no cost is shown"
        if fleet.price is None
        else f"a machine costs {fleet.price:g} an hour; storage and requests are not in the cost"
    )
    return [
        f"every machine is like this one, with {_size(fleet.memory)} of memory available",
        "a disk, a network or an object store delivers the images as fast as they were read here",
        store,
        "if the images are in an object store, each is an object, and is read twice",
        "what does not fit into memory is in temporary files (TMPDIR), and may take longer",
        "a fit is that of `linear`, on one machine, after everything else",
        cost,
    ]


def _cost_text(cost: RowCost) -> str:
    """The measured parts as a table."""
    measured = {
        "read and hash an image": (cost.read, cost.image_bytes),
        "decode and encode": (cost.encode, None),
        "write to a part": (cost.write, cost.vector_bytes),
        "seal the part": (cost.seal, None),
        "merge": (cost.merge, None),
        "read and save the table": (cost.table, cost.table_bytes),
        "load the table": (cost.load, None),
        "fit linear": (cost.fit, None),
        "hold the table": (None, cost.table_memory),
        "hold the index of keys": (None, cost.index_memory),
    }
    rows = [
        {
            "part": part,
            "µs per row": "–" if seconds is None else f"{1e6 * seconds:,.2f}",
            "rows per second": "–" if not seconds else f"{1 / seconds:,.0f}",
            "bytes per row": "–" if size is None else f"{size:,.0f}",
        }
        for part, (seconds, size) in measured.items()
    ]
    return f"{table_text(rows)}\na commit takes {1000 * cost.commit:.1f} ms, and there is one a second"


def _predictions_text(predictions: Sequence[Forecast]) -> str:
    """The predictions as a table."""
    rows = [
        {
            "rows": f"{prediction.rows:,}",
            "machines": str(prediction.machines),
            "hours": _hours_text(prediction.store_hours),
            "fit, hours": _hours_text(prediction.hours["fit"]),
            "machine hours": _hours_text(prediction.machine_hours),
            **({} if prediction.cost is None else {"cost": f"{prediction.cost:,.2f}"}),
            "store": _size(prediction.storage_bytes),
            "images": _size(prediction.image_bytes),
            "GETs": f"{prediction.gets:,}",
            "PUTs": f"{prediction.puts:,}",
            "table and keys": _size(prediction.working_bytes),
            "first bottleneck": prediction.bottleneck,
            "useful machines": _machines_text(prediction.useful_machines),
        }
        for prediction in predictions
    ]
    return table_text(rows)


def _hours_text(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.2g}"


def _machines_text(machines: int) -> str:
    return f"{machines}" if machines < MOST_MACHINES else f"{MOST_MACHINES} or more"


def _size(size: float) -> str:
    """Bytes with a decimal unit, as `1.5 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB" if size < 1000 else f"{size / 1000:,.3g} PB"


def text(cost: RowCost, predictions: Sequence[Forecast], fleet: Fleet) -> str:
    """The measured parts, the predictions, and what they assume."""
    lines = [f"assumed: {line}" for line in assumptions(fleet)]
    return "\n\n".join([_cost_text(cost), _predictions_text(predictions), "\n".join(lines)])
