"""A decoder that writes the labels of a sample one after another, the most frequent first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from encode_once.cache.errors import UsageError
from encode_once.classify.data.labels import SINGLE
from encode_once.classify.heads.class_weights import OPTION, is_set
from encode_once.classify.heads.fused import Fused
from encode_once.classify.heads.torch.losses import Loss
from encode_once.classify.heads.torch.networks import FusedFeatures
from encode_once.classify.heads.torch.training import Criterion

CLIP = 1e-6  # probabilities are clipped to [CLIP, 1 - CLIP] for their logits


@dataclass(eq=False, repr=False)
class LabelRNN(Fused):
    """A recurrent decoder of label sets (Wang et al.'s CNN-RNN, CVPR 2016), whose scores are marginals.

    Labels are written in a fixed order, from frequent to rare, so that every set has exactly one sequence,
    whose probability is the product of its steps. The score of a label is the share of the sets that contain
    it among the `beam` likeliest sets, weighted by their probabilities. The options of `Fused` determine how
    a sample is read. Training minimises the negative log-likelihood of the set, whatever `loss` is; the
    validation loss of the history is that of the marginals.
    """

    LOSSES: ClassVar[Sequence[str]] = ()
    PARTIAL: ClassVar[bool] = False  # the likelihood of a set needs all of its labels

    learning_rate: float | Sequence[float] = 2e-3
    beam: int = 16

    def check(self) -> None:
        super().check()
        if self.task == SINGLE:
            raise UsageError("head label-rnn writes sets of labels: choose another --head for --task single")
        if is_set(self.class_weights):
            raise UsageError(f"head label-rnn has another loss, of whole sets of labels: leave out {OPTION}")

    def _network(self, d: int, c: int) -> nn.Module:
        return LabelDecoder(self._joined(d), c, 2 * self.hidden, self.beam)

    def _prepare(self, network: nn.Module, frequencies: Tensor) -> None:
        network.order = frequencies.argsort(descending=True)

    def _criterion(self, loss: Loss) -> Criterion:
        return lambda network, X, Y: cast("LabelDecoder", network).negative_log_likelihood(X, Y)


class LabelDecoder(nn.Module):
    """Rows (b, d) → the logits of the labels' marginal probabilities (b, c).

    Inside, labels are numbered by their rank in `order` (c,); c starts a sequence and ends it.
    """

    order: Tensor
    may_follow: Tensor

    def __init__(self, joined: FusedFeatures, c: int, hidden: int, beam: int) -> None:
        super().__init__()
        self.c, self.beam = c, beam
        self.joined = joined
        self.start = nn.Sequential(nn.Linear(joined.width, hidden), nn.Tanh())
        self.words = nn.Embedding(c + 1, hidden)
        self.cell = nn.GRUCell(hidden, hidden)
        self.next = nn.Linear(2 * hidden, c + 1)
        self.register_buffer("order", torch.arange(c))
        later = torch.arange(c)[None] > torch.arange(c)[:, None]
        later = torch.cat([later, torch.ones(1, c, dtype=torch.bool)])  # after the start: all
        ends = torch.ones(c + 1, 1, dtype=torch.bool)
        self.register_buffer(
            "may_follow", torch.cat([later, ends], dim=1), persistent=False
        )  # (c + 1, c + 1)

    def negative_log_likelihood(self, X: Tensor, Y: Tensor) -> Tensor:
        """The mean over the rows of -log p(labels), X (b, d), Y (b, c)."""
        ranked = Y[:, self.order].bool()
        steps = int(ranked.sum(1).max()) + 1
        places = torch.arange(self.c, device=X.device).expand_as(ranked)
        labels = torch.where(ranked, places, self.c).sort(dim=1).values  # ranks, then c, the end
        ended = torch.full_like(labels[:, :1], self.c)
        labels = torch.cat([labels, ended], dim=1)[:, :steps]
        total = X.new_zeros(())
        context = self.start(self.joined(X))
        state, last, going = context, ended[:, 0], torch.ones(len(X), dtype=torch.bool, device=X.device)
        for label in labels.T:
            state, logits = self._step(context, state, last)
            total = total + (cross_entropy(logits, label, reduction="none") * going).sum()
            last, going = label, going & (label < self.c)
        return total / len(X)

    def _step(self, context: Tensor, state: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        """From states (b, h) and last labels (b,): new states, and logits of the next label, (b, c + 1)."""
        state = self.cell(self.words(last), state)
        logits = self.next(torch.cat([context, state], dim=1))
        return state, logits.masked_fill(~self.may_follow[last], -torch.inf)

    def forward(self, X: Tensor) -> Tensor:
        """(b, c)."""
        b, c, beam = len(X), self.c, self.beam
        context = self.start(self.joined(X)).repeat_interleave(beam, dim=0)  # (b · beam, h)
        state = context
        last = torch.full((b * beam,), c, device=X.device)
        ended = torch.zeros(b, beam, dtype=torch.bool, device=X.device)
        sets = X.new_zeros(b, beam, c + 1)  # the labels of each set, and whether it has ended
        log_p = X.new_full((b, beam), -torch.inf)
        log_p[:, 0] = 0  # all beams are still equal: only the first counts
        stay = one_hot(torch.tensor(c), c + 1).to(X).log()  # a set that has ended stays as it is
        for _ in range(c + 1):
            if (ended | log_p.isinf()).all():
                break
            state, logits = self._step(context, state, last)
            follows = torch.where(ended[..., None], stay, logits.log_softmax(1).view(b, beam, c + 1))
            log_p, chosen = (log_p[..., None] + follows).flatten(1).topk(beam)  # (b, beam)
            origin, label = chosen // (c + 1), chosen % (c + 1)
            rows = (torch.arange(b, device=X.device)[:, None] * beam + origin).flatten()
            state, last = state[rows], label.flatten()
            sets = (sets.flatten(0, 1)[rows].view(b, beam, c + 1) + one_hot(label, c + 1)).clamp(max=1)
            ended = sets[..., c] > 0
        marginals = (log_p.softmax(1)[..., None] * sets[..., :c]).sum(1)
        return torch.empty_like(marginals).index_copy(1, self.order, marginals.clamp(CLIP, 1 - CLIP).logit())
