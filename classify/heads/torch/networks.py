"""Torch modules that heads are composed of: readers of a feature, and fusions of several features.

A reader turns the block of a feature (b, length, width) into one vector per sample, (b, w); `present`
(b, length) marks the places that hold a vector. A fusion combines the vectors of all features; its `present`
(b, features) marks those that a sample has.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from encode_once.cache import own_code
from encode_once.cache.errors import UsageError, brief, unknown_name

Shapes = Sequence[tuple[int, int]]  # length and width of each feature's block
ATTENTION_HEADS = 4  # of a transformer reader


def split(X: Tensor, shapes: Shapes) -> list[tuple[Tensor, Tensor]]:
    """Each feature's block (b, length, width) of rows (b, d), and which of its places hold a vector.

    A missing vector, and places after the end of a sequence, are exactly zero; a present vector never is (see
    `Standardised`). Places after the longest sequence are cut off, except in an exported network, which must
    accept any rows.
    """
    pairs = []
    blocks = torch.split(X, [length * width for length, width in shapes], dim=1)
    for (length, width), columns in zip(shapes, blocks, strict=True):
        block = columns.reshape(-1, length, width)
        present = block.ne(0).any(dim=2)
        if length > 1 and not torch.onnx.is_in_onnx_export():
            longest = max(int(present.any(dim=0).nonzero().max()) + 1 if present.any() else 1, 1)
            block, present = block[:, :longest], present[:, :longest]
        pairs.append((block, present))
    return pairs


def mean_of(block: Tensor, present: Tensor) -> Tensor:
    """The mean vector (b, width) of the places that hold one; zeros if none does."""
    return (block * present[..., None]).sum(1) / present.sum(1).clamp(min=1)[:, None]


class Mean(nn.Module):
    """The mean of a sequence or the only vector, projected to `width` with GELU; unchanged if width is 0."""

    def __init__(self, shape: tuple[int, int], width: int) -> None:
        super().__init__()
        self.width = width or shape[1]
        self.project = nn.Sequential(nn.Linear(shape[1], width), nn.GELU()) if width else nn.Identity()

    def forward(self, block: Tensor, present: Tensor) -> Tensor:
        """(b, width)."""
        projected: Tensor = self.project(mean_of(block, present))
        return projected


class Recurrent(nn.Module):
    """A bidirectional LSTM or GRU over packed sequences: its last states, or its outputs under attention.

    Attention weights the outputs h by softmax(v · tanh(W h)) (Yang et al., NAACL 2016).
    """

    def __init__(
        self, kind: str, width: int, hidden: int, layers: int, attention: bool, dropout: float
    ) -> None:
        super().__init__()
        network = {"bilstm": nn.LSTM, "bigru": nn.GRU}[kind]
        between = dropout if layers > 1 else 0.0
        self.rnn = network(width, hidden, layers, batch_first=True, bidirectional=True, dropout=between)
        self.width = 2 * hidden
        self.weigh = (
            nn.Sequential(nn.Linear(self.width, hidden), nn.Tanh(), nn.Linear(hidden, 1, bias=False))
            if attention
            else None
        )

    def forward(self, block: Tensor, present: Tensor) -> Tensor:
        """(b, 2 hidden)."""
        places = torch.arange(1, block.shape[1] + 1, device=block.device)
        lengths = (present * places).amax(dim=1).clamp(min=1)
        packed = pack_padded_sequence(block, lengths.cpu(), batch_first=True, enforce_sorted=False)
        outputs, state = self.rnn(packed)
        if self.weigh is None:
            last = state[0] if isinstance(state, tuple) else state  # (2 layers, b, hidden)
            return last[-2:].transpose(0, 1).flatten(1)
        outputs, _ = pad_packed_sequence(outputs, batch_first=True)  # (b, longest, 2 hidden)
        within = places[: outputs.shape[1]] <= lengths[:, None]
        weights = self.weigh(outputs)[..., 0].masked_fill(~within, -torch.inf).softmax(dim=1)
        return (weights[..., None] * outputs).sum(1)


class Transformer(nn.Module):
    """The mean of transformer layers with sinusoidal positions (Vaswani et al., 2017)."""

    def __init__(self, width: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.width = 2 * hidden
        self.project = nn.Linear(width, self.width)
        layer = nn.TransformerEncoderLayer(
            self.width, ATTENTION_HEADS, 2 * self.width, dropout, "gelu", batch_first=True, norm_first=True
        )
        norm = nn.LayerNorm(self.width)
        self.layers = nn.TransformerEncoder(layer, layers, norm, enable_nested_tensor=False)

    def forward(self, block: Tensor, present: Tensor) -> Tensor:
        """(b, 2 hidden)."""
        tokens = self.project(block) + sines(block.shape[1], self.width).to(block.device)
        attended = present.clone()
        attended[:, 0] = True  # attention to no token would be NaN
        return mean_of(self.layers(tokens, src_key_padding_mask=~attended), attended)


def sines(length: int, width: int) -> Tensor:
    """Sinusoidal positions, (length, width)."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angles = torch.arange(length)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :width]


