"""A run with its encoders as one ONNX graph: pixels, token ids or counts of words → scores and labels."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from encode_once.cache import DataError
from encode_once.cache.names import OWN, FeatureName
from encode_once.cache.views import without_view
from encode_once.classify.data.text.tfidf import TfIdf
from encode_once.classify.runs.run import Run
from encode_once.deploy.encoder_graph import EncoderPart, tower_part, words_part
from encode_once.deploy.onnx_file import (
    ExportError,
    graph_of,
    joined,
    onnx_library,
    serialised,
    with_properties,
)
from encode_once.deploy.run_graph import RunGraph, run_metadata
from encode_once.extract.encoders import towers
from encode_once.extract.encoders.base import Options, Tower
from encode_once.extract.encoders.custom import is_custom

INSTEAD = "without --with-encoder and --folder, export takes its vectors as input"


@dataclass(frozen=True)
class WholeGraph:
    """The content of an ONNX file.

    inputs: what its metadata say of them.
    token_ids: input → caption → token ids as the encoder of the run makes them itself.
    """

    content: bytes
    inputs: Sequence[dict[str, Any]]
    token_ids: Mapping[str, Callable[[str], Any]]


def whole_graph(run: Run, weights: Mapping[str, str]) -> WholeGraph:
    """A graph from images and captions to scores and labels, not yet compared with the run.

    Its inputs and how they are made are in its metadata, as `predict_script` reads them: JSON in `inputs`.

    weights: encoder → local file, as for `extract.encode`.

    Raises:
        DataError: a feature or the head has no graph, or a library is missing.
        ExportError: torch or onnx cannot make the graph, or it is too large for one file.
        WeightsError: an encoder's weights cannot be loaded.
    """
    onnx_library()
    refuse_features(run)
    module = RunGraph(run)  # refuses heads before encoders are loaded
    parts = [*_encoder_parts(run, weights), *_word_parts(run)]
    blocks = {f"block/{name}": length * width for name, (length, width) in run.shapes.items()}
    examples = {name: torch.zeros(2, width) for name, width in blocks.items()}
    graph = graph_of(module, examples, ["scores", "labels"], f"head {run.spec.head}")
    entries, shared = _named_inputs(parts)
    for number, part in reversed([*enumerate(parts)]):  # so that the inputs of the first come first
        _rename_inputs(part.graph, {name: f"{number}/{name}" for name in part.inputs})
        links = {output.name: f"block/{output.name}" for output in part.graph.graph.output}
        graph = joined(part.graph, graph, links)
    _rename_inputs(graph, shared)
    token_ids = {
        shared[f"{number}/{part.inputs[0]}"]: part.token_ids
        for number, part in enumerate(parts)
        if part.token_ids is not None
    }
    content = serialised(with_properties(graph, run_metadata(run) | {"inputs": entries}))
    return WholeGraph(content, entries, token_ids)


def refuse_features(run: Run) -> None:
    """Raise if a feature of a run cannot be computed in a graph, without loading its encoder.

    Raises:
        DataError: with the feature, the reason and what to do instead.
    """
    for name, stored in run.record.features.items():
        parsed = FeatureName.parse(name, stored.captions if stored else None)
        if stored is None:
            if not isinstance(run.model.vectorisers[name], TfIdf):
                raise _refused(name, "its word vectors are looked up by text")
        elif parsed not in run.record.encoded:
            raise _refused(name, "its vectors are imported")
        elif parsed.captions != OWN:
            raise _refused(name, f"its captions are written by {parsed.captioner}")
        elif is_custom(parsed.encoder):
            raise _refused(name, "its encoder is Python code of yours")
        elif stored.length > 1 or parsed.output in ("regions", "tokens"):
            raise _refused(name, "it is a sequence")


def _refused(feature: str, reason: str) -> DataError:
    return DataError(f"{feature} cannot be computed by the graph: {reason}; {INSTEAD}")


def _encoder_parts(run: Run, weights: Mapping[str, str]) -> list[EncoderPart]:
    """A part for each tower that the run's features need."""
    needed: dict[str, dict[str, str]] = {}  # encoder → output → feature
    for name, parsed in zip(run.record.stored, run.record.names, strict=True):
        needed.setdefault(parsed.encoder, {})[parsed.output] = name
    parts = []
    for encoder, features in needed.items():
        for tower in towers(encoder, Options(weights.get(without_view(encoder)))):
            of_tower = {output: features[output] for output in tower.specs if output in features}
            if of_tower:
                parts.append(_part(run, tower, of_tower))
    return parts


def _part(run: Run, tower: Tower, features: Mapping[str, str]) -> EncoderPart:
    if tower.modality == "image":
        tower.set_bit_depth(run.record.bit_depth or tower.bit_depth)
    try:
        return tower_part(tower, features)
    except DataError as error:
        raise _refused(", ".join(features.values()), str(error)) from error
    except ExportError as error:
        raise ExportError(f"{error}; {INSTEAD}") from error


def _word_parts(run: Run) -> list[EncoderPart]:
    vectorisers = run.model.vectorisers.items()
    return [words_part(words, name) for name, words in vectorisers if isinstance(words, TfIdf)]


def _named_inputs(parts: Sequence[EncoderPart]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """What the metadata say of each input, and number of part / its input → the graph's input.

    Parts share an input if it is made in the same way. Another one of the same kind has a number behind its
    name.
    """
    entries: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for number, part in enumerate(parts):
        features = [output.name for output in part.graph.graph.output]
        for entry in entries:
            if {**part.about, "names": entry["names"], "features": entry["features"]} == entry:
                entry["features"] += features
                break
        else:
            counts.update(part.inputs)
            ending = f"_{counts[part.inputs[0]]}" if counts[part.inputs[0]] > 1 else ""
            entry = {**part.about, "names": [f"{name}{ending}" for name in part.inputs], "features": features}
            entries.append(entry)
        names |= {f"{number}/{old}": new for old, new in zip(part.inputs, entry["names"], strict=True)}
    return entries, names


def _rename_inputs(model: Any, names: Mapping[str, str]) -> None:
    """Rename inputs of a graph; those that get the same name become one."""
    graph = model.graph
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    inputs: dict[str, Any] = {}
    for value in graph.input:
        value.name = names.get(value.name, value.name)
        inputs.setdefault(value.name, value)
    kept = [*inputs.values()]
    del graph.input[:]
    graph.input.extend(kept)
