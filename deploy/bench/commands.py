"""Benchmarks of what packages do together: a Predictor, the store, a row from file to fit, and memory."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from encode_once.cache.options import (
    RunFolder,
    data_option,
    device_option,
    json_option,
    print_result,
    refuse,
    say,
    store_option,
    verb,
    warn,
)
from encode_once.cache.text_table import table_text
from encode_once.classify.options import HeadSetting, by_head
from encode_once.extract.options import (
    EncoderName,
    backend_option,
    trust_option,
    weights_by_encoder,
    weights_option,
)


@verb("store")
@click.option("--rows", default=200_000, show_default=True)
@click.option("--dim", default=768, show_default=True)
@click.option("--files", default=1_000_000, show_default=True, help="Number of unchanged files to look up.")
@click.option("--data", help="Data folder of --store: time extract with nothing to encode.")
@store_option
@trust_option
@json_option
def bench_store(
    rows: int, dim: int, files: int, data: str | None, store: str, trust: bool, as_json: bool
) -> None:
    """Read and write rows, compared with npy files; look up unchanged files.

    \b
    Examples:
      encode-once bench store
      encode-once bench store --data input --store store
    """
    from encode_once.cache.bench.store_vs_npy import against_npy, stat_check

    tables = [against_npy(rows, dim), [stat_check(files)]]
    if data is not None:
        from encode_once.extract.bench.unchanged import unchanged
        from encode_once.extract.trust import Trust

        tables.append([unchanged(data, store, Trust(recorded=trust, log=say))])
    print_result(tables, as_json, lambda: "\n\n".join(map(table_text, tables)))


machines_option = click.option(
    "--machines", "counts", multiple=True, default=[1, 100], show_default=True, type=click.IntRange(1),
    help="Number of machines; repeatable.",
)  # fmt: skip


@verb("scale")
@click.option("--encoder", default="efficientnet-lite0", show_default=True, type=EncoderName())
@click.option("--data", default="input", show_default=True, help="Data of which the first rows are encoded.")
@weights_option
@device_option
@backend_option
@click.option("--sample", default=1000, show_default=True, type=click.IntRange(1), help="Rows to encode.")
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(1),
              help="Rounds; figures are their medians.")  # fmt: skip
@click.option("--rows", "sizes", multiple=True, default=[10**6, 10**8, 5 * 10**9], show_default=True,
              type=click.IntRange(1), help="Rows to predict for; repeatable.")  # fmt: skip
@machines_option
@click.option("--hours", type=click.FloatRange(0, min_open=True),
              help="Find the number of machines that fill the store in so many hours.")  # fmt: skip
@click.option("--shared-store", is_flag=True, help="All machines write to one store: nothing is merged.")
@click.option("--price-per-hour", type=click.FloatRange(0), help="Price of one machine, in any currency.")
@click.option(
    "--folder", type=click.Path(file_okay=False), help="On the disk of the store. [default: temporary]"
)
@json_option
def bench_scale(
    encoder: str,
    data: str,
    weights: Sequence[str],
    device: str,
    backend: str,
    sample: int,
    repeats: int,
    sizes: Sequence[int],
    counts: Sequence[int],
    hours: float | None,
    shared_store: bool,
    price_per_hour: float | None,
    folder: str | None,
    as_json: bool,
) -> None:
    """Measure what a row takes here, and predict hours, machines, storage and requests for very many rows.

    Each part is measured alone: reading, encoding, the store, the table and a fit. The prediction is their
    sum; its assumptions are printed with it. docs/scale.md explains it.

    \b
    Examples:
      encode-once bench scale
      encode-once bench scale --rows 100000000 --hours 24 --price-per-hour 0.9
    """
    from encode_once.cache.bench import cost_model
    from encode_once.cache.bench.store_cost import index_memory, store_cost
    from encode_once.cache.process import available_memory
    from encode_once.classify.bench.race import fit_cost
    from encode_once.extract.bench.row_cost import encoding_cost, table_cost

    if hours is not None:
        refuse(machines_option, why="without --hours, which finds their number")
    files = weights_by_encoder([encoder], weights)
    say(f"encoding up to {sample} rows of {data}")
    encoding = encoding_cost(
        data, encoder, weights=files, device=device, backend=backend, rows=sample, repeats=repeats
    )
    say("writing, sealing and merging rows; reading tables; fitting")
    of_store = store_cost(20 * sample, round(encoding.width), repeats, folder)
    of_table = table_cost(10 * sample, 50 * sample, repeats)
    cost = cost_model.RowCost(
        read=encoding.read,
        encode=encoding.encode,
        table=of_table.read,
        load=of_table.load,
        fit=fit_cost(max(1, round(encoding.vector_width)), 3 * sample, 12 * sample, repeats),
        image_bytes=encoding.image_bytes,
        table_bytes=of_table.bytes,
        table_memory=of_table.memory,
        index_memory=encoding.features * index_memory(20 * sample),
        features=encoding.features,
        **of_store,
    )
    fleet = cost_model.Fleet(memory=available_memory(), shared_store=shared_store, price=price_per_hour)
    predictions = cost_model.planned(cost, sizes, counts, hours, fleet)
    late = [prediction.rows for prediction in predictions if hours and prediction.store_hours > hours]
    warn([f"{rows:,} rows: no number of machines is enough for {hours:g} hours" for rows in late])
    result = {
        "sample": encoding.rows,
        "cost": asdict(cost),
        "predictions": [asdict(prediction) for prediction in predictions],
        "assumptions": cost_model.assumptions(fleet),
    }
    print_result(result, as_json, lambda: cost_model.text(cost, predictions, fleet))


@verb("memory")
@click.option("--rows", multiple=True, type=int, default=[10_000, 200_000], show_default=True)
@click.option(
    "--dim", default=256, show_default=True, type=click.IntRange(1), help="Columns of the rows to fit."
)
@click.option("--head", "names", multiple=True, default=["mlp", "linear"], show_default=True)
@click.option("--set", "head_settings", multiple=True, type=HeadSetting(), metavar="HEAD.OPTION=VALUE",
              help="Option of a head. [default: those of a quick fit]")  # fmt: skip
@click.option("--limit", type=click.FloatRange(0, min_open=True), metavar="GIB",
              help="Private memory of a fit, imports included; it fails if it needs more.")  # fmt: skip
@click.option("--streamed", is_flag=True, help="Do not hold the rows in memory, however few.")
@click.option("--only-fit", is_flag=True, help="Do not measure extract.")
@json_option
def bench_memory(
    rows: Sequence[int],
    dim: int,
    names: Sequence[str],
    head_settings: Sequence[tuple[str, str, Any]],
    limit: float | None,
    streamed: bool,
    only_fit: bool,
    as_json: bool,
) -> None:
    """Measure the peak memory of extract and fit, for few rows and for many.

    \b
    Examples:
      encode-once bench memory
      encode-once bench memory --only-fit --rows 2000000 --dim 768 --limit 4
    """
    from encode_once.classify.bench.race import memory as of_fit
    from encode_once.extract.bench.unchanged import memory as of_extract

    options, private = by_head(head_settings), None if limit is None else round(limit * 2**30)
    extracted = [] if only_fit else [of_extract(count) for count in rows]
    fitted = []
    for name in names:
        for count in rows:
            fitted.append(of_fit(name, count, dim, options.get(name), private, streamed=streamed))
            say(f"{name}, {count:,} rows: {fitted[-1]['seconds']:.1f} s")
    tables = [table for table in (extracted, fitted) if table]
    print_result([*extracted, *fitted], as_json, lambda: "\n\n".join(map(table_text, tables)))


@verb("predict")
@click.argument("run", type=RunFolder())
@data_option
@click.option("--rows", default=500, show_default=True, type=click.IntRange(1), help="Rows to label.")
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(1),
              help="Rounds; figures are their medians.")  # fmt: skip
@weights_option
@trust_option
@device_option
@backend_option
@json_option
def bench_predict(
    run: str,
    data: str,
    rows: int,
    repeats: int,
    weights: Sequence[str],
    trust: bool,
    device: str,
    backend: str,
    as_json: bool,
) -> None:
    """Time a Predictor: many rows compared with an extraction, and one row with its networks alone.

    \b
    Example:
      encode-once bench predict runs/mlp --data photos --rows 1000
    """
    from encode_once.classify import load_run
    from encode_once.deploy.bench.predicting import rates, text
    from encode_once.extract import ComputeOptions

    files = weights_by_encoder([*load_run(run).record.encoders], weights)
    result = rates(
        run,
        data,
        rows=rows,
        repeats=repeats,
        weights=files,
        trust=trust,
        device=device,
        compute=ComputeOptions(backend=backend),
    )
    print_result(result, as_json, lambda: text(result))


benches = (bench_predict, bench_store, bench_scale, bench_memory)