def concatenate(vectors: Sequence[Tensor], present: Tensor) -> Tensor:
    """The vectors side by side, (b, Σ wᵢ); zeros where a vector is missing."""
    return torch.cat([vector * present[:, i, None] for i, vector in enumerate(vectors)], dim=1)


class Concat(nn.Module):
    """The vectors side by side."""

    def __init__(self, widths: Sequence[int], width: int) -> None:
        super().__init__()
        self.width = sum(widths)

    def forward(self, vectors: Sequence[Tensor], present: Tensor) -> Tensor:
        """(b, Σ wᵢ)."""
        return concatenate(vectors, present)


class Bilinear(nn.Module):
    """xᵀ W y for each of `width` matrices W; the result is fused with the third vector, and so on.

    If either is missing, the other is only projected.
    """

    def __init__(self, widths: Sequence[int], width: int) -> None:
        super().__init__()
        self.width = width
        self.alone = nn.ModuleList(nn.Linear(w, width) for w in widths)
        self.pairs = nn.ModuleList(nn.Bilinear(width, width, width) for _ in widths[1:])

    def forward(self, vectors: Sequence[Tensor], present: Tensor) -> Tensor:
        """(b, width)."""
        first, *others = [project(vector) for project, vector in zip(self.alone, vectors, strict=True)]
        fused, any_yet = first * present[:, :1], present[:, :1]
        for i, (pair, other) in enumerate(zip(self.pairs, others, strict=True), start=1):
            has = present[:, i, None]
            alone = torch.where(has, other, fused)
            fused = torch.where(any_yet & has, pair(fused, other), alone)
            any_yet = any_yet | has
        return fused


class Mutan(nn.Module):
    """Σᵣ Πᵢ tanh(Wᵢ vᵢ)ᵣ, a Tucker fusion whose core has rank R (Ben-younes et al., ICCV 2017).

    A missing vector is a factor of 1.
    """

    RANK = 5

    def __init__(self, widths: Sequence[int], width: int) -> None:
        super().__init__()
        self.width = width
        self.projections = nn.ModuleList(nn.Linear(w, self.RANK * width) for w in widths)

    def forward(self, vectors: Sequence[Tensor], present: Tensor) -> Tensor:
        """(b, width)."""
        product = vectors[0].new_ones(present.shape[0], self.RANK * self.width)
        for i, (project, vector) in enumerate(zip(self.projections, vectors, strict=True)):
            product = product * torch.where(present[:, i, None], project(vector).tanh(), 1.0)
        return product.view(-1, self.RANK, self.width).sum(1)


