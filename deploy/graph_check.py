"""Compare a whole graph with `predict`, on images and captions of the run's own rows or generated images."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from encode_once.cache import EncodeOnceError, Store, Table
from encode_once.cache.names import FeatureName
from encode_once.classify.arrays import BoolArray, Scores
from encode_once.classify.data import features
from encode_once.classify.data.tables import choose_table
from encode_once.classify.runs.predict import fitted_store, sources
from encode_once.classify.runs.run import Run
from encode_once.deploy.onnx_file import ExportError
from encode_once.deploy.predict_script import ExportedModel
from encode_once.deploy.run_graph import Agreement, compare
from encode_once.deploy.whole_graph import WholeGraph
from encode_once.extract import ComputeOptions, encode
from encode_once.extract.encoders.base import number_format
from encode_once.extract.encoders.precision import LEAST_COSINE
from encode_once.extract.errors import InputError
from encode_once.extract.images.hashing import read_file

TOLERANCE = 1e-4  # difference of a score
BATCH = 3  # rows that are also scored together
GENERATED = 16  # images, where the run's own are gone
OTHER_TOKENS = "have other tokens in tokenizers' JSON than open_clip gives them (HTML entities, odd Unicode)"
OWN, GONE = "of the run's own rows", "generated images, as those of the run's rows are gone,"
INVENTED_IMAGES, INVENTED_CAPTIONS = "generated images", "made-up captions"


@dataclass(frozen=True)
class GraphCheck:
    """How a graph agrees with its run, on what rows, and which rows were left out."""

    agreement: Agreement
    kind: str  # of rows
    remarks: list[str]


def check_graph(run: Run, graph: WholeGraph, weights: Mapping[str, str], rows: int) -> GraphCheck:
    """Score rows by the graph, prepared by `predict_script`, and by the run, as `predict` does.

    weights: encoder → local file, as for `extract.encode`.

    Raises:
        ExportError: the scores differ by more than TOLERANCE, or labels do not follow from them.
        EncodeOnceError: the run's own encoders cannot score the rows.
    """
    model = ExportedModel(graph.content)
    with TemporaryDirectory() as folder:
        table, kind, remarks = _rows(run, rows, Path(folder))
        expected, whole, warnings = _expected(run, table, weights, Path(folder) / "store")
        feeds = []
        for row in range(len(table)):
            content = io.BytesIO(read_file(table.images[row])) if table.images[row] else None
            feeds.append(model.prepare(content, table.captions[row]) if whole[row] else {})
    same = np.array(
        [_same_tokens(graph, feed, text) for feed, text in zip(feeds, table.captions, strict=True)]
    )
    remarks += warnings
    for left_out, why in ((~whole, "images cannot be decoded"), (whole & ~same, f"captions {OTHER_TOKENS}")):
        if left_out.any():
            remarks.append(f"not compared: {int(left_out.sum())} rows, whose {why}")
    compared = np.flatnonzero(whole & same)
    if not len(compared):
        raise ExportError("there is no row to compare the graph with the run on")
    outputs = [model.session.run(["scores", "labels"], feeds[row]) for row in compared]
    scores, labels = (np.concatenate(parts) for parts in zip(*outputs, strict=True))
    first = compared[:BATCH]
    together = model.session.run(["scores", "labels"], _together([feeds[row] for row in first]))
    try:
        compare(run, expected[first], together[0], together[1], TOLERANCE)
        return GraphCheck(compare(run, expected[compared], scores, labels, TOLERANCE), kind, remarks)
    except ExportError as error:
        raise ExportError(f"{error}{_cause(run)}") from error


def _cause(run: Run) -> str:
    """The end of the message on other scores: the features that are not in float32, as the graph is."""
    reduced = [
        f"{FeatureName(encoder, output)} in {number_format(str(spec['precision']))}"
        for encoder, specs in run.record.specs.items()
        for output, spec in specs.items()
        if number_format(str(spec.get("precision"))) in LEAST_COSINE
    ]
    if not reduced:
        return ""
    remedy = "extract --precision float32 into another --store, and fit on that"
    return f": the graph computes in float32, and the run has {', '.join(reduced)}: {remedy}"


def _same_tokens(graph: WholeGraph, feed: Mapping[str, Any], caption: str) -> bool:
    """Whether the token ids are those that the encoders make themselves."""
    return not caption or all(
        [*map(int, token_ids(caption))] == feed[name][0].tolist()
        for name, token_ids in graph.token_ids.items()
        if name in feed
    )


def _together(feeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Inputs of several rows in one batch; shorter captions are padded with 0."""
    batch = {}
    for name in feeds[0]:
        arrays = [feed[name] for feed in feeds]
        longest = max(array.shape[1] for array in arrays)
        rest = [(0, 0)] * (arrays[0].ndim - 2)
        padded = [np.pad(array, [(0, 0), (0, longest - array.shape[1]), *rest]) for array in arrays]
        batch[name] = np.concatenate(padded)
    return batch


