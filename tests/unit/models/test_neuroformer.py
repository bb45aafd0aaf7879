"""Spikes one by one: tokens and back, who sees what, what is drawn, and who is credited."""

from dataclasses import replace

import pytest
import torch
from spike_batches import batch_of, facts, random_rows

from neurofm.models import MODELS
from neurofm.models.neuroformer_connectivity import Attended, roll_out
from neurofm.models.spike_tokens import spike_tokens
from neurofm.objectives import OBJECTIVES
from neurofm.objectives.spike_generation import draw
from neurofm.objectives.spike_sequence import targets
from neurofm.schema.batch import StreamValues
from neurofm.schema.errors import ConfigError, DataError

SMALL = dict(dim=16, n_heads=2, current_s=0.05, history_s=0.05, step_s=0.01, dropout=0.0)
WINDOW_S = 0.1


def made(**choices):
    torch.manual_seed(0)
    model = MODELS.build("neuroformer", facts(window_s=WINDOW_S), **{**SMALL, **choices}).double().eval()
    with torch.no_grad():
        # from an initial 0.02 nothing depends on anything much
        for p in model.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())).double())
    return model


def batch(n_rows=2, n=20, seed=0):
    return batch_of(random_rows(n_rows, window_s=WINDOW_S, n=n, seed=seed), window_s=WINDOW_S, rate_hz=1000.0)


