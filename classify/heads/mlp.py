"""A multi-layer perceptron with dropout on its input and on every hidden layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from encode_once.classify.heads.search_space import Space
from encode_once.classify.heads.torch.head import TorchHead


@dataclass(eq=False, repr=False)
class MLP(TorchHead):
    """Layers of the widths `hidden`, each under dropout, with batch norm and around residual steps if asked.

    The defaults come from cross-validation on 8,000 rows of image and caption features: one wide layer under
    heavy dropout did better than narrower or more layers, and F1 better than the loss to stop by. Inputs are
    dropped too, by default the more of them the more there are, as many say what few say once. With
    `residual`, a layer as wide as the one before adds to it rather than takes its place.
    """

    SPACE: ClassVar[Space] = {**TorchHead.SPACE, "hidden": [[512], [1024], [2048], [1024, 512]]}

    hidden: Sequence[int] = (1024,)
    dropout: float = 0.5
    input_dropout: float | None = None
    batch_norm: bool = False
    residual: bool = False

    def _network(self, d: int, c: int) -> nn.Module:
        input_dropout = d / (d + 300) / 2 if self.input_dropout is None else self.input_dropout
        return nn.Sequential(
            nn.Dropout(input_dropout),
            layers([d, *self.hidden], self.dropout, self.batch_norm, self.residual),
            nn.Linear([d, *self.hidden][-1], c),
        )


def layers(
    widths: Sequence[int], dropout: float, batch_norm: bool = False, residual: bool = False
) -> nn.Module:
    """Hidden layers from (b, widths[0]) to (b, widths[-1])."""
    made: list[nn.Module] = []
    for before, after in pairwise(widths):
        normed = [nn.BatchNorm1d(after)] if batch_norm else []
        step = nn.Sequential(nn.Linear(before, after), *normed, nn.GELU(), nn.Dropout(dropout))
        made.append(Residual(step) if residual and before == after else step)
    return nn.Sequential(*made)


class Residual(nn.Module):
    """A step whose result is added to what it was given."""

    def __init__(self, step: nn.Module) -> None:
        super().__init__()
        self.step = step

    def forward(self, X: Tensor) -> Tensor:
        """X + step(X)."""
        return X + self.step(X)
