"""A stream with kept keys against whole windows: the plain road, and a dense form written from the definition."""

import math
from dataclasses import replace

import pytest
import torch

from neurofm.models import MODELS
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.facts import Facts

PATCH, WINDOW, CHANNELS = 4, 9, 5
FACTS = Facts(rate_hz=40.0, window_s=WINDOW * PATCH / 40, max_channels=CHANNELS)
SMALL = dict(
    patch_samples=PATCH, dim=16, n_layers=3, n_heads=4, n_kv_heads=2, content_window=3, n_positions=12, dropout=0.1,
    backend="math",
)  # fmt: skip


def build(**choices):
    torch.manual_seed(0)
    model = MODELS.build("mvpformer", FACTS, **{**SMALL, **choices}).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:  # logits of order one, so that every term matters in every layer
                parameter.normal_(std=0.6)
    return model


def recording(n_segments, n_valid=(5, 3), seed=0):
    g = torch.Generator().manual_seed(seed)
    C = max(n_valid)
    mask = torch.arange(C) < torch.tensor(n_valid)[:, None]
    signal = torch.randn(len(n_valid), C, n_segments * PATCH, generator=g).double() * mask[..., None]
    return NeuralBatch(
        signal=signal,
        channel_mask=mask,
        time_mask=torch.ones(len(n_valid), n_segments * PATCH, dtype=torch.bool),
        rate_hz=40.0,
        positions=torch.randn(len(n_valid), C, 3, generator=g),
        channel_ids=torch.zeros(len(n_valid), C, dtype=torch.long),
    )


def piece(batch, start, stop):
    span = slice(start * PATCH, stop * PATCH)
    return replace(batch, signal=batch.signal[..., span], time_mask=batch.time_mask[:, span])


def grid(encoded, n_channels=CHANNELS):
    return encoded.tokens.unflatten(1, (-1, n_channels))


def feed(model, batch, sizes, **begin):
    """Feed pieces of these sizes; the tokens of each step."""
    state, out, start = model.begin_stream(**begin), [], 0
    for size in sizes:
        encoded, state = model.step(piece(batch, start, start + size), state)
        out.append(grid(encoded, batch.signal.shape[1]))
        start += size
    return out, state


def whole(model, batch, stop, n_segments=WINDOW):
    """The blocks' own forward, plain road, on the first `stop` segments, with the last rows of a table of W rows."""
    batch = piece(batch, 0, stop)
    time, channel = model.tables()
    x = model.embed_input(batch)
    for block in model.blocks:
        rows = None if time is None else time[n_segments - stop : n_segments]
        x = block(x, rows, channel, batch.channel_mask, model.distance(batch))
    return model.norm(x)


def assert_close(ours, reference, mask):
    keep = mask[:, None].expand(ours.shape[:-1])
    a, b = ours[keep], reference[keep]
    assert (a - b).abs().max() / b.abs().max() <= 1e-10


CHOICES = [
    {},
    dict(scale_by_layer=True, n_kv_heads=4),
    dict(channel_distance="coordinates"),
    dict(use_time=False),
    dict(use_channel=False, channel_embedding=True),
    dict(content_window=0),
    dict(content_window=20),
]


@pytest.mark.parametrize("choices", CHOICES, ids=str)
def test_a_full_window_in_any_pieces_is_the_published_model(choices):
    model, batch = build(**choices), recording(WINDOW)
    published = grid(model(batch))
    for sizes in ([1] * WINDOW, [WINDOW], [4, 1, 4], [1, 7, 1]):
        out, state = feed(model, batch, sizes)
        # the last step is the end of the published window; in it, what is not last is as there
        assert_close(out[-1], published[:, WINDOW - sizes[-1] :], batch.channel_mask)
        assert state.n_seen == WINDOW
        stop = 0
        for size, tokens in zip(sizes, out, strict=True):
            stop += size
            assert_close(tokens, whole(model, batch, stop)[:, stop - size :], batch.channel_mask)


def test_pooled_over_the_newest_segment_as_the_classifier_reads_it():
    model, batch = build(), recording(WINDOW)
    state = None
    for t in range(WINDOW):
        encoded, state = model.step(piece(batch, t, t + 1), state)
    assert torch.allclose(model.pool(encoded), model.pool(model(batch)), rtol=1e-10)
    assert torch.allclose(encoded.time_s, model(batch).time_s[:, -CHANNELS:])
    assert torch.equal(encoded.mask, batch.channel_mask)


