"""Log probabilities with and without features, against edited streams."""

from __future__ import annotations

import pytest
import torch

from sae_circuits.features.effects import without
from sae_circuits.features.effects.final import Final
from sae_circuits.features.effects.without import Pairs, changes
from sae_circuits.models.adapter import Adapter
from shapes import HOOKED, hooked

N, FEATURES, K = 90, 6, 4


def drawn(final, d_model, *, scale=1.0, n=N):
    """Random streams, features, and pairs of both."""
    r, d = 2 * torch.randn(N, d_model), torch.randn(FEATURES, d_model)
    d[2] = 0
    stream, feature = torch.randint(N, (n,)), torch.randint(FEATURES, (n,)).sort()[0]
    token = torch.randint(final.n_tokens, (n,))
    d, r = d.to(final.dtype), r.to(final.dtype)
    a = scale * torch.randn(n).to(final.dtype)
    return Pairs(r[stream], d, final.gained(d) @ final.W_U.to(final.dtype), feature, a, token)


def log_probs(final, r):
    logits = final.read(r) @ final.W_U.to(final.dtype)
    logits = logits if final.bias is None else logits + final.bias
    logits = logits if final.cap is None else final.cap * torch.tanh(logits / final.cap)
    return logits.log_softmax(1)


def edited(final, pairs):
    """Log probabilities of all tokens, as they are and without each pair's feature."""
    moved = pairs.coefficient[:, None] * pairs.directions[pairs.feature]
    return log_probs(final, pairs.r), log_probs(final, pairs.r - moved)


def check(final, pairs, tolerance):
    found, (whole, less) = changes(final, pairs, K), edited(final, pairs)
    at = pairs.token[:, None]
    close = {"rtol": tolerance, "atol": tolerance}
    torch.testing.assert_close(found.before, whole.gather(1, at)[:, 0], **close)
    torch.testing.assert_close(found.direct, (whole - less).gather(1, at)[:, 0], **close)
    moves = pairs.directions[pairs.feature].any(1)
    assert (found.direct[~moves] == 0).all()
    for own, sign in ((found.helped, 1), (found.hurt, -1)):
        best = (sign * (whole - less)).sort(dim=1, descending=True, stable=True)
        torch.testing.assert_close(own.values[moves], sign * best.values[moves, :K], **close)
        if tolerance < 1e-6:
            assert (own.ids[moves] == best.indices[moves, :K]).all()
        assert (own.values[~moves] == 0).all()


@torch.no_grad()
@pytest.mark.parametrize("scale", [1e-6, 1.0, 300.0])
@pytest.mark.parametrize("shape", HOOKED)
def test_what_features_do_is_what_an_edit_of_the_stream_does(shape, scale, monkeypatch):
    model = HOOKED[shape]()
    final = Final.of(Adapter.of(model))
    pairs = drawn(final, model.cfg.d_model, scale=scale)
    check(final, pairs, 1e-9)
    monkeypatch.setattr(without, "HELD", 450)
    monkeypatch.setattr(without, "ROOM", 99)
    check(final, pairs, 1e-9)


@torch.no_grad()
@pytest.mark.parametrize("shape", ["gpt2", "llama"])
def test_tokens_are_looked_for_everywhere_only_where_they_may_be(shape, monkeypatch):
    model = hooked(shape, d_vocab=700)
    final = Final.of(Adapter.of(model))
    pairs, looked = drawn(final, model.cfg.d_model), list[int]()
    everywhere = without._Feature._everywhere

    def counted(feature, streams):
        looked.append(len(streams.M))
        return everywhere(feature, streams)

    monkeypatch.setattr(without._Feature, "_everywhere", counted)
    check(final, pairs, 1e-9)
    assert 0 < sum(looked) < N / 2
    looked.clear()
    monkeypatch.setattr(without, "LIKELY", 351)
    check(final, pairs, 1e-9)
    assert sum(looked) == N


@torch.no_grad()
@pytest.mark.parametrize("shape", ["gpt2", "llama", "gemma2"])
def test_single_precision_is_near(shape):
    model = hooked(shape, dtype=torch.float32, d_vocab=333)
    final = Final.of(Adapter.of(model))
    check(final, drawn(final, model.cfg.d_model), 1e-5)


@torch.no_grad()
def test_the_effect_of_a_tiny_activation_is_exact_in_single_precision():
    model = hooked("gpt2", d_vocab=333)
    double = Final.of(Adapter.of(model))
    pairs = drawn(double, model.cfg.d_model, scale=1e-8)
    (whole, less) = edited(double, pairs)
    slope = (whole - less).gather(1, pairs.token[:, None])[:, 0]
    single = Final.of(Adapter.of(hooked("gpt2", dtype=torch.float32, d_vocab=333)))
    few = Pairs(*(x.float() if x.is_floating_point() else x for x in vars(pairs).values()))
    found = changes(single, few, K).direct.double()
    live = slope.abs() > 1e-9
    assert (found[live] / slope[live] - 1).abs().max() < 1e-3


@torch.no_grad()
@pytest.mark.parametrize("level", [-200.0, 100.0])
def test_logits_far_from_0_change_nothing(level):
    model = hooked("gpt2", dtype=torch.float32)
    final = Final.of(Adapter.of(model))
    pairs = drawn(final, model.cfg.d_model)
    found = changes(final, pairs, K)
    model.unembed.b_U += level
    moved = changes(Final.of(Adapter.of(model)), pairs, K)
    torch.testing.assert_close(moved.direct, found.direct, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(moved.before, found.before, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_a_feature_hangs_on_no_other():
    model = hooked("llama", dtype=torch.float32, d_vocab=333)
    final = Final.of(Adapter.of(model))
    pairs = drawn(final, model.cfg.d_model, n=300)
    whole = changes(final, pairs, K)
    names, some = ("feature", "coefficient", "token"), pairs.feature % 2 == 1

    def part(which):
        of_pairs = (getattr(pairs, name)[which] for name in names)
        return Pairs(pairs.r[which], pairs.directions, pairs.effects, *of_pairs)

    found = changes(final, part(some), K)
    assert (found.direct == whole.direct[some]).all()
    assert (found.helped.ids == whole.helped.ids[some]).all()
    assert changes(final, part(slice(0)), K).helped.ids.shape == (0, K)


@torch.no_grad()
def test_tokens_that_are_helped_alike_come_by_their_ids():
    model = hooked("llama", d_vocab=70)
    model.unembed.W_U[:, 5:50] = model.unembed.W_U[:, 4:5]
    final = Final.of(Adapter.of(model))
    found = changes(final, drawn(final, model.cfg.d_model), 3)
    same = (found.helped.values[:, :-1] == found.helped.values[:, 1:]).nonzero()
    assert len(same)
    for row, i in same.tolist():
        assert found.helped.ids[row, i] < found.helped.ids[row, i + 1]
