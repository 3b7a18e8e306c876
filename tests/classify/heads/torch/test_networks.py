import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from encode_once.classify.heads.torch.networks import (
    FUSIONS,
    Bilinear,
    FusedFeatures,
    Gated,
    Mean,
    Mutan,
    Recurrent,
    Transformer,
    mean_of,
    sines,
    split,
)
from tests.conftest import examples

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
    """Rows (b, d) of sequences of these lengths (b, features), and the sequences of each feature."""
    rng = np.random.default_rng(seed)
    sequences = [[rng.normal(size=(n, w)) for n, (_, w) in zip(row, shapes, strict=True)] for row in lengths]
    padded = [
        np.concatenate(
            [
                np.pad(vectors, ((0, l - len(vectors)), (0, 0))).ravel()
                for vectors, (l, _) in zip(row, shapes, strict=True)
            ]
        )
        for row in sequences
    ]
    return torch.tensor(np.array(padded), dtype=torch.float32), sequences


def padded(lengths, width, spare=2):
    """A block of sequences with spare places, which places hold a vector, and the bare sequences."""
    longest = max(lengths) + spare
    X, sequences = rows_of([[n] for n in lengths], [(longest, width)])
    block = X.reshape(len(lengths), longest, width)
    return block, block.ne(0).any(2), [torch.tensor(vectors, dtype=torch.float32) for (vectors,) in sequences]


@examples(50)
@given(data=st.data())
def test_rows_are_split_into_the_blocks_of_their_features(data):
    shapes = data.draw(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=3))
    lengths = data.draw(st.lists(st.tuples(*[st.integers(0, l) for l, _ in shapes]), min_size=1, max_size=4))
    X, sequences = rows_of(lengths, shapes)
    pairs = split(X, shapes)
    assert len(pairs) == len(shapes)
    for i, (block, present) in enumerate(pairs):
        assert block.shape == (len(X), max(1, *(row[i] for row in lengths), 1), shapes[i][1])
        assert present.sum(1).tolist() == [row[i] for row in lengths]
        for row, vectors, places in zip(sequences, block, present, strict=True):
            assert places[: len(row[i])].all()
            np.testing.assert_allclose(vectors[places], row[i], rtol=1e-6)


def test_a_place_within_a_sequence_may_be_empty():
    ((block, present),) = split(torch.tensor([[1.0, 1, 0, 0, 2, 0, 0, 0]]), [(4, 2)])
    assert present.tolist() == [[True, False, True]]
    assert block.tolist() == [[[1, 1], [0, 0], [2, 0]]]


def test_the_mean_ignores_empty_places():
    block, present, alone = padded([3, 1, 0], 2)
    expected = [alone[0].mean(0).tolist(), alone[1][0].tolist(), [0, 0]]
    np.testing.assert_allclose(mean_of(block, present), expected, rtol=1e-6)
    np.testing.assert_allclose(Mean((5, 2), 0)(block, present), expected, rtol=1e-6)
    projected = Mean((5, 2), 3)
    linear = projected.project[0]
    torch.testing.assert_close(
        projected(block, present), nn.functional.gelu(torch.tensor(expected) @ linear.weight.T + linear.bias)
    )


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("kind", ["bilstm", "bigru"])
def test_a_recurrent_reader_reads_each_sequence_independently(kind, attention, layers):
    block, present, alone = padded([3, 5, 1], 2)
    reader = Recurrent(kind, 2, 4, layers, attention, 0.0)
    for vector, sequence in zip(reader(block, present), alone, strict=True):
        outputs, _ = reader.rnn(sequence)  # no batch, no padding: (n, 8)
        if attention:
            first, last = reader.weigh[0], reader.weigh[2].weight[0]
            weights = torch.stack([(first.weight @ h + first.bias).tanh() @ last for h in outputs]).exp()
            expected = sum(w * h for w, h in zip(weights / weights.sum(), outputs, strict=True))
        else:
            expected = torch.cat([outputs[-1, :4], outputs[0, 4:]])  # the last state of each direction
        torch.testing.assert_close(vector, expected)


def test_a_transformer_reads_each_sequence_independently():
    block, present, alone = padded([3, 5, 1], 2)
    reader = Transformer(2, 4, 2, 0.0).eval()
    for vector, sequence in zip(reader(block, present), alone, strict=True):
        tokens = reader.project(sequence) + sines(len(sequence), 8)
        torch.testing.assert_close(vector, reader.layers(tokens[None])[0].mean(0), rtol=1e-4, atol=1e-5)


