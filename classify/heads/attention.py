"""Class queries that attend to regions, words and whole vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from encode_once.classify.heads.search_space import Range, Space
from encode_once.classify.heads.torch.head import TorchHead
from encode_once.classify.heads.torch.networks import Shapes, split

PLACE_STD = 0.02  # of the initial embeddings of places, as in BERT


@dataclass(eq=False, repr=False)
class Attention(TorchHead):
    """One query for each class attends to all vectors of a sample: ML-Decoder (Ridnik et al., WACV 2023).

    Every vector of every feature is a token: projected to `width`, plus an embedding of its place. The logit
    of a class is linear in the output of its query.

    shapes: length and width of each feature's block of X's columns; by default X is one vector.
    layers, attention_heads: of the decoder, in which queries do not attend to each other.
    """

    SPACE: ClassVar[Space] = {**TorchHead.SPACE, "width": [128, 256, 512], "layers": Range(1, 3)}

    learning_rate: float | Sequence[float] = 5e-4
    shapes: Shapes | None = None
    width: int = 256
    layers: int = 1
    attention_heads: int = 4
    dropout: float = 0.3
    input_dropout: float = 0.2

    def _network(self, d: int, c: int) -> "ClassQueries":
        return ClassQueries(
            self.shapes or [(1, d)],
            c,
            self.width,
            self.layers,
            self.attention_heads,
            self.dropout,
            self.input_dropout,
        )

    def _prepare(self, network: nn.Module, frequencies: Tensor) -> None:
        network.bias = nn.Parameter(frequencies.logit())


class ClassQueries(nn.Module):
    """Rows (b, d) → logits (b, c)."""

    def __init__(
        self,
        shapes: Shapes,
        c: int,
        width: int,
        layers: int,
        heads: int,
        dropout: float,
        input_dropout: float,
    ) -> None:
        super().__init__()
        self.shapes = shapes
        self.input_dropout = nn.Dropout(input_dropout)
        self.projections = nn.ModuleList(nn.Linear(w, width) for _, w in shapes)
        self.places = nn.ParameterList(torch.randn(length, width) * PLACE_STD for length, _ in shapes)
        self.nothing = nn.Parameter(torch.zeros(1, 1, width))  # the token of samples without any other
        self.queries = nn.Parameter(torch.randn(c, width))
        self.steps = nn.ModuleList(DecoderLayer(width, heads, dropout) for _ in range(layers))
        self.weights = nn.Parameter(torch.randn(c, width) * width**-0.5)
        self.bias = nn.Parameter(torch.zeros(c))

    def forward(self, X: Tensor) -> Tensor:
        """(b, c)."""
        b = X.shape[0]  # len(X) would be a constant in a network that is exported
        tokens, present = [self.nothing.expand(b, -1, -1)], [X.new_ones(b, 1, dtype=torch.bool)]
        blocks = split(X, self.shapes)
        for (block, filled), project, places in zip(blocks, self.projections, self.places, strict=True):
            tokens.append(project(self.input_dropout(block)) + places[: block.shape[1]])
            present.append(filled)
        outputs = self.queries.expand(b, -1, -1)  # (b, c, width)
        for layer in self.steps:
            outputs = layer(outputs, torch.cat(tokens, dim=1), torch.cat(present, dim=1))
        return (outputs * self.weights).sum(dim=2) + self.bias


class DecoderLayer(nn.Module):
    """A transformer decoder layer without self-attention of the queries."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.think = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, tokens: Tensor, present: Tensor) -> Tensor:
        """(b, c, width), for tokens (b, length, width) that are `present` (b, length)."""
        attended, _ = self.attend(queries, tokens, tokens, key_padding_mask=~present, need_weights=False)
        outputs = self.norms[0](queries + self.dropout(attended))
        return self.norms[1](outputs + self.dropout(self.think(outputs)))
