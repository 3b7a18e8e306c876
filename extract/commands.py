"""Commands of stage 1: encode, time the encoding, and run the demo."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from encode_once.cache import DataError, UsageError
from encode_once.cache.options import (
    alert,
    data_option,
    device_option,
    grouped,
    is_quiet,
    json_option,
    passed_words,
    print_json,
    print_result,
    say,
    say_next,
    store_option,
    store_words,
    verb,
    warn,
)
from encode_once.cache.views import views_text
from encode_once.extract.compute import PRECISIONS, ComputeOptions
from encode_once.extract.options import (
    INPUT_OPTIONS,
    EncoderName,
    backend_option,
    read_options,
    shard,
    views_option,
    weights_by_encoder,
    weights_option,
    with_views,
)

if TYPE_CHECKING:
    from encode_once.extract.readers import Reading, ReadOptions
    from encode_once.extract.report import Report

label_set_option = click.option(
    "--label-set",
    "label_sets",
    metavar="NAME=COLUMN",
    multiple=True,
    help="Further labels of the rows, for fit --labels NAME: a column, A,B,C or A:Z; repeatable.",
)
NAMED = 20  # failed inputs listed one by one; the rest are counted


compute_options = grouped(
    "compute",
    ComputeOptions,
    click.option(
        "--precision",
        default="auto",
        show_default=True,
        type=click.Choice(PRECISIONS),
        help="Precision of arithmetic. auto: that of the store's features, else float16 on CUDA and float32 "
        "on a CPU. fast: as auto, but for 500 inputs or more on a CPU bfloat16 if that is faster and equal.",
    ),
    click.option(
        "--min-cosine",
        type=click.FloatRange(-1, 1),
        help="Least cosine of reduced precision to float32. [default: 0.9999 for bfloat16, 0.999 for "
        "float16]",
    ),
    backend_option,
    click.option(
        "--compile",
        "compiled",
        is_flag=True,
        help="Compile image networks with torch; takes minutes, pays off in long runs.",
    ),
    click.option(
        "--batch-size", type=click.IntRange(1), help="Inputs per step. [default: chosen for the device]"
    ),
    click.option("--workers", type=click.IntRange(1), help="Decoding threads. [default: one per core]"),
    click.option("--bit-depth", type=click.IntRange(8, 32), metavar="N",
                 help="Bits that 16-bit grey images use. [default: found out, and reported]"),
)  # fmt: skip


def _print_understood(data: str, read: "ReadOptions", *, as_json: bool) -> None:
    """Print what is understood of the data, without encoding it."""
    from encode_once.extract.readers import understand

    reading = understand(data, read)
    click.echo(reading.text(), err=as_json)
    warn(reading.warnings)
    if as_json:
        print_json(reading.as_json(with_rows=True) | {"warnings": reading.warnings}, indent=None)


def _say_understood(reading: "Reading") -> None:
    if not is_quiet():
        click.echo(reading.text(), err=True)


def _say_counts(report: "Report", store: str) -> None:
    for name, counts in report.features.items():
        say(f"{name}: encoded {counts.encoded}, already there {counts.present}, failed {counts.failed}")
    if report.uploads.parts:
        say(f"{store}: {report.uploads} sent")
    say(f"{report.samples} samples in {report.seconds:.1f} s")


@verb()
@click.option(
    "--encoder",
    "encoders",
    multiple=True,
    type=EncoderName(),
    help="Encoder; repeat it for several, or give NAME,NAME.",
)
@views_option
@click.option("--list", "list_encoders", is_flag=True, help="List the encoders and exit.")
@data_option
@grouped("read", read_options, *INPUT_OPTIONS, label_set_option)
@store_option
@weights_option
@device_option
@compute_options
@click.option("--dry-run", is_flag=True, help="Print what is understood of the data, and end.")
@click.option("--retry-failed", is_flag=True, help="Try failed inputs again.")
@click.option(
    "--max-failures", type=click.IntRange(0), help="Stop if more inputs than this fail; fewer are no error."
)
@click.option(
    "--shard",
    default="1/1",
    show_default=True,
    metavar="I/N",
    type=shard,
    help="Share of the inputs to encode, as 1/4.",
)
@click.option("--engine", default="local", show_default=True, type=click.Choice(["local", "ray"]),
              help="What encodes: this process, or actors of the Ray cluster at RAY_ADDRESS.")  # fmt: skip
@click.option("--actors", type=click.IntRange(1), help="With Ray, processes. [default: as many as fit]")
@click.option(
    "--captions",
    multiple=True,
    default=["table"],
    show_default=True,
    metavar="KIND",
    help="Captions to encode: table, a captioner's name, or table+CAPTIONER for both joined; repeatable.",
)
@json_option
def extract(
    encoders: Sequence[str],
    views: Sequence[str],
    size: int | None,
    list_encoders: bool,
    data: str,
    store: str,
    weights: Sequence[str],
    read: "ReadOptions",
    compute: ComputeOptions,
    as_json: bool,
    dry_run: bool,
    **options: Any,
) -> None:
    """Encode the images and captions that are not in the store yet.

    Data is a folder with train.csv (ImageID,Labels,Caption), test.csv or both, and the images in data/ or
    images/; a CSV, TSV, JSON lines or parquet file, or a folder of these; COCO annotations; a folder of
    images with captions in .txt files; WebDataset archives; or a Hugging Face dataset saved to disk.

    \b
    Examples:
      encode-once extract --encoder clip-vit-l
      encode-once extract --encoder efficientnet-lite0 --view whole --size 320
      encode-once extract --encoder efficientnet-lite0 --encoder glove-50 --data photos
      encode-once extract --encoder open_clip:ViT-B-32/laion2b_s34b_b79k
      encode-once extract --encoder clip-vit-b32 --weights vit-b32.safetensors
      encode-once extract --encoder clip-vit-l --shard 1/4
      encode-once extract --encoder clip-vit-l --engine ray --store /shared/store
      encode-once extract --encoder clip-vit-l --captions table --captions table+coca-b32
      encode-once extract --encoder clip-vit-l --data coco2017
      encode-once extract --encoder clip-vit-l --data s3://bucket/photos.csv
      encode-once extract --dry-run --data xrays.csv --label-columns Edema:Effusion
      encode-once extract --corrections corrections.csv
      encode-once extract --encoder clip-vit-l --label-column tags --label-set colour=Red:Blue
      encode-once extract --encoder clip-vit-l --data photos.parquet --caption-column alt --label-column tags
    """
    if list_encoders:
        from encode_once.extract.encoders import listed
        from encode_once.extract.encoders.catalogue import listing

        click.echo(listing(dict(listed())))
        say(views_text())
        say_next("encoders", "efficientnet-lite0")
        return
    if dry_run:
        _print_understood(data, read, as_json=as_json)
        encoder = [] if encoders else ["--encoder", "efficientnet-lite0"]
        part = options["shard"]
        words = ["--shard", f"{part.number or part.count}/{part.count}"] if part.count > 1 else []
        passed = passed_words({"dry_run", "as_json", "shard"}, named={"data"})
        say_next("extract", *encoder, *passed, *words)
        return
    encoders = with_views([name for names in encoders for name in names.split(",") if name], views, size)
    if not (encoders or read.changes_labels):
        raise UsageError("name an encoder with --encoder; encode-once encoders lists them")
    from encode_once.cache.names import captioner
    from encode_once.extract import encode

    captioners = filter(None, map(captioner, options["captions"]))
    files = weights_by_encoder([*dict.fromkeys([*encoders, *captioners])], weights)
    notes: list[str] = []

    def log(note: str) -> None:
        alert(note)
        notes.append(note)

    report = encode(
        data,
        encoders,
        store,
        weights=files,
        read=read,
        compute=compute,
        on_read=_say_understood,
        log=log,
        **options,
    )
    warn([line for line in report.warnings if line not in notes])
    for failure in report.failures[:NAMED]:
        alert(f"failed: {failure.input}: {failure.reason} ({failure.message})")
    if report.number_failed > NAMED:
        alert(
            f"failed: {report.number_failed - NAMED} more; failures.jsonl in the store's features names all"
        )
    _say_counts(report, store)
    if as_json:
        print_json(report.as_json())
    if report.failures and options["max_failures"] is None:
        raise DataError(
            f"{report.number_failed} inputs have no vector (see above); all others are stored; "
            f"--max-failures {report.number_failed} accepts as many"
        )
    labelled = any(table.labels is not None or table.label_sets for table in report.tables)
    say_next(*(["fit", "--head", "mlp"] if labelled else ["store", "list"]), *store_words(store))


@verb()
@click.argument("name", required=False, type=EncoderName())
@json_option
def encoders(name: str | None, as_json: bool) -> None:
    """List the encoders and whether their weights can be had, or show one and the features it makes.

    A name with a colon, such as `timm:`, is followed by a model of that library.

    \b
    Examples:
      encode-once encoders
      encode-once encoders clip-vit-l
      encode-once encoders --json
    """
    from encode_once.extract.encoders import card, listed
    from encode_once.extract.encoders.catalogue import described, listing, records

    if name is None:
        infos = dict(listed())
        print_result(records(infos) if as_json else None, as_json, lambda: listing(infos))
        say(views_text())
        say_next("encoders", "efficientnet-lite0")
        return
    record = described(name, card(name))
    print_result(record, as_json, lambda: "\n".join(f"{field}: {value}" for field, value in record.items()))
    say_next("extract", "--encoder", name)


@verb("extract")
@click.option(
    "--encoder",
    "names",
    multiple=True,
    default=["efficientnet-lite0"],
    show_default=True,
    type=EncoderName(),
    help="Encoder to time; several are also timed one by one.",
)
@data_option
@weights_option
@device_option
@backend_option
@click.option("--images", default=2000, show_default=True, help="Number of images to encode.")
@click.option("--repeats", default=3, show_default=True, help="Rounds; rates are their medians.")
@click.option("--scripts", is_flag=True, help="Also time scripts written with torch alone.")
@click.option(
    "--choices", "compare", is_flag=True, help="Only compare backends and precisions, on 64 inputs."
)
@json_option
def bench_extract(
    data: str, names: Sequence[str], weights: Sequence[str], as_json: bool, compare: bool, **options: Any
) -> None:
    """Time reading, decoding and the networks alone, then all together, compared with the limit they set.

    With --choices, compare each backend and precision on a CPU with float32 in torch, with the automatic
    choice and with a script.

    \b
    Examples:
      encode-once bench extract --choices --encoder minilm
      encode-once bench extract --scripts
      encode-once bench extract --encoder clip-vit-b32 --weights random --images 500
    """
    files = weights_by_encoder(names, weights)
    if compare:
        from encode_once.extract.bench.choices import choices
        from encode_once.extract.bench.choices import text as choices_text

        records = choices(data, names, weights=files)
        print_result(records, as_json, lambda: choices_text(records))
        return
    from encode_once.extract.bench.throughput import rates, text

    measured = rates(data, names, weights=files, **options)
    print_result(measured, as_json, lambda: text(measured))


@verb("read")
@click.option("--rows", default=1_000_000, show_default=True)
@click.option("--classes", default=80, show_default=True, help="Number of columns of 0 and 1.")
@json_option
def bench_read(rows: int, classes: int, as_json: bool) -> None:
    """Read a CSV file with one column for each class, compared with pandas' own read.

    \b
    Example:
      encode-once bench read --rows 100000
    """
    from encode_once.cache.text_table import table_text
    from encode_once.extract.bench.reading import reading

    results = reading(rows, classes)
    print_result(results, as_json, lambda: table_text(results))


@verb()
@click.option(
    "--folder", default="demo", show_default=True, type=click.Path(path_type=Path), help="Folder to write."
)
@click.option("--scenes", default=2000, show_default=True, help="Pictures to compose.")
@json_option
def demo(folder: Path, scenes: int, as_json: bool) -> None:
    """Compose pictures with captions and labels, then run the real commands on them, printing each.

    --json prints {"images", "store", "runs": [path], "predictions", "report"}, which are paths; what the
    commands print goes to stderr then.
    """
    from encode_once.extract.demo.run import run_demo

    result = run_demo(folder, scenes, quiet=as_json)
    if as_json:
        print_json(result)
    say_next("evaluate", *result["runs"])


verbs = (encoders, extract, demo)
benches = (bench_extract, bench_read)
