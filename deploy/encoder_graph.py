"""Encoders as ONNX graphs: pixels, token ids or counts of words → the columns of features."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from encode_once.cache import DataError
from encode_once.classify.data.text.tfidf import TfIdf
from encode_once.classify.data.text.words import WORD
from encode_once.deploy.caption_tokens import tokenizer_json
from encode_once.deploy.image_policy import image_policy
from encode_once.deploy.onnx_file import graph_of, joined, load
from encode_once.extract.encoders.base import Tower
from encode_once.extract.encoders.clip import ClipCaptions
from encode_once.extract.encoders.image_network import CHANNELS, ImageNetwork
from encode_once.extract.encoders.onnx import MEAN, STD, NetworkFile, OnnxImages
from encode_once.extract.encoders.transformers_models import TransformerCaptions

PIXELS, IDS, MASK, COUNTS = "pixels", "token_ids", "token_mask", "word_counts"
EXAMPLES = 2  # rows that torch traces a graph with


@dataclass(frozen=True)
class EncoderPart:
    """The graph of an encoder.

    graph: an onnx.ModelProto with an output for each feature, which is called like it, (batch, width).
    inputs: the names of its inputs.
    about: what the metadata say of them, see `predict_script`; parts of which they say the same share inputs.
    token_ids: caption → token ids as the encoder makes them itself, if it takes any.
    """

    graph: Any
    inputs: Sequence[str]
    about: Mapping[str, Any]
    token_ids: Callable[[str], Any] | None = None


def tower_part(tower: Tower, features: Mapping[str, str]) -> EncoderPart:
    """The graph of a tower; features: output of the tower → feature.

    Raises:
        DataError: there is no graph of it; the message is the reason only.
        ExportError: torch or onnx cannot make it.
        WeightsError: its weights cannot be loaded.
    """
    if isinstance(tower, ImageNetwork):
        policy = image_policy(tower)
        return _of_images(_network_graph(tower, features, policy["crop"]), policy)
    if isinstance(tower, OnnxImages):
        network = tower.network_file
        if network is None:
            raise DataError("the images of a detector are letterboxed")
        if network.single:
            raise DataError("its file takes one image at a time")
        return _of_images(_file_graph(tower, network, *features.values()), image_policy(tower))
    if isinstance(tower, ClipCaptions | TransformerCaptions):
        return _of_captions(tower, features)
    raise DataError(
        "its encoder is not a network of open_clip, timm, torchvision or transformers of fixed size"
    )


def words_part(vectoriser: TfIdf, feature: str) -> EncoderPart:
    """The graph of tf-idf; its input has the counts of the words (batch, words) float32."""
    words, weights = vectoriser.vocabulary
    example = {COUNTS: torch.ones(EXAMPLES, len(words))}
    graph = graph_of(TfIdfGraph(torch.from_numpy(weights).float()), example, [feature], feature)
    return EncoderPart(graph, [COUNTS], {"kind": "words", "pattern": WORD.pattern, "words": words})


def _of_images(graph: Any, policy: Mapping[str, Any]) -> EncoderPart:
    layout = {"kind": "image", "layout": "RGB uint8 (batch, height, width, 3)"}
    if policy.get("corners"):
        layout["layout"] = "RGB uint8 (batch, height, width, 15): 5 crops, one behind the other"
    return EncoderPart(graph, [PIXELS], {**layout, **policy, "normalised": "in the graph"})


def _network_graph(tower: ImageNetwork, features: Mapping[str, str], size: Sequence[int]) -> Any:
    outputs = [output for output in tower.specs if output in features]
    network = tower.network()
    module = StoredVectors(network, [[*tower.specs].index(output) for output in outputs], from_pixels=True)
    channels = CHANNELS * (tower.framing.number if tower.framing else 1)
    example = {PIXELS: torch.zeros(EXAMPLES, *size, channels, dtype=torch.uint8)}
    names = [features[output] for output in outputs]
    return graph_of(module, example, names, f"the network of {', '.join(names)}")


def _file_graph(tower: OnnxImages, network: NetworkFile, feature: str) -> Any:
    """The network of a file, between what prepares its input and what averages and rounds its output."""
    squares = tower.framing.number if tower.framing else 1
    side, channels = network.size, CHANNELS * squares
    image = {PIXELS: torch.zeros(EXAMPLES, side, side, channels, dtype=torch.uint8)}
    before = graph_of(NormalisedPixels(flip=tower.view.flip), image, ["image"], feature)
    number = squares * (2 if tower.view.flip else 1)
    vector = {"vector": torch.zeros(EXAMPLES * number, 1)}
    mean = MeanOfImages(number) if number > 1 else nn.Identity()
    after = graph_of(StoredVectors(mean, [0]), vector, [feature], feature, free=["vector"])
    body = load(network.file)
    return joined(
        joined(before, body, {"image": network.input}), after, {network.output: "vector"}, [feature]
    )


def _of_captions(tower: ClipCaptions | TransformerCaptions, features: Mapping[str, str]) -> EncoderPart:
    tower.load("cpu")
    (feature,) = features.values()
    about = {"kind": "tokens", "context": tower.context, "tokenizer": tokenizer_json(tower)}
    ids = torch.ones(EXAMPLES, tower.context, dtype=torch.long)
    what = f"the network of {feature}"
    if isinstance(tower, ClipCaptions):
        graph = graph_of(ClipTextGraph(tower.model), {IDS: ids}, [feature], what)
        return EncoderPart(graph, [IDS], about, tower.prepare)
    inputs = {IDS: ids, MASK: torch.ones_like(ids)}
    module = TokenMeanGraph(tower.model, tower.normalised)
    graph = graph_of(module, inputs, [feature], what, free=[*inputs])
    return EncoderPart(graph, [*inputs], about, tower.prepare)


def _as_stored(vectors: Tensor) -> Tensor:
    """Vectors rounded as the store rounds them, which the run was fitted on."""
    return vectors.half().float()


class StoredVectors(nn.Module):
    """A network's outputs of these positions, as they are stored.

    from_pixels: its input is uint8 (b, h, w, 3), and the network's (b, 3, h, w).
    """

    def __init__(
        self, network: Callable[[Tensor], Any], positions: Sequence[int], from_pixels: bool = False
    ) -> None:
        super().__init__()
        self.network, self.positions, self.from_pixels = network, positions, from_pixels

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """A tensor (b, d) for each position."""
        outputs = self.network(inputs.permute(0, 3, 1, 2) if self.from_pixels else inputs)
        vectors = (outputs,) if isinstance(outputs, Tensor) else outputs
        return tuple(_as_stored(vectors[position]) for position in self.positions)


class NormalisedPixels(nn.Module):
    """Pixels (b, h, w, 3 n) uint8 → images as an embedding's file takes them, (b n, 3, h, w) float32.

    n: squares of each image, one behind the other. flip: then twice as many, the second half mirrored.
    """

    def __init__(self, flip: bool = False) -> None:
        super().__init__()
        self.flip = flip

    def forward(self, pixels: Tensor) -> Tensor:
        """ImageNet's normalisation."""
        mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
        height, width, channels = pixels.shape[1:]
        number = int(channels) // CHANNELS
        squares = pixels.permute(0, 3, 1, 2).reshape(-1, number, CHANNELS, height, width)  # (b, n, 3, h, w)
        if self.flip:
            squares = torch.cat([squares, squares.flip(-1)], dim=1)
        return (squares.flatten(0, 1).float() / 255 - mean) / std


