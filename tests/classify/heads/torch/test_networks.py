import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from encode_once.cache.errors import UsageError
from encode_once.classify.heads.torch.networks import (
    FUSIONS,
    Bilinear,
    Gated,
    Joined,
    Mean,
    Mutan,
    Recurrent,
    Transformer,
    mean_of,
    sines,
    split,
)

OPTIONS = {
    "width": 6,
    "hidden": 4,
    "layers": 1,
    "attention": True,
    "dropout": 0.0,
    "input_dropout": 0.0,
    "drop_feature": 0.0,
}


def rows_of(lengths, shapes, seed=0):
    """Rows (b, d) of sequences of those lengths (b, features), and each feature's sequences."""
    rng = np.random.default_rng(seed)
    sequences = [[rng.normal(size=(n, w)) for n, (_, w) in zip(row, shapes, strict=True)] for row in lengths]
    padded = [
        np.concatenate(
            [
                np.pad(one, ((0, l - len(one)), (0, 0))).ravel()
                for one, (l, _) in zip(row, shapes, strict=True)
            ]
        )
        for row in sequences
    ]
    return torch.tensor(np.array(padded), dtype=torch.float32), sequences


def padded(lengths, width, more=2):
    """A block of sequences with places to spare, which of them hold anything, and the sequences alone."""
    longest = max(lengths) + more
    X, sequences = rows_of([[n] for n in lengths], [(longest, width)])
    block = X.reshape(len(lengths), longest, width)
    return block, block.ne(0).any(2), [torch.tensor(one, dtype=torch.float32) for (one,) in sequences]


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_rows_are_split_into_what_they_were_made_of(data):
    shapes = data.draw(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=3))
    lengths = data.draw(st.lists(st.tuples(*[st.integers(0, l) for l, _ in shapes]), min_size=1, max_size=4))
    X, sequences = rows_of(lengths, shapes)
    found = split(X, shapes)
    assert len(found) == len(shapes)
    for i, (block, there) in enumerate(found):
        assert block.shape == (len(X), max(1, *(row[i] for row in lengths), 1), shapes[i][1])
        assert there.sum(1).tolist() == [row[i] for row in lengths]
        for row, mine, has in zip(sequences, block, there, strict=True):
            assert has[: len(row[i])].all()
            np.testing.assert_allclose(mine[has], row[i], rtol=1e-6)


def test_a_place_within_a_sequence_may_be_empty():
    ((block, there),) = split(torch.tensor([[1.0, 1, 0, 0, 2, 0, 0, 0]]), [(4, 2)])
    assert there.tolist() == [[True, False, True]]
    assert block.tolist() == [[[1, 1], [0, 0], [2, 0]]]


def test_the_mean_passes_over_what_is_empty():
    block, there, alone = padded([3, 1, 0], 2)
    expected = [alone[0].mean(0).tolist(), alone[1][0].tolist(), [0, 0]]
    np.testing.assert_allclose(mean_of(block, there), expected, rtol=1e-6)
    np.testing.assert_allclose(Mean((5, 2), 0)(block, there), expected, rtol=1e-6)
    projected = Mean((5, 2), 3)
    linear = projected.project[0]
    torch.testing.assert_close(
        projected(block, there), nn.functional.gelu(torch.tensor(expected) @ linear.weight.T + linear.bias)
    )


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("kind", ["bilstm", "bigru"])
def test_a_recurrent_reader_reads_each_sequence_as_if_it_were_alone(kind, attention, layers):
    block, there, alone = padded([3, 5, 1], 2)
    reader = Recurrent(kind, 2, 4, layers, attention, 0.0)
    for vector, sequence in zip(reader(block, there), alone, strict=True):
        outputs, _ = reader.rnn(sequence)  # no batch, no padding: (n, 8)
        if attention:
            first, last = reader.weigh[0], reader.weigh[2].weight[0]
            weights = torch.stack([(first.weight @ h + first.bias).tanh() @ last for h in outputs]).exp()
            expected = sum(w * h for w, h in zip(weights / weights.sum(), outputs, strict=True))
        else:
            expected = torch.cat([outputs[-1, :4], outputs[0, 4:]])  # each way's last state
        torch.testing.assert_close(vector, expected)


def test_a_transformer_reads_each_sequence_as_if_it_were_alone():
    block, there, alone = padded([3, 5, 1], 2)
    reader = Transformer(2, 4, 2, 0.0).eval()
    for vector, sequence in zip(reader(block, there), alone, strict=True):
        tokens = reader.project(sequence) + sines(len(sequence), 8)
        torch.testing.assert_close(vector, reader.layers(tokens[None])[0].mean(0), rtol=1e-4, atol=1e-5)


