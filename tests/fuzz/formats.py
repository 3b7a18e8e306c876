"""The formats that are fuzzed: a small valid file of each, how it is broken, and what reads it."""

import csv
import gzip
import io
import json
import os
import sqlite3
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load, save

from encode_once.cache import Store, content_key
from encode_once.cache.aliases import changing_aliases, resolved
from encode_once.cache.describe import contents, listing
from encode_once.cache.format import header, part
from encode_once.cache.maintenance import repair, verify
from encode_once.cache.options import REPORTED
from encode_once.cache.settings import default_map
from encode_once.cache.table import KIND, WITH_HEADER
from encode_once.classify.runs.score_file import read_score_file, write_scores
from encode_once.cli import main
from encode_once.extract import ReadOptions
from encode_once.extract.images.decode import decode, quiet_pillow
from encode_once.extract.images.hashing import add_keys
from encode_once.extract.readers import read, understand
from encode_once.extract.readers.corrections import correct
from tests.classify.runs.labelling import label_file
from tests.classify.runs.reseal import reseal
from tests.conftest import WORDS, picture, vectors_file
from tests.fuzz import mutations

TABLE = KIND[0], WITH_HEADER  # the version of tables without unknown labels
GOLDEN = Path(__file__).parents[1] / "golden"
ROWS = 12
CAPTIONS = [f"a {WORDS[row % 6]} and a {WORDS[row // 2 % 6]}, {row}" for row in range(ROWS)]
LABELS = [f"{WORDS[row % 6]} {WORDS[row // 2 % 6]}" for row in range(ROWS)]


@dataclass(frozen=True)
class Format:
    """prepare(folder): write valid files; mutate(rng, folder): break one; use(folder): what reads it."""

    prepare: Callable
    mutate: Callable
    use: Callable


def file_format(pattern, prepare, mutate, use):
    """The format of the only file that the pattern matches; mutate(rng, path) breaks it."""

    def break_file(rng, folder):
        (path,) = folder.glob(pattern)
        mutate(rng, path)

    return Format(prepare, break_file, use)


def whole(change):
    """Break a file through its content: change(rng, content) returns other bytes."""
    return lambda rng, path: path.write_bytes(change(rng, path.read_bytes()))


BYTES = mutations.of_bytes
break_bytes = whole(BYTES)


def either(*ways):
    """One of several ways to break a file, drawn for each input."""
    return lambda rng, content: rng.choice(ways)(rng, content)


# ---------------------------------------------------------------------------------- data, images and weights


def _pictures(folder):
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for row in range(ROWS):
        path = folder / "data" / f"{row}.png"
        picture(row, (24, 16)).save(path)
        os.utime(path, (1e9, 1e9))  # keys of files that were changed a moment ago are not kept


def _records():
    return [
        {"id": str(row), "image": f"data/{row}.png", "caption": CAPTIONS[row], "labels": LABELS[row].split()}
        for row in range(ROWS)
    ]


def read_data(folder, name):
    """Read a data file, or the folder if the name is empty, hash its contents and save its tables.

    As `extract` does, first with bad rows left out and then without. A refusal must name the file.
    """
    path, store = folder / name, Store(folder / "fresh-store")
    refusals = []
    for skip_bad_rows in (True, False):
        try:
            for table in read(path, ReadOptions(skip_bad_rows=skip_bad_rows))[0].values():
                add_keys(table, store.files, 1)
                store.save(table)
        except REPORTED as error:
            refusals.append(error)
    store.headers()
    if refusals:
        assert str(path) in str(refusals[-1]), f"no file is named: {refusals[-1]}"
        raise refusals[-1]


def data_file(name, content, change, read_folder=False):
    """A file of data next to its images."""

    def prepare(folder):
        _pictures(folder)
        (folder / name).write_bytes(content())

    return file_format(
        name, prepare, whole(change), lambda folder: read_data(folder, "" if read_folder else name)
    )


def folder_file(name, prepare, change):
    """A file of a folder that is read as a whole; prepare(folder) writes it and the images."""
    return file_format(name, prepare, whole(change), lambda folder: read_data(folder, ""))


def _json_columns():
    records = _records()
    return json.dumps({name: [record[name] for record in records] for name in records[0]}).encode()


