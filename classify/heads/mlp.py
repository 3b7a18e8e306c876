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
    """Layers of the widths `hidden` with dropout, and with batch norm or residual connections if requested.

    The defaults come from cross-validation on 8,000 rows of image and caption features: one wide layer with
    heavy dropout was better than narrower or more layers, and stopping by F1 better than by the loss. Input
    dropout grows with the number of columns by default, because wide inputs are redundant. With `residual`,
    a layer as wide as its input is added to it.
    """

    SPACE: ClassVar[Space] = {**TorchHead.SPACE, "hidden": [[512], [1024], [2048], [1024, 512]]}

    hidden: Sequence[int] = (1024,)
    dropout: float = 0.5
    input_dropout: float | None = None
    batch_norm: bool = False
    residual: bool = False

    def _network(self, d: int, c: int) -> nn.Module:
        by_width = d / (d + 300) / 2  # near 0 for narrow inputs, near .5 for wide ones
        input_dropout = by_width if self.input_dropout is None else self.input_dropout
        return nn.Sequential(
            nn.Dropout(input_dropout),
            layers([d, *self.hidden], self.dropout, self.batch_norm, self.residual),
            nn.Linear([d, *self.hidden][-1], c),
        )


def layers(
    widths: Sequence[int], dropout: float, batch_norm: bool = False, residual: bool = False
) -> nn.Module:
    """Hidden layers from (b, widths[0]) to (b, widths[-1])."""
    steps: list[nn.Module] = []
    for width, next_width in pairwise(widths):
        norm = [nn.BatchNorm1d(next_width)] if batch_norm else []
        step = nn.Sequential(nn.Linear(width, next_width), *norm, nn.GELU(), nn.Dropout(dropout))
        steps.append(Residual(step) if residual and width == next_width else step)
    return nn.Sequential(*steps)


class Residual(nn.Module):
    """A step whose output is added to its input."""

    def __init__(self, step: nn.Module) -> None:
        super().__init__()
        self.step = step

    def forward(self, X: Tensor) -> Tensor:
        """X + step(X)."""
        return X + self.step(X)
