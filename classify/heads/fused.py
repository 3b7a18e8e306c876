"""Features of several modalities, vectors and sequences, which are read and then fused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from encode_once.classify.heads.mlp import layers
from encode_once.classify.heads.search_space import Space
from encode_once.classify.heads.torch.head import TorchHead
from encode_once.classify.heads.torch.networks import FUSIONS, READERS, FusedFeatures, fusion_class


@dataclass(eq=False, repr=False)
class Fused(TorchHead):
    """Readers of features, a fusion, then linear layers: see `classify.heads.torch.networks`.

    The heads `bilstm`, `bigru` and `transformer` set the reader of sequences and concatenate; `concat`,
    `bilinear`, `mutan` and `gated` set the fusion, of vectors and means of sequences. Both options can be
    combined.

    shapes: length and width of each feature's block of X's columns; by default X is one vector.
    reader: of sequences: "mean", "bilstm", "bigru" or "transformer", with `rnn_layers` layers of `hidden`
        units (in each direction); `attention` pools the outputs of the recurrent ones.
    fusion: "concat", "bilinear", "mutan", "gated", or a module of your own, `file.py:Class`.
    width: of the projected vectors and, except for "concat", of the fused vector; 0 leaves vectors
        unprojected.
    hidden_layers: widths of layers between the fusion and the output; `batch_norm` precedes the first.
    drop_feature: the share of features to drop at random in training.
    """

    CHOICES: ClassVar[Mapping[str, Sequence[str]]] = {
        **TorchHead.CHOICES,
        "reader": READERS,
        "fusion": [*FUSIONS],
    }
    OWN: ClassVar[Sequence[str]] = (*TorchHead.OWN, "fusion")
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

    def check(self) -> None:
        super().check()
        fusion_class(self.fusion)

    def _joined(self, d: int) -> FusedFeatures:
        return FusedFeatures(
            self.shapes or [(1, d)],
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