def test_positions_are_the_sines_of_the_paper():
    positions = sines(7, 6)
    for place in range(7):
        for i in range(3):
            angle = place / 10000 ** (2 * i / 6)
            assert positions[place, 2 * i : 2 * i + 2].tolist() == pytest.approx(
                [np.sin(angle), np.cos(angle)], abs=1e-6
            )
    assert sines(3, 5).shape == (3, 5)


@pytest.fixture
def vectors():
    """Vectors of three features, (5, w) each, and which are present; the last sample has none."""
    torch.manual_seed(0)
    present = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0]]).bool()
    return [torch.randn(5, w) for w in (2, 3, 4)], present


def test_concat_has_zeros_for_missing_vectors(vectors):
    values, present = vectors
    expected = [np.concatenate([v[i] * t for v, t in zip(values, present[i], strict=True)]) for i in range(5)]
    np.testing.assert_array_equal(FUSIONS["concat"]([2, 3, 4], 7)(values, present), expected)


def test_bilinear_has_a_matrix_for_each_output(vectors):
    values, present = vectors
    fusion = Bilinear([2, 3, 4], 7)
    for i, fused in enumerate(fusion(values, present)):
        expected = None
        for j in np.flatnonzero(present[i]):
            projected = fusion.alone[j](values[j][i])
            if expected is None:
                expected = projected
                continue
            pair = fusion.pairs[j - 1]
            expected = torch.einsum("i,oij,j->o", expected, pair.weight, projected) + pair.bias
        torch.testing.assert_close(
            fused, torch.zeros(7) if expected is None else expected, rtol=1e-4, atol=1e-5
        )


def test_mutan_sums_the_products_of_projections(vectors):
    values, present = vectors
    fusion = Mutan([2, 3, 4], 7)
    for i, fused in enumerate(fusion(values, present)):
        expected = torch.zeros(7)
        for r in range(5):
            factor = torch.ones(7)
            for j in np.flatnonzero(present[i]):
                layer = fusion.projections[j]
                part = slice(7 * r, 7 * r + 7)
                factor = factor * (layer.weight[part] @ values[j][i] + layer.bias[part]).tanh()
            expected = expected + factor
        torch.testing.assert_close(fused, expected, rtol=1e-4, atol=1e-5)


def test_gates_weight_present_vectors(vectors):
    values, present = vectors
    fusion = Gated([2, 3, 4], 7)
    for i, fused in enumerate(fusion(values, present)):
        indices = np.flatnonzero(present[i])
        inputs = torch.cat([v[i] if j in indices else torch.zeros(len(v[i])) for j, v in enumerate(values)])
        gates = (fusion.gates.weight @ inputs + fusion.gates.bias).view(3, 7).exp()
        total = sum((gates[j] for j in indices), torch.zeros(7))
        expected = sum(
            (gates[j] / total * fusion.projections[j](values[j][i]).tanh() for j in indices), torch.zeros(7)
        )
        torch.testing.assert_close(fused, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("reader", ["mean", "bilstm", "bigru", "transformer"])
def test_the_vector_of_a_row_does_not_depend_on_other_rows_and_gradients_are_finite(reader, fusion):
    shapes = [(1, 3), (6, 2), (4, 2)]
    X, _ = rows_of([[1, 3, 4], [0, 6, 0], [1, 0, 1], [0, 0, 0]], shapes)
    joined = FusedFeatures(shapes, reader, fusion, **OPTIONS)
    joined.train()(X).square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in joined.parameters())
    together = joined.eval()(X)
    assert together.shape == (4, joined.width)
    for row, vector in zip(X, together, strict=True):
        torch.testing.assert_close(joined(row[None])[0], vector, rtol=1e-4, atol=1e-5)


@examples(50)
@given(share=st.floats(0.1, 1.0), seed=st.integers(0, 99))
def test_features_are_dropped_only_in_training_and_never_all_of_a_sample(share, seed):
    torch.manual_seed(seed)
    joined = FusedFeatures([(1, 2)] * 3, "mean", "concat", **{**OPTIONS, "drop_feature": share})
    present = torch.rand(2000, 3) < 0.6
    kept = joined.train()._drop_features(present)
    assert not (kept & ~present).any()
    assert torch.equal(kept.any(1), present.any(1))
    single = present.sum(1) == 1
    assert torch.equal(kept[single], present[single])
    all_three = kept[present.all(1)].sum() / (3 * present.all(1).sum())
    assert float(all_three) == pytest.approx(
        1 - share + share**3, abs=0.06
    )  # if all were drawn, none is dropped
    assert torch.equal(joined.eval()._drop_features(present), present)