def _tasks():
    """As Label Studio exports them."""
    return json.dumps(
        [
            {
                "id": row,
                "data": {"image": f"/data/local-files/?d=data/{row}.png", "text": CAPTIONS[row]},
                "annotations": [
                    {
                        "was_cancelled": False,
                        "result": [
                            {"from_name": "tag", "value": {"choices": LABELS[row].split()}},
                            {"from_name": "shape", "value": {"points": [[0, 1]], "polygonlabels": ["box"]}},
                            {"from_name": "kind", "value": {"taxonomy": [["thing", "box"]]}},
                        ],
                    }
                ],
            }
            for row in range(ROWS)
        ]
    ).encode()


def _spreadsheet():
    file = io.BytesIO()
    pd.DataFrame(_records()).assign(labels=LABELS).to_excel(file, index=False)
    return file.getvalue()


def spreadsheet_member(rng, content):
    """Break one of the files that a spreadsheet packs, and pack it again."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice([name for name in members if name.endswith(".xml")])
    members[name] = rng.choice((BYTES, mutations.of_lines))(rng, members[name].replace(b"><", b">\n<"))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, text in members.items():
            archive.writestr(member, text)
    return file.getvalue()


def _list():
    return "".join(f"data/{row}.png {row % 3}\n" for row in range(ROWS)).encode()


def _voc(folder):
    _pictures(folder)
    (folder / "data").rename(folder / "pictures")
    for path in (folder / "pictures").iterdir():
        path.rename(folder / path.name)
    (folder / "pictures").rmdir()
    objects = "".join(f"<object><name>{word}</name></object>" for word in WORDS)
    (folder / "0.xml").write_text(f"<annotation><filename>0.png</filename>{objects}</annotation>")


def _yolo(folder):
    _pictures(folder)
    (folder / "data").rename(folder / "images")
    (folder / "labels").mkdir()
    for row in range(ROWS):
        (folder / "labels" / f"{row}.txt").write_text(f"{row % 6} 0.5 0.5 0.1 0.1\n")
    (folder / "data.yaml").write_text(
        "".join(["names:\n", *(f"  {n}: {word}\n" for n, word in enumerate(WORDS))])
    )


def json_tree(rng, content):
    """Break the tree of a JSON text."""
    return mutations.of_json(rng, json.loads(content))


def json_line(rng, content):
    """Break the tree of one line of JSON lines."""
    lines = [line for line in content.splitlines() if line.strip()]
    row = rng.randrange(len(lines))
    lines[row] = mutations.of_json(rng, json.loads(lines[row]))
    return b"\n".join(lines) + b"\n"


def _csv(separator):
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=separator)
    writer.writerow(["ImageID", "Labels", "Caption"])
    writer.writerows(zip([f"{row}.png" for row in range(ROWS)], LABELS, CAPTIONS, strict=True))
    return buffer.getvalue().encode()


def _json_lines():
    return b"\n".join(json.dumps(record).encode() for record in _records())


def _coco():
    return json.dumps({
        "info": {"year": 2017},
        "images": [{"id": row, "file_name": f"data/{row}.png"} for row in range(ROWS)],
        "categories": [{"id": number, "name": word} for number, word in enumerate(WORDS)],
        "annotations": [
            {"id": row, "image_id": row, "category_id": row % 6, "caption": CAPTIONS[row]}
            for row in range(ROWS)
        ],
    }).encode()  # fmt: skip


def _webdataset():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for row in range(ROWS):
            png = io.BytesIO()
            picture(row, (24, 16)).save(png, "png")
            record = json.dumps({"labels": LABELS[row].split()}).encode()
            for suffix, content in (
                ("png", png.getvalue()),
                ("txt", CAPTIONS[row].encode()),
                ("json", record),
            ):
                member = tarfile.TarInfo(f"{row:03}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def tar_header(rng, content):
    """Write another size, type or number into the header of a member, with the right checksum."""
    content = bytearray(content)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        start = rng.choice([member.offset for member in archive.getmembers()])
    place, width = rng.choice([(100, 8), (124, 12), (124, 12), (124, 12), (136, 12), (156, 1), (345, 155)])
    size = rng.choice([-1, -512, -1536, 2**33, 2**62, 2**80])
    content[start + place : start + place + width] = rng.choice([
        bytes([255 if size < 0 else 128]) + (size % (1 << 88)).to_bytes(11), b"7" * width, b"-1\0",
        b"\0" * width, rng.randbytes(width), bytes([rng.choice(b"01234567xgLKSMVDN")]),
    ])[:width].ljust(width, b"\0")  # fmt: skip
    content[start + 148 : start + 156] = b" " * 8
    content[start + 148 : start + 156] = b"%06o\0 " % sum(content[start : start + 512])
    return bytes(content)


MEMBER_NAMES = [
    "../x.png", "/etc/x.png", "a" * 300 + ".png", ".png", "x", "é.png", "a\x1b[31m.png", "a\0b.png",
    "a\nb.png", "\udcff.png", "y@0+99999999999999999999.png",
]  # fmt: skip
MEMBER_TYPES = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE]


def tar_member(rng, content):
    """Break one member of an archive: its name, type, size or content."""
    source, target = tarfile.open(fileobj=io.BytesIO(content)), io.BytesIO()  # noqa: SIM115
    members = source.getmembers()
    chosen = rng.randrange(len(members))
    with tarfile.open(
        fileobj=target, mode="w", format=rng.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    ) as archive:
        for number, member in enumerate(members):
            inside = source.extractfile(member).read()
            if number == chosen:
                match rng.randrange(5):
                    case 0:
                        member.name = rng.choice(MEMBER_NAMES)
                    case 1:
                        member.type = rng.choice(MEMBER_TYPES)
                        member.linkname = rng.choice(["/etc/passwd", member.name, ""])
                    case 2 if member.name.endswith("json"):
                        inside = json_tree(rng, inside)
                    case _:
                        inside = mutations.of_bytes(rng, inside)
                member.size = len(inside) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(inside) if member.isreg() else None)
    return target.getvalue()


def _parquet(columns=None):
    buffer = io.BytesIO()
    pq.write_table(
        pa.table(columns or {key: [record[key] for record in _records()] for key in _records()[0]}), buffer
    )
    return buffer.getvalue()


def parquet_table(rng, content):
    """Write the table with columns of other types, names and metadata, of those that parquet can hold."""
    while True:
        try:
            return _odd_parquet(rng, content)
        except (pa.ArrowException, TypeError):
            continue


def _odd_parquet(rng, content):
    columns = pq.read_table(io.BytesIO(content)).to_pydict()
    name = rng.choice(list(columns))
    kinds = [
        lambda value: str(value).encode(), lambda value: {"a": 1}, lambda value: [("a", 1)],
        lambda value: None, lambda value: float("nan"), lambda value: rng.randrange(-5, 5),
        lambda value: [[str(value)]],
        lambda value: {"bytes": str(value).encode(), "path": None}, lambda value: rng.random() < 0.5,
        lambda value: [None, 1.5], lambda value: np.datetime64("2020-01-01"), lambda value: b"\xff\xfe",
    ]  # fmt: skip
    kind = rng.choice(kinds)
    columns[name] = [kind(value) for value in columns[name]]
    table = pa.table(columns)
    if rng.random() < 0.3:
        table = table.rename_columns([rng.choice(["a", "", "id", column]) for column in table.column_names])
    if rng.random() < 0.3:
        label = {"names": ["a"], "_type": "ClassLabel"}
        feature = rng.choice([label, {"_type": "Sequence", "feature": label}, {"_type": "List"}])
        features = {"info": {"features": {name: feature}}}
        table = table.replace_schema_metadata({"huggingface": mutations.of_json(rng, features)})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def _dataset(folder):
    """A folder in the format of `save_to_disk`."""
    columns = {key: [record[key] for record in _records()] for key in ("id", "caption")}
    columns["image"] = [{"bytes": _image("png"), "path": f"{row}.png"} for row in range(ROWS)]
    columns["labels"] = [[row % 6] for row in range(ROWS)]
    label = {"_type": "Sequence", "feature": {"_type": "ClassLabel", "names": WORDS}}
    metadata = {"huggingface": json.dumps({"info": {"features": {"labels": label}}})}
    table = pa.table(columns).replace_schema_metadata(metadata)
    data = folder / "saved"
    data.mkdir()
    with pa.OSFile(str(data / "x.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, 5)
    (data / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": "x.arrow"}], "_split": "train"})
    )


def dataset(rng, folder):
    """Break the list of files, or the arrow file, of a saved dataset."""
    if rng.random() < 0.3:
        whole(json_tree)(rng, folder / "saved" / "state.json")
    else:
        break_bytes(rng, folder / "saved" / "x.arrow")


def _image(kind):
    buffer = io.BytesIO()
    picture(1, (40, 32)).save(buffer, kind)
    return buffer.getvalue()


def _decode(path):
    with quiet_pillow():
        decode(path.read_bytes(), 16)


def image(kind):
    """An image, read by the decoder."""
    return file_format(
        "image",
        lambda folder: (folder / "image").write_bytes(_image(kind)),
        break_bytes,
        lambda folder: _decode(folder / "image"),
    )


def _data_and_corrections(folder):
    (folder / "rows.csv").write_bytes(_csv(","))
    (folder / "corrections.csv").write_text(
        "split,id,label,decision\nrows,0.png,bird,add\nrows,1.png,cat,remove\nrows,2.png,car,keep\n"
    )


def _correct(folder):
    try:
        correct(understand(folder / "rows.csv"), folder / "corrections.csv")
    except REPORTED as error:
        assert str(folder / "corrections.csv") in str(error), f"no file is named: {error}"
        raise


def _load_word_vectors(folder):
    from encode_once.extract.encoders.base import Options
    from encode_once.extract.encoders.glove import towers

    (tower,) = towers("glove-50", Options(weights=str(folder / "vectors.txt")))
    tower.load("cpu")
    tower.encode([tower.prepare("a dog and a cat")])


# ------------------------------------------------------------------------------------------- files of a store


def _store(folder):
    """A store of two features of 12 rows, with a failure."""
    from encode_once.cache import Failure

    _pictures(folder)
    (folder / "train.csv").write_bytes(_csv(","))
    store = Store(folder / "store")
    (table,) = read(folder)[0].values()
    add_keys(table, store.files, 1)
    store.save(table, store.sources(table))
    rng = np.random.default_rng(0)
    for name, modality in (("colours/mean", "image"), ("words/mean", "caption")):
        feature = store.declare(name, {"modality": modality})
        with feature.writer(3) as writer:
            writer.append(table.keys(modality), rng.normal(size=(ROWS, 3)).astype(np.float32))
    store.feature("colours/mean").record_failures([Failure(content_key(b"x").hex(), "corrupt", "x", "y")])


def use_store(folder):
    """List, verify, read and repair a store; each must end, whether the others can read it or not."""
    store = Store(folder / "store")
    errors = []
    for use in (list_store, verify, read_store, repair, verify):
        try:
            use(store)
        except REPORTED as error:
            errors.append(error)
    if errors:
        raise errors[0]


def list_store(store):
    listing(contents(store))


def read_store(store):
    for table in store.tables():
        add_keys(table, store.files, 1)
        for name in store.features():
            feature = store.feature(name)
            rows = feature.find(table.keys(feature.modality))
            feature.read(feature.keys[: max(0, int(rows.max()) + 1)])
            feature.failures()


def store_file(pattern, mutate):
    """A file of a store."""
    return file_format(f"store/{pattern}", _store, mutate, use_store)


def stamped_hdf5(kind):
    """Break the HDF5 content or the stamp of a file, and write a checksum that fits."""

    def mutate(rng, path):
        if rng.random() < 0.5:
            broken = json.loads(_shallow(rng, header.read_stamp(path, kind)))
            with path.open("r+b") as file:
                header.write_stamp(file.fileno(), broken)
        elif rng.random() < 0.7:
            if _broke_hdf5(rng, path) and kind == TABLE:
                header.stamp_whole(path, kind, {"header": header.read_stamp(path, kind)["header"]})
        else:
            break_bytes(rng, path)

    return mutate


def _broke_hdf5(rng, path):
    """Change the HDF5 content of a file; whether the HDF5 library did."""
    try:
        mutations.of_hdf5(rng, path, path.parent / "outside")
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, MemoryError):
        return False
    return True


def _shallow(rng, tree):
    """A mutated JSON text that fits into a stamp."""
    while len(text := mutations.of_json(rng, tree)) > 3500:
        pass
    return text


def sqlite(rng, path):
    """Break the database of known files: its bytes, its schema or its rows."""
    if rng.random() < 0.4:
        break_bytes(rng, path)
        return
    with sqlite3.connect(path) as database:
        names = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
        if not names:
            return
        table = rng.choice(names)
        match rng.randrange(4):
            case 0:
                database.execute(f'drop table "{table}"')
            case 1:
                database.execute(f'alter table "{table}" rename to other')
                database.execute(
                    f'create view "{table}" as '
                    "with recursive n(i) as (select 1 union all select i + 1 from n) "
                    "select i as path, i as size, i as mtime_ns, i as key, i as checksum from n"
                )
            case 2:
                columns = [row[1] for row in database.execute(f'pragma table_info("{table}")')]
                database.execute(
                    f'update or ignore "{table}" set "{rng.choice(columns)}" = ?',
                    [rng.choice([None, "x", b"", 2**62, 1.5])],
                )
            case 3:
                database.execute(f"pragma user_version = {rng.randrange(100)}")


# --------------------------------------------------------------------------------------------- files of a run


@cache
def _run(head):
    def prepare(folder):
        from encode_once.classify import fit
        from encode_once.classify.spec import FitSpec

        _store(folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            spec = FitSpec(head=head, features=("colours/mean",), split="kfold:2")
            fit(folder / "store", spec, run=folder / "run")

    return prepare


def use_run(folder):
    """Load a run, measure it, tune it again, label the rows of the store with it, and report it."""
    from encode_once.classify import load_run, retune
    from encode_once.classify.runs.retune import compare_rules, evaluate_kept

    run = load_run(folder / "run")
    metrics = evaluate_kept(run).metrics
    retune(run, run.decision.spec)
    compare_rules(run, metrics)
    store = Store(folder / "store", read_only=True)
    label_file(run, store, store.tables()[0], folder / "predictions.csv")


def run_file(name, mutate, head="linear"):
    """A file of a run, with the checksum of what it holds."""

    def mutate_and_reseal(rng, path):
        mutate(rng, path)
        reseal(path.parent)

    return file_format(f"run/{name}", _run(head), mutate_and_reseal, use_run)


@cache
def _old_run(version, name):
    def prepare(folder):
        prefix = f"runs/{name}/"
        with zipfile.ZipFile(GOLDEN / f"runs-{version}.zip") as archive:
            archive.extractall(folder, [file for file in archive.namelist() if file.startswith("store/")])
            for file in archive.namelist():
                if file.startswith(prefix):
                    (folder / "run").mkdir(exist_ok=True)
                    (folder / "run" / file.removeprefix(prefix)).write_bytes(archive.read(file))

    return prepare


def old_run_file(version, name, file, mutate):
    """A file of a run of an earlier version, which has no checksums."""
    return file_format(f"run/{file}", _old_run(version, name), mutate, use_run)


def hdf5(rng, path):
    """Break an HDF5 file that has no stamp."""
    (break_bytes if rng.random() < 0.4 else _broke_hdf5)(rng, path)


def safetensors(rng, content):
    """Break the header, or the numbers, of a safetensors file."""
    size = int.from_bytes(content[:8], "little")
    tree, values = json.loads(content[8 : 8 + size]), bytearray(content[8 + size :])
    if rng.random() < 0.5:
        place = rng.randrange(0, len(values) - 3, 4)
        values[place : place + 4] = np.float32(rng.choice([np.nan, np.inf, 1e38, -0.0])).tobytes()
        text = content[8 : 8 + size]
    else:
        text = mutations.of_json(rng, tree)
    return len(text).to_bytes(8, "little") + text + bytes(values)


def booster(rng, content):
    """Break the text of a LightGBM model inside a safetensors file."""
    arrays = load(content)
    name = rng.choice([name for name in arrays if "booster" in name])
    text = rng.choice([mutations.of_bytes, mutations.of_lines])(rng, arrays[name].tobytes())
    return save(arrays | {name: np.frombuffer(text, np.uint8)})


def score_file(suffix, mutate):
    """The format of a file that `predict --scores` writes and `monitor` reads."""
    classes = [*WORDS, "9"]

    def prepare(folder):
        scores = np.random.default_rng(0).random((ROWS, len(classes)))
        write_scores(folder / f"scores{suffix}", "ImageID", [*map(str, range(ROWS))], classes, scores)

    def use(folder):
        read_score_file(folder / f"scores{suffix}", classes)

    return file_format(f"scores{suffix}", prepare, whole(mutate), use)


def _settings(folder):
    lines = [
        "[all]",
        'store = "vectors"',
        "[fit]",
        "seed = 3",
        'set = ["l2=3"]',
        "[store.verify]",
        "quick = true",
    ]
    (folder / "encode-once.toml").write_text("\n".join(lines))


def _read_settings(folder):
    default_map(main, folder / "encode-once.toml", trusted=False)


def _aliases(folder):
    for name in ("first", "second"):
        (folder / name).mkdir()
        with changing_aliases(folder) as aliases:
            aliases.assign(name, "champion")


FORMATS = {
    "csv": data_file("train.csv", lambda: _csv(","), either(BYTES, mutations.of_lines), read_folder=True),
    "tsv": data_file("rows.tsv", lambda: _csv("\t"), either(BYTES, mutations.of_lines)),
    "jsonl": data_file("rows.jsonl", _json_lines, either(BYTES, json_line)),
    "csv.gz": data_file("rows.csv.gz", lambda: gzip.compress(_csv(",")), BYTES),
    "json": data_file("rows.json", _json_columns, either(BYTES, json_tree, json_tree)),
    "label studio": data_file("tasks.json", _tasks, either(BYTES, json_tree, json_tree)),
    "xlsx": data_file("rows.xlsx", _spreadsheet, either(BYTES, spreadsheet_member, spreadsheet_member)),
    "list": data_file("rows.txt", _list, either(BYTES, mutations.of_lines)),
    "voc": folder_file("0.xml", _voc, either(BYTES, mutations.of_lines)),
    "yolo": folder_file("data.yaml", _yolo, either(BYTES, mutations.of_lines)),
    "coco": data_file("instances_train2017.json", _coco, either(BYTES, json_tree, json_tree)),
    "webdataset": data_file("000.tar", _webdataset, either(BYTES, tar_member, tar_member, tar_header)),
    "parquet": data_file("rows.parquet", _parquet, either(BYTES, parquet_table, parquet_table)),
    "saved dataset": Format(_dataset, dataset, lambda folder: read_data(folder, "saved")),
    **{kind: image(kind) for kind in "jpeg png gif webp tiff bmp avif jpeg2000 ppm".split()},
    "corrections": file_format(
        "corrections.csv", _data_and_corrections, whole(either(BYTES, mutations.of_lines)), _correct
    ),
    "encode-once.toml": file_format(
        "encode-once.toml", _settings, whole(either(BYTES, mutations.of_lines)), _read_settings
    ),
    ".aliases.json": file_format(
        ".aliases.json",
        _aliases,
        whole(either(BYTES, json_tree, json_tree)),
        lambda folder: resolved(f"{folder}@champion"),
    ),
    "word vectors": file_format(
        "vectors.txt",
        lambda folder: vectors_file(folder / "vectors.txt", dim=50),
        whole(either(BYTES, mutations.of_lines)),
        _load_word_vectors,
    ),
    "store.json": store_file("store.json", whole(either(BYTES, json_tree, json_tree))),
    "spec.json": store_file("features/colours/mean/spec.json", whole(either(BYTES, json_tree, json_tree))),
    "failures.jsonl": store_file("features/colours/mean/failures.jsonl", whole(either(BYTES, json_line))),
    "part": store_file("features/colours/mean/*.h5", stamped_hdf5(part.KIND)),
    "table": store_file("tables/*.h5", stamped_hdf5(TABLE)),
    "files.sqlite": store_file("files.sqlite", sqlite),
    "run.json of version 3": old_run_file(3, "folds", "run.json", whole(either(BYTES, json_tree, json_tree))),
    "thresholds.json of version 3": old_run_file(
        3, "folds", "thresholds.json", whole(either(BYTES, json_tree, json_tree))
    ),
    "scores.h5 of version 4": old_run_file(4, "folds", "scores.h5", hdf5),
    "weights of version 3": old_run_file(
        3, "forest", "weights.safetensors", whole(either(BYTES, safetensors))
    ),
    "run.json": run_file("run.json", whole(either(BYTES, json_tree, json_tree, json_tree))),
    "thresholds.json": run_file("thresholds.json", whole(either(BYTES, json_tree, json_tree))),
    "scores.h5": run_file("scores.h5", hdf5),
    "scores.csv": score_file(".csv", either(BYTES, mutations.of_lines)),
    "scores.jsonl": score_file(".jsonl", either(BYTES, json_line)),
    "scores.parquet": score_file(".parquet", either(BYTES, parquet_table)),
    "weights.safetensors": run_file("weights.safetensors", whole(either(BYTES, safetensors))),
    "LightGBM text": run_file("weights.safetensors", whole(booster), head="gbm"),
}  # fmt: skip
