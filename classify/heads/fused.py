"""Features of several modalities, vectors and sequences, each read in its own way and then fused."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from encode_once.classify.heads.mlp import layers
from encode_once.classify.heads.search_space import Space
from encode_once.classify.heads.torch.head import TorchHead
from encode_once.classify.heads.torch.networks import Joined


@dataclass(eq=False, repr=False)
class Fused(TorchHead):
    """Readers, a fusion, then linear layers: see `classify.heads.torch.networks`.

    The heads `bilstm`, `bigru` and `transformer` read sequences so, and set them side by side with vectors;
    `concat`, `bilinear`, `mutan` and `gated` fuse vectors, and means of sequences, so. Either may be set
    together with the other.

    shapes: length and width of each feature's block of X's columns; by default all are one vector.
    reader: of sequences: "mean", "bilstm", "bigru" or "transformer", of `hidden` units (each way) in so many
        `rnn_layers`; `attention` is of the recurrent ones.
    fusion: "concat", "bilinear", "mutan" or "gated".
    width: of the projected vectors and, but for "concat", of what they are fused to; 0 leaves vectors as they
        are.
    hidden_layers: widths of layers between the fusion and the output; `batch_norm` is under the first.
    drop_feature: in training, the share of features that are taken for missing.
    """

    SPACE: ClassVar[Space] = {**TorchHead.SPACE, "width": [128, 256, 512], "hidden": [64, 128, 256]}

    shapes: Sequence[tuple[int, int]] | None = None
    reader: str = "mean"
    fusion: str = "concat"
    width: int = 256
    hidden: int = 128
    rnn_layers: int = 1
    attention: bool = True
    hidden_layers: Sequence[int] = ()
    batch_norm: bool = False
    dropout: float = 0.4
    input_dropout: float = 0.2
    drop_feature: float = 0.0

    def _joined(self, d: int) -> Joined:
        return Joined(
            [(length, width) for length, width in self.shapes or [(1, d)]],
            self.reader,
            self.fusion,
            width=self.width,
            hidden=self.hidden,
            layers=self.rnn_layers,
            attention=self.attention,
            dropout=self.dropout,
            input_dropout=self.input_dropout,
            drop_feature=self.drop_feature,
        )

    def _network(self, d: int, c: int) -> nn.Module:
        joined = self._joined(d)
        widths = [joined.width, *self.hidden_layers]
        return nn.Sequential(
            joined,
            nn.BatchNorm1d(joined.width) if self.batch_norm else nn.Identity(),
            layers(widths, self.dropout),
            nn.Linear(widths[-1], c),
        )