def test_events_to_tokens_and_back():
    """Times on a grid of milliseconds come back as their 10 ms step, in order of step, then of unit."""
    rows = random_rows(4, window_s=1.0, n=200, grid_s=0.001)
    made_tokens = spike_tokens(batch_of(rows, rate_hz=1000.0), start_s=0.0, n_steps=100, step_s=0.01, max_tokens=500)
    for b, row in enumerate(rows):
        want = sorted((round(t * 1000) // 10, u) for t, u in row)
        there = made_tokens.mask[b]
        got = list(zip(made_tokens.step[b][there].tolist(), made_tokens.channel[b][there].tolist(), strict=True))
        assert got == want
    assert not made_tokens.cut.any()


def test_long_windows_are_cut_and_say_so():
    first, last = (
        spike_tokens(batch(n=30), start_s=0.0, n_steps=10, step_s=0.01, max_tokens=8, keep=keep)
        for keep in ("first", "last")
    )
    assert first.cut.tolist() == [True, True]
    assert first.mask.sum(1).tolist() == last.mask.sum(1).tolist() == [8, 8]
    assert (first.step.max(1).values <= last.step.min(1).values).all()
    unit, step, valid = targets(first, 10)
    # eight spikes are to be said; that there is no ninth would be a lie
    assert valid.sum(1).tolist() == [8, 8]
    assert (unit[valid] > 0).all()
    assert (step[valid] < 10).all()


def test_targets_are_the_next_spike_then_the_end():
    data = batch_of([[(0.051, 2), (0.072, 1)], []], window_s=WINDOW_S, rate_hz=1000.0)
    unit, step, valid = targets(made().current(data), 5)
    assert unit.tolist() == [[3, 2, 0], [0, 0, 0]]
    assert step.tolist() == [[0, 2, 5], [5, 5, 5]]
    assert valid.tolist() == [[True, True, True], [True, False, False]]


def test_states_do_not_see_the_spikes_that_they_predict():
    model = made()
    row = [(0.01, 0), (0.051, 2), (0.062, 1), (0.073, 4), (0.094, 5)]
    other = [*row[:3], (0.083, 3), (0.094, 0)]
    a, b = (model.run(batch_of([r], window_s=WINDOW_S, rate_hz=1000.0)).tokens[0] for r in (row, other))
    # start token and the two first spikes are the same; what follows is not
    torch.testing.assert_close(a[:3], b[:3], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(a[3], b[3])


def test_history_stimulus_and_behaviour_are_seen():
    streams = {
        "frames": StreamValues(torch.randn(1, 4, 12), torch.arange(4.0)[None] / 40, torch.ones(1, 4, dtype=torch.bool)),
        "speed": StreamValues(torch.randn(1, 4, 1), torch.arange(4.0)[None] / 40, torch.ones(1, 4, dtype=torch.bool)),
    }
    model = made(
        stimulus={"stream": "frames", "columns": 12, "size": [4, 3], "kernel": [2, 2, 3]}, behaviours={"speed": 1}
    )
    data = replace(batch_of([[(0.02, 1), (0.06, 2)]], window_s=WINDOW_S, rate_hz=1000.0), streams=streams)
    plain = model(data).tokens
    changed = [batch_of([[(0.02, 3), (0.06, 2)]], window_s=WINDOW_S, rate_hz=1000.0)]
    changed[0].streams = streams
    for name in streams:
        more = streams[name]._replace(values=streams[name].values + 1)
        changed.append(replace(data, streams={**streams, name: more}))
    # the order of frames matters: their times are part of them
    turned = streams["frames"]._replace(values=streams["frames"].values.flip(1))
    changed.append(replace(data, streams={**streams, "frames": turned}))
    for other in changed:
        assert not torch.allclose(plain, model(other).tokens)
    with pytest.raises(DataError, match="stream 'speed' is not in the batch"):
        model(replace(data, streams={"frames": streams["frames"]}))


def test_the_roll_out_is_a_product_of_square_matrices():
    g = torch.Generator().manual_seed(0)
    S, K = 4, 3
    attended = Attended(
        own=[torch.rand(1, 2, S, S, generator=g).double().tril().softmax(-1)],
        past=[torch.rand(1, 2, S, K, generator=g).double().softmax(-1) for _ in range(2)],
        own_late=[torch.rand(1, 2, S, S, generator=g).double().softmax(-1)],
    )
    product = torch.eye(S + K, dtype=torch.float64)
    for kind, layers in (("own", attended.own), ("past", attended.past), ("own", attended.own_late)):
        for weight in layers:
            w = weight[0].amax(0)
            square = torch.eye(S + K, dtype=torch.float64)
            part = slice(0, S) if kind == "own" else slice(S, S + K)
            square[:S, part] += w / w.sum(-1, keepdim=True)
            square[:S] /= 2
            product = square @ product
    own, past = roll_out(attended)
    torch.testing.assert_close(torch.cat([own, past], -1)[0], product[:S], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(product.sum(1), torch.ones(S + K).double())


def test_connectivity_has_a_direction_and_an_order():
    """One past spike of unit 0, one spike of unit 4: all there is goes from 0 to 4."""
    model = made(decoder_layers=1)
    found = model.connectivity([batch_of([[(0.02, 0), (0.07, 4)]], window_s=WINDOW_S, rate_hz=1000.0)])
    assert found.shape == (6, 6)
    assert found[0, 4] > 0
    assert found.isfinite().sum() == 1
    # two spikes of the current part: the earlier one is the source
    inside = batch_of([[(0.06, 1), (0.07, 4)]], window_s=WINDOW_S, rate_hz=1000.0)
    assert model.connectivity([inside])[1, 4] > 0
    assert not model.connectivity([inside]).isfinite()[4, 1]
    assert not model.connectivity([inside], current=False).isfinite().any()


def test_weights_that_are_read_are_those_that_are_used():
    model, data = made(), batch()
    torch.testing.assert_close(
        model.run(data).tokens, model.run(data, attended=Attended()).tokens, rtol=1e-10, atol=1e-12
    )


def objective_for(model, **choices):
    torch.manual_seed(1)
    return OBJECTIVES.build("spike_sequence", model, facts(window_s=WINDOW_S), **choices).double()


@pytest.mark.parametrize("temperature", [0.0, 1.0, 50.0])
def test_generation_never_repeats_what_it_masks(temperature):
    """No unit that is not in the window, no unit twice in a step, no step back, nothing behind the end."""
    model = made(max_tokens=40)
    objective = objective_for(model)
    data = batch(8)
    data.channel_mask = data.channel_mask.clone()
    data.channel_mask[:4, 3] = False
    with torch.no_grad():
        # the unit that is missing is the favourite, and the end is out of favour
        objective.head.weight[4] += 5 * model.run(data).tokens.mean((0, 1))
        objective.end -= 2 * model.run(data).tokens.mean((0, 1))
    drawn = objective.generate(model, data, torch.Generator().manual_seed(0), temperature=temperature, top_p=1.0)
    assert drawn.tokens.mask.any()
    for b in range(8):
        there = drawn.tokens.mask[b]
        step, channel = drawn.tokens.step[b][there], drawn.tokens.channel[b][there]
        assert (step.diff() >= 0).all()
        assert ((step >= 0) & (step < model.n_steps)).all()
        assert data.channel_mask[b, channel].all()
        pairs = list(zip(step.tolist(), channel.tolist(), strict=True))
        assert len(set(pairs)) == len(pairs)
        # what has ended stays ended
        assert (there.long().diff() <= 0).all()
    assert (drawn.events.time_s >= 0.05).all()
    assert (drawn.events.time_s < 0.1).all()
    assert drawn.events.offsets[-1] == drawn.tokens.mask.sum()


def test_generation_does_not_look_at_what_it_generates():
    model = made()
    objective = objective_for(model)
    row = [(0.01, 0), (0.03, 2)]
    drawn = [
        objective.generate(model, batch_of([r], window_s=WINDOW_S, rate_hz=1000.0), torch.Generator().manual_seed(2))
        for r in (row, [*row, (0.06, 1), (0.08, 5)])
    ]
    assert torch.equal(drawn[0].tokens.channel, drawn[1].tokens.channel)
    assert torch.equal(drawn[0].events.time_s, drawn[1].events.time_s)


def test_the_nucleus_holds_the_likely_ones():
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log().expand(4000, -1)
    drawn = draw(logits, 1.0, 0.75, torch.Generator().manual_seed(0))
    assert set(drawn.tolist()) == {0, 1}
    assert abs((drawn == 0).float().mean() - 0.625) < 0.03


def test_alignment_by_hand():
    """Two windows whose features agree across modalities: −ln of a softmax over two cosines / 0.5."""
    model = made(behaviours={"speed": 1})
    objective = objective_for(model, align_dim=16)
    with torch.no_grad():
        objective.align.weight.copy_(torch.eye(16))
        objective.align.bias.zero_()
    features = {"spikes": torch.eye(16).double()[:2], "speed": torch.eye(16).double()[:2] * 3}
    want = -torch.log(torch.exp(torch.tensor(2.0)) / (torch.exp(torch.tensor(2.0)) + 1))
    assert abs(float(objective._contrast(features).detach()) - float(want)) < 1e-6


def test_wrong_windows_are_sentences():
    with pytest.raises(ConfigError, match="must fit into window_s"):
        made(history_s=0.2)
    with pytest.raises(ConfigError, match=r"current_s=0\.05 must be a multiple of step_s=0\.02"):
        made(step_s=0.02)
    with pytest.raises(ConfigError, match="does not fit 12 columns"):
        made(stimulus={"stream": "frames", "columns": 12, "size": [5, 3]})