def dense(model, batch, n_segments, max_segments):
    """Tokens of the newest segment of a long recording by the definition: no cache, all pairs, a band of M lags.

    Two copies of the last segment's state run through the layers: what it is as the last, and what the others see.
    """
    x = model.embed_input(batch)
    B, N, C, _ = x.shape
    newest = x[:, -1:]
    mask = batch.channel_mask
    for block in model.blocks:
        a = block.attention
        H, K, d = a.n_heads, a.n_kv_heads, a.head_dim
        G = H // K
        time = a.time_key(model.time_table.weight).view(-1, K, d)
        chan = a.channel_key(model.channel_table.weight).view(-1, K, d)
        u, v, w = a.bias

        def attend(h, t, keys, exempt, a=a, H=H, K=K, d=d, G=G, time=time, chan=chan, u=u, v=v, w=w):
            out = torch.zeros(B, C, H * d, dtype=h.dtype)
            q = a.query(h).view(B, C, H, d)
            kv = a.key_value(keys).view(B, -1, C, 2, K, d)
            for b in range(B):
                n = int(mask[b].sum())
                for c in range(n):
                    for head in range(H):
                        g, logits, values = head // G, [], []
                        qh = q[b, c, head]
                        for s in range(max(0, t + 1 - max_segments), t + 1):
                            for c2 in range(n):
                                logit = (qh + v[g]) @ time[n_segments - 1 - (t - s), g]
                                logit = logit + (qh + w[g]) @ chan[n - 1 - abs(c - c2), g]
                                if exempt or t - s <= a.content_window:
                                    logit = logit + (qh + u[g]) @ kv[b, s, c2, 0, g]
                                logits.append(logit / math.sqrt(d))
                                values.append(kv[b, s, c2, 1, g])
                        weight = torch.stack(logits).softmax(0)
                        out[b, c, head * d : (head + 1) * d] = weight @ torch.stack(values)
            return a.out(out)

        h, hn = block.norm(x), block.norm(newest)
        as_last = attend(hn[:, 0], N - 1, torch.cat([h[:, :-1], hn], dim=1), True)
        as_seen = torch.stack([attend(h[:, t], t, h, False) for t in range(N)], dim=1)
        newest = newest + block.feedforward(hn) + as_last[:, None]
        x = x + block.feedforward(h) + as_seen
    return model.norm(newest)


def test_beyond_the_memory_each_layer_sees_the_last_segments():
    model, batch = build(n_layers=2, n_kv_heads=2), recording(8, n_valid=(2, 1))
    for sizes in ([1] * 8, [5, 1, 2], [8]):
        out, _ = feed(model, batch, sizes, n_segments=7, max_segments=5)
        assert_close(out[-1][:, -1:], dense(model, batch, 7, 5), batch.channel_mask)
    # and no further: in two layers of five segments the first of ten has no way to the last
    later = recording(10, n_valid=(2, 1))
    first = replace(later, signal=later.signal.clone())
    first.signal[..., :PATCH] += 5.0
    a, b = (feed(model, x, [1] * 10, n_segments=7, max_segments=5)[0][-1] for x in (later, first))
    assert torch.equal(a, b)


def test_memory_is_bounded_and_states_are_values():
    model, batch = build(), recording(30)
    state, sizes = model.begin_stream(max_segments=6), []
    states = []
    for t in range(0, 30, 2):
        _, state = model.step(piece(batch, t, t + 2), state)
        states.append(state)
        sizes.append(sum(x.untyped_storage().nbytes() for pair in state.kept for x in pair))
    per_segment = 3 * 2 * 2 * (2 * CHANNELS * 4) * 8  # layers, key and value, samples, heads × channels × width, bytes
    assert sizes[-1] == max(sizes) == 5 * per_segment
    # going back to an earlier state gives the same again
    once, _ = model.step(piece(batch, 4, 5), states[1])
    again, _ = model.step(piece(batch, 4, 5), states[1])
    assert torch.equal(once.tokens, again.tokens)
    assert states[1].n_seen == 4


def test_padding_and_its_contents_change_nothing():
    model, batch = build(), recording(6, n_valid=(3,))
    wide = recording(6, n_valid=(5,), seed=9)
    wide.signal[:, :3] = batch.signal
    wide.channel_mask[:, 3:] = False
    a, b = (feed(model, x, [2, 1, 3])[0] for x in (batch, wide))
    for one, other in zip(a, b, strict=True):
        assert torch.allclose(one, other[:, :, :3], rtol=1e-10, atol=1e-12)


def test_float32_is_close():
    model, batch = build(), recording(WINDOW)
    reference = grid(model(batch))[:, -1:]
    out, _ = feed(model.float(), replace(batch, signal=batch.signal.float()), [1] * WINDOW)
    keep = batch.channel_mask[:, None]
    assert (out[-1][keep] - reference[keep]).abs().max() / reference.abs().max() <= 1e-5


def test_refusals():
    model, batch = build(), recording(WINDOW)
    with pytest.raises(ConfigError, match="causal=true"):
        build(causal=False).step(piece(batch, 0, 1))
    with pytest.raises(ConfigError, match="give 1 to 12"):
        model.begin_stream(n_segments=13)
    with pytest.raises(ConfigError, match="give 1 to 9"):
        model.begin_stream(max_segments=10)
    with pytest.raises(ConfigError, match="eval"):
        build().train().step(piece(batch, 0, 1))
    _, state = model.step(piece(batch, 0, 1))
    other = piece(recording(WINDOW, n_valid=(5, 4)), 1, 2)
    with pytest.raises(DataError, match="channel_mask"):
        model.step(other, state)
    with pytest.raises(ConfigError, match="not a multiple of the patch"):
        model.step(replace(piece(batch, 1, 2), signal=batch.signal[..., :3], time_mask=batch.time_mask[:, :3]), state)