def _expected(
    run: Run, table: Table, weights: Mapping[str, str], path: Path
) -> tuple[Scores, BoolArray, list[str]]:
    """The scores (n, c) of the run's head, which rows (n,) have all images that it needs, and warnings."""
    fitted = fitted_store(run)
    store = Store(path, base=fitted if fitted.exists else None)
    warnings: list[str] = []
    if run.record.requested:
        report = encode(
            table,
            run.record.requested,
            store,
            weights=weights,
            captions=run.record.captions,
            features=run.record.encoder_features,
            compute=ComputeOptions(bit_depth=run.record.bit_depth),
            keep_tables=False,
            progress=False,
        )
        warnings = report.warnings
    matrix = features.load(sources(run, store), table)
    of_images = [
        stored is not None and stored.spec["modality"] == "image" for stored in run.record.features.values()
    ]
    complete = np.asarray(~matrix.missing()[:, of_images].any(axis=1))
    return run.model.scores(matrix), complete, warnings


def _rows(run: Run, rows: int, folder: Path) -> tuple[Table, str, list[str]]:
    """Rows with a caption each to compare on, what kind of rows they are, and why not those of the run."""
    needs_images = "images" in run.record.inputs
    try:
        table = choose_table(fitted_store(run), run.record.table, run.spec.split, run.spec.labels)
    except EncodeOnceError as error:
        captions, kind = (
            ["a dog and a cat in a street", ""],
            INVENTED_IMAGES if needs_images else INVENTED_CAPTIONS,
        )
        remarks = [f"the run's rows are not compared: {error}"]
    else:
        order = np.random.default_rng(0).permutation(len(table)).tolist()
        if not needs_images:
            return _table(order[:rows], [""] * len(table), table.captions), OWN, []
        with_image = (row for row in order[: 4 * rows] if _is_there(table.images[row]))
        chosen = [*islice(with_image, rows)]
        if chosen:
            return _table(chosen, table.images, table.captions), OWN, []
        captions, kind, remarks = [table.captions[row] for row in order], GONE, []
    count = min(rows, GENERATED) if needs_images else len(captions)
    images = [_picture(folder / f"{row}.png", row) if needs_images else "" for row in range(count)]
    texts = [captions[row % len(captions)] for row in range(count)]
    return _table([*range(count)], images, texts), kind, remarks


def _table(rows: Sequence[int], images: Sequence[str], captions: Sequence[str]) -> Table:
    texts = [captions[row] for row in rows]
    return Table("rows to compare on", [str(row) for row in rows], [images[row] for row in rows], texts, None)


def _is_there(image: str) -> bool:
    try:
        return bool(image and read_file(image))
    except InputError:
        return False


def _picture(path: Path, seed: int) -> str:
    """Write a picture with shapes and noise."""
    rng = np.random.default_rng(seed)
    shapes = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((400, 300 + 16 * seed))
    noise = rng.integers(-20, 21, (shapes.height, shapes.width, 3))
    Image.fromarray((np.asarray(shapes) + noise).clip(0, 255).astype(np.uint8)).save(path)
    return str(path)