class MeanOfImages(nn.Module):
    """Vectors (b n, d) → the mean of those of each image, (b, d)."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def forward(self, vectors: Tensor) -> Tensor:
        """n is fixed, b is not."""
        return vectors.reshape(-1, self.number, vectors.shape[1]).mean(dim=1)


class ClipTextGraph(nn.Module):
    """Token ids (b, context) → the vectors of captions; NaN where all are 0, which no caption has."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        """(b, d)."""
        encode_text: Any = self.model.encode_text
        vectors: Tensor = _as_stored(encode_text(ids))
        return torch.where((ids != 0).any(dim=1, keepdim=True), vectors, torch.nan)


class TokenMeanGraph(nn.Module):
    """Token ids and their mask, both (b, length) → the mean of the tokens' vectors; NaN without any token."""

    def __init__(self, model: nn.Module, normalised: bool) -> None:
        super().__init__()
        self.model, self.normalised = model, normalised

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(b, d)."""
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None]
        mean = hidden.sum(1) / mask.sum(1, keepdim=True)
        vectors = _as_stored(nn.functional.normalize(mean) if self.normalised else mean)
        return torch.where((mask != 0).any(dim=1, keepdim=True), vectors, torch.nan)


class TfIdfGraph(nn.Module):
    """Counts of words (b, words) → tf-idf (b, words), of norm 1, or 0 without any of the words."""

    weights: Tensor

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights)

    def forward(self, counts: Tensor) -> Tensor:
        """(b, words)."""
        weighted = counts * self.weights
        norms = weighted.square().sum(dim=1, keepdim=True).sqrt()
        return weighted / torch.where(norms == 0, 1.0, norms)