class Gated(nn.Module):
    """Σᵢ gᵢ ∘ tanh(Wᵢ vᵢ), with gates g, a softmax over present vectors (Arevalo et al., 2017)."""

    def __init__(self, widths: Sequence[int], width: int) -> None:
        super().__init__()
        self.width = width
        self.projections = nn.ModuleList(nn.Linear(w, width) for w in widths)
        self.gates = nn.Linear(sum(widths), len(widths) * width)

    def forward(self, vectors: Sequence[Tensor], present: Tensor) -> Tensor:
        """(b, width)."""
        pairs = zip(self.projections, vectors, strict=True)
        values = torch.stack([project(vector).tanh() for project, vector in pairs], dim=1)
        gates = self.gates(concatenate(vectors, present)).view(-1, len(vectors), self.width)
        gates = gates.masked_fill(~present[..., None], -torch.inf).softmax(dim=1)
        return (gates.nan_to_num() * values).sum(1)  # NaN if no vector is present


DEFAULT_WIDTH = 256
READERS = ("mean", "bilstm", "bigru", "transformer")
FUSIONS: dict[str, type[nn.Module]] = {
    "concat": Concat,
    "bilinear": Bilinear,
    "mutan": Mutan,
    "gated": Gated,
}


def fusion_class(name: str) -> type[nn.Module]:
    """The class of a fusion, which is constructed with the widths of the vectors and the fused width.

    Raises:
        UntrustedError: it is in a file that is not trusted.
        UsageError: the name is unknown.
    """
    if own_code.is_own(name):
        own: type[nn.Module] = own_code.load(name, "fusion", _is_module)
        return own
    if name not in FUSIONS:
        raise unknown_name("fusion", name, FUSIONS)
    return FUSIONS[name]


def _is_module(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, nn.Module)


def _fusion(name: str, widths: Sequence[int], width: int) -> tuple[nn.Module, int]:
    """A new fusion and the width of its vectors.

    Raises:
        UsageError: one of the user's own is not such a module.
    """
    try:
        fusion = fusion_class(name)(widths, width)
    except TypeError as error:
        raise UsageError(f"fusion {name} cannot be made of (widths, width): {brief(error)}") from error
    if not isinstance(getattr(fusion, "width", None), int):
        raise UsageError(f"fusion {name} has no attribute width: the number of columns that it returns")
    return fusion, fusion.width  # type: ignore[return-value]


class FusedFeatures(nn.Module):
    """Rows (b, d) → one vector (b, width): each feature is read, then all are fused.

    reader: of sequences, one of `READERS`; single vectors are projected.
    width: of projected and fused vectors; 0 leaves vectors unprojected and fuses them to `DEFAULT_WIDTH`.
    """

    def __init__(
        self,
        shapes: Shapes,
        reader: str,
        fusion: str,
        *,
        width: int,
        hidden: int,
        layers: int,
        attention: bool,
        dropout: float,
        input_dropout: float,
        drop_feature: float,
    ) -> None:
        super().__init__()
        if reader not in READERS:
            raise unknown_name("reader", reader, READERS)
        self.shapes, self.drop_feature = shapes, drop_feature
        self.input_dropout, self.dropout = nn.Dropout(input_dropout), nn.Dropout(dropout)

        def make_reader(shape: tuple[int, int]) -> Mean | Transformer | Recurrent:
            if reader == "mean" or shape[0] == 1:
                return Mean(shape, width)
            if reader == "transformer":
                return Transformer(shape[1], hidden, layers, dropout)
            return Recurrent(reader, shape[1], hidden, layers, attention, dropout)

        readers = [make_reader(shape) for shape in shapes]
        self.readers = nn.ModuleList(readers)
        widths = [reader.width for reader in readers]
        self.fusion, self.width = _fusion(fusion, widths, width or DEFAULT_WIDTH)

    def forward(self, X: Tensor) -> Tensor:
        """(b, width)."""
        vectors, present = [], []
        for reader, (block, places) in zip(self.readers, split(X, self.shapes), strict=True):
            vectors.append(self.dropout(reader(self.input_dropout(block), places)))
            present.append(places.any(dim=1))
        return self.fusion(vectors, self._drop_features(torch.stack(present, dim=1)))

    def _drop_features(self, present: Tensor) -> Tensor:
        """In training, drop features at random, but never all that a sample has."""
        if not (self.training and self.drop_feature):
            return present
        kept = present & (torch.rand(present.shape, device=present.device) >= self.drop_feature)
        return torch.where(kept.any(dim=1, keepdim=True), kept, present)
