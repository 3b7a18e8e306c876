"""The heads by class, for scikit-learn: `from encode_once.heads import Linear`.

By name they are `encode_once.classify.heads.make("linear")`; `bilstm`, `bigru`, `transformer`, `concat`,
`bilinear`, `mutan` and `gated` are options of `Fused`.
"""

from typing import TYPE_CHECKING

from encode_once.cache.lazy import lazy

if TYPE_CHECKING:
    from encode_once.classify.heads.attention import Attention
    from encode_once.classify.heads.auto import Auto
    from encode_once.classify.heads.forest import Forest
    from encode_once.classify.heads.fused import Fused
    from encode_once.classify.heads.gbm import GBM
    from encode_once.classify.heads.knn import KNN
    from encode_once.classify.heads.label_rnn import LabelRNN
    from encode_once.classify.heads.linear import Linear
    from encode_once.classify.heads.mlp import MLP
    from encode_once.classify.heads.prototype import Prototype
    from encode_once.classify.heads.stack import Stack

__all__ = [
    "GBM", "KNN", "MLP", "Attention", "Auto", "Forest", "Fused", "LabelRNN", "Linear", "Prototype", "Stack",
]  # fmt: skip

__getattr__, _ = lazy(
    "encode_once.classify.heads",
    {
        "Attention": "attention",
        "Auto": "auto",
        "Forest": "forest",
        "Fused": "fused",
        "GBM": "gbm",
        "KNN": "knn",
        "LabelRNN": "label_rnn",
        "Linear": "linear",
        "MLP": "mlp",
        "Prototype": "prototype",
        "Stack": "stack",
    },
)


def __dir__() -> list[str]:
    return __all__