def test_places_are_told_apart_by_the_sines_of_the_paper():
    found = sines(7, 6)
    for place in range(7):
        for i in range(3):
            angle = place / 10000 ** (2 * i / 6)
            assert found[place, 2 * i : 2 * i + 2].tolist() == pytest.approx(
                [np.sin(angle), np.cos(angle)], abs=1e-6
            )
    assert sines(3, 5).shape == (3, 5)


@pytest.fixture
def vectors():
    """Vectors of three features, (5, w) each; which are there: of the last sample none."""
    torch.manual_seed(0)
    there = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0]]).bool()
    return [torch.randn(5, w) for w in (2, 3, 4)], there


def test_concat_sets_zeros_for_what_is_missing(vectors):
    values, there = vectors
    expected = [np.concatenate([v[i] * t for v, t in zip(values, there[i], strict=True)]) for i in range(5)]
    np.testing.assert_array_equal(FUSIONS["concat"]([2, 3, 4], 7)(values, there), expected)


def test_bilinear_is_a_matrix_between_two_vectors_for_each_number(vectors):
    values, there = vectors
    fusion = Bilinear([2, 3, 4], 7)
    for i, fused in enumerate(fusion(values, there)):
        expected = None
        for j in np.flatnonzero(there[i]):
            one = fusion.alone[j](values[j][i])
            if expected is None:
                expected = one
                continue
            pair = fusion.pairs[j - 1]
            expected = torch.einsum("i,oij,j->o", expected, pair.weight, one) + pair.bias
        torch.testing.assert_close(
            fused, torch.zeros(7) if expected is None else expected, rtol=1e-4, atol=1e-5
        )


def test_mutan_sums_the_products_of_projections(vectors):
    values, there = vectors
    fusion = Mutan([2, 3, 4], 7)
    for i, fused in enumerate(fusion(values, there)):
        expected = torch.zeros(7)
        for r in range(5):
            factor = torch.ones(7)
            for j in np.flatnonzero(there[i]):
                layer = fusion.projections[j]
                part = slice(7 * r, 7 * r + 7)
                factor = factor * (layer.weight[part] @ values[j][i] + layer.bias[part]).tanh()
            expected = expected + factor
        torch.testing.assert_close(fused, expected, rtol=1e-4, atol=1e-5)


def test_gates_weigh_those_that_are_there(vectors):
    values, there = vectors
    fusion = Gated([2, 3, 4], 7)
    for i, fused in enumerate(fusion(values, there)):
        mine = np.flatnonzero(there[i])
        seen = torch.cat([v[i] if j in mine else torch.zeros(len(v[i])) for j, v in enumerate(values)])
        gates = (fusion.gates.weight @ seen + fusion.gates.bias).view(3, 7).exp()
        total = sum((gates[j] for j in mine), torch.zeros(7))
        expected = sum(
            (gates[j] / total * fusion.projections[j](values[j][i]).tanh() for j in mine), torch.zeros(7)
        )
        torch.testing.assert_close(fused, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("reader", ["mean", "bilstm", "bigru", "transformer"])
def test_a_rows_vector_does_not_hang_on_the_rows_beside_it_and_gradients_are_finite(reader, fusion):
    shapes = [(1, 3), (6, 2), (4, 2)]
    X, _ = rows_of([[1, 3, 4], [0, 6, 0], [1, 0, 1], [0, 0, 0]], shapes)
    joined = Joined(shapes, reader, fusion, **OPTIONS)
    joined.train()(X).square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in joined.parameters())
    together = joined.eval()(X)
    assert together.shape == (4, joined.width)
    for row, vector in zip(X, together, strict=True):
        torch.testing.assert_close(joined(row[None])[0], vector, rtol=1e-4, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(share=st.floats(0.1, 1.0), seed=st.integers(0, 99))
def test_features_are_dropped_in_training_only_and_never_the_last(share, seed):
    torch.manual_seed(seed)
    joined = Joined([(1, 2)] * 3, "mean", "concat", **{**OPTIONS, "drop_feature": share})
    there = torch.rand(2000, 3) < 0.6
    kept = joined.train()._kept(there)
    assert not (kept & ~there).any()
    assert torch.equal(kept.any(1), there.any(1))
    one = there.sum(1) == 1
    assert torch.equal(kept[one], there[one])
    all_three = kept[there.all(1)].sum() / (3 * there.all(1).sum())
    assert float(all_three) == pytest.approx(1 - share + share**3, abs=0.06)  # where all would go, none does
    assert torch.equal(joined.eval()._kept(there), there)


def test_unknown_readers_and_fusions_name_the_nearest():
    with pytest.raises(UsageError, match="unknown reader 'bilstn': did you mean 'bilstm'"):
        Joined([(1, 2)], "bilstn", "concat", **OPTIONS)
    with pytest.raises(UsageError, match="unknown fusion 'gatd': did you mean 'gated'"):
        Joined([(1, 2)], "mean", "gatd", **OPTIONS)
