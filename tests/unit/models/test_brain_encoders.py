"""Brain encoders against their published sizes, slow forms written from the definitions, and their releases' faults."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from neurofm.models import MODELS
from neurofm.models.mtam import band_powers
from neurofm.nn.adaptive_pool import pool_channels
from neurofm.nn.channel_mixing import ChannelGraphAttention, ChannelSelfAttention
from neurofm.nn.montage import to_montage
from neurofm.nn.projection import build_head
from neurofm.nn.s4d import S4D
from neurofm.nn.spatial_attention import SpatialAttention, flat_map, fourier_code, unit_box
from neurofm.nn.subject_linear import SubjectLinear, start_from_mean
from neurofm.nn.tsconv import TSConv, load_plain_weights
from neurofm.objectives import OBJECTIVES
from neurofm.schema.batch import NeuralBatch, StreamValues
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.facts import Facts

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "scripts" / "bench"))
from plain_nice import PlainTSConv  # noqa: E402


def count(module):
    return sum(p.numel() for p in module.parameters())


def conf(kind, name):
    choices = yaml.safe_load((ROOT / "conf" / kind / f"{name}.yaml").read_text())
    return choices.pop("name"), choices


def facts_of(n_channels=6, window=64, rate=64.0, subjects=2, embedding=(8,)):
    return Facts(
        rate_hz=rate, window_s=window / rate, max_channels=n_channels, channels=tuple(f"E{i}" for i in range(n_channels)),
        subjects=tuple(f"s{i}" for i in range(subjects)), embedding_shape=embedding,
    )  # fmt: skip


def batch_of(facts, n=4, seed=0, n_channels=None):
    g = torch.Generator().manual_seed(seed)
    C = n_channels or facts.max_channels
    return NeuralBatch(
        signal=torch.randn(n, C, facts.window_samples, generator=g),
        channel_mask=torch.ones(n, C, dtype=torch.bool),
        time_mask=torch.ones(n, facts.window_samples, dtype=torch.bool),
        channel_ids=torch.arange(1, C + 1).expand(n, -1),
        positions=torch.randn(1, C, 3, generator=g).expand(n, -1, -1) * 0.1,
        rate_hz=facts.rate_hz,
        subject=torch.arange(n) % 2 + 1,
        stimulus_embedding={"image": torch.randn(n, 8, generator=g)},
    )


def test_nice_has_the_published_sizes():
    facts = facts_of(63, 250, 250.0, embedding=(768,))
    name, choices = conf("model", "nice")
    model = MODELS.build(name, facts, **choices)
    name, choices = conf("objective", "alignment")
    objective = OBJECTIVES.build(name, model, facts, **choices)
    assert (model.dim, count(model), count(objective.head)) == (1440, 103_680, 1_698_816)


def test_nice_windows_of_another_length_are_computed():
    """Some code hard-codes 1,440."""
    for n_samples in (75, 100, 250, 257):
        model = MODELS.build("nice", facts_of(5, n_samples, 250.0))
        assert model.dim == 40 * (math.floor((n_samples - 24 - 51) / 5) + 1)
        assert model.eval()(batch_of(facts_of(5, n_samples, 250.0))).tokens.shape[-1] == model.dim
    with pytest.raises(ConfigError, match="shorter than filter and pool"):
        MODELS.build("nice", facts_of(5, 74, 250.0))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_filter_bank_is_the_published_form(dtype):
    """Outputs, gradients, running statistics, and outputs in evaluation, signals far from zero included."""
    torch.manual_seed(0)
    plain = PlainTSConv(n_channels=7, n_filters=6, dropout=0.0).to(dtype)
    ours = TSConv(n_channels=7, n_filters=6, dropout=0.0).to(dtype)
    load_plain_weights(ours, plain.state_dict())
    x = 3 + torch.randn(5, 7, 130, dtype=dtype)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    weight = torch.randn(5, 12, 6, dtype=dtype)
    expected, got = plain(a), ours(b)
    (expected * weight).sum().backward()
    (got * weight).sum().backward()
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5

    def close(one, other):
        assert (one - other).abs().max() <= tolerance * other.abs().max()

    close(got, expected)
    close(b.grad, a.grad)
    close(ours.temporal.weight.grad, plain.temporal.weight.grad[:, 0, 0])
    close(ours.spatial.weight.grad.view(6, 7, 6), plain.spatial.weight.grad[..., 0].transpose(1, 2))
    close(ours.mix.weight.grad, plain.mix.weight.grad[..., 0, 0])
    for norm in ("norm_1", "norm_2"):
        close(getattr(ours, norm).weight.grad, getattr(plain, norm).weight.grad)
        close(getattr(ours, norm).bias.grad, getattr(plain, norm).bias.grad)
        close(getattr(ours, norm).running_mean, getattr(plain, norm).running_mean)
        close(getattr(ours, norm).running_var, getattr(plain, norm).running_var)
    close(ours.eval()(x), plain.eval()(x))


def test_montage_goes_by_name():
    signal = torch.arange(6.0).view(1, 3, 2)
    ids, mask = torch.tensor([[4, 0, 2]]), torch.ones(1, 3, dtype=torch.bool)
    placed, there = to_montage(signal, mask, ids, 4, model="x")
    assert placed[0].tolist() == [[0, 0], [4, 5], [0, 0], [0, 1]]
    assert there[0].tolist() == [False, True, False, True]
    with pytest.raises(DataError, match="2 of the 4 channels"):
        to_montage(signal, mask, ids, 4, model="x", missing="refuse")
    with pytest.raises(DataError, match="none of the 4"):
        to_montage(signal, ~mask, ids, 4, model="x")
    with pytest.raises(ConfigError, match="channel_ids"):
        to_montage(signal, mask, None, 4, model="x")


@pytest.mark.parametrize("name", ["nice", "atm", "mtam"])
def test_the_order_of_channels_does_not_matter(name):
    facts = facts_of(window=128, rate=128.0)
    torch.manual_seed(0)
    model = MODELS.build(name, facts).eval()
    batch, order = batch_of(facts), torch.tensor([3, 0, 5, 1, 2, 4])
    turned = replace(batch, signal=batch.signal[:, order], channel_ids=batch.channel_ids[:, order])
    torch.testing.assert_close(model(turned).tokens, model(batch).tokens)


def test_graph_attention_is_its_definition():
    torch.manual_seed(0)
    layer = ChannelGraphAttention(n_samples=5, dropout=0.0).double()
    x, there = torch.randn(1, 4, 5, dtype=torch.float64), torch.tensor([[True, True, True, False]])
    out = layer(x, there)
    h = x[0] @ layer.features.weight.T
    for i in range(3):
        near = [j for j in range(3) if j != i]
        e = [torch.nn.functional.leaky_relu(layer.receiver(h[i]) + layer.sender(h[j]), 0.2) for j in near]
        a = torch.cat(e).softmax(0)
        message = sum(a[k] * h[j] for k, j in enumerate(near)) + layer.bias
        torch.testing.assert_close(out[0, i], x[0, i] + message)
    torch.testing.assert_close(out[0, 3], x[0, 3])
    alone = layer(x, torch.tensor([[True, False, False, False]]))
    assert alone.isfinite().all()


def test_self_attention_mixes_channels():
    """In the release each channel is weighed by the sum of its own attention, which is one: no attention at all."""
    torch.manual_seed(0)
    layer = ChannelSelfAttention(n_channels=4, n_samples=60, dropout=0.0).double()
    x, there = torch.randn(2, 4, 60, dtype=torch.float64), torch.ones(2, 4, dtype=torch.bool)
    torch.nn.init.zeros_(layer.query[0].weight)
    even = layer(x, there)
    torch.nn.init.normal_(layer.query[0].weight)
    assert (layer(x, there) - even).abs().max() > 1e-3


def test_speech_decoder_has_the_published_size():
    facts = facts_of(4, 361, 120.0, subjects=26, embedding=(361, 1024))
    name, choices = conf("model", "speech_decoder")
    model = MODELS.build(name, facts, **choices)
    name, choices = conf("objective", "alignment_speech")
    objective = OBJECTIVES.build(name, model, facts, **choices)
    # 26 subjects and the row for whoever is new: 27 matrices
    assert count(model.attention) == 552_960
    assert count(model.subject_layer) == 27 * 270**2
    assert count(model) + count(objective.head) == 552_960 + 73_170 + 1_968_300 + 6_108_800 + 861_824
    model.eval()
    assert objective.predict(model, batch_of(facts, 2)).shape == (2, 361, 1024)


def test_speech_decoder_reads_the_brain_later():
    facts = facts_of(window=64)
    torch.manual_seed(0)
    small = dict(n_virtual=4, n_frequencies=2, dim=8, n_layers=2)
    now, later = (MODELS.build("speech_decoder", facts, **small, lag_s=lag).eval() for lag in (0.0, 8 / 64))
    later.load_state_dict(now.state_dict())
    batch = batch_of(facts)
    moved = batch.with_signal(torch.nn.functional.pad(batch.signal[..., 8:], (0, 8)))
    torch.testing.assert_close(later(batch).tokens, now(moved).tokens)


def test_position_code_and_attention_are_their_definitions():
    positions = torch.rand(1, 3, 2, dtype=torch.float64)
    code = fourier_code(positions, 4)
    for c in range(3):
        x, y = positions[0, c].tolist()
        phase = [2 * math.pi * (k * (x + 0.2) + m * (y + 0.2)) / 1.4 for k in range(4) for m in range(4)]
        np.testing.assert_allclose(code[0, c].numpy(), [*map(math.cos, phase), *map(math.sin, phase)], rtol=1e-10)
    layer = SpatialAttention(n_virtual=2, n_axes=3, n_frequencies=2, dropout_radius=0.0).double()
    place = torch.randn(1, 4, 3, dtype=torch.float64)
    place[0, 3] = torch.nan
    signal, mask = torch.randn(1, 4, 5, dtype=torch.float64), torch.tensor([[True, True, False, True]])
    known = torch.tensor([[True, True, False, False]])
    scores = fourier_code(unit_box(place.nan_to_num(), known), 2)[0, :2] @ layer.heads.T
    torch.testing.assert_close(layer(signal, place, mask)[0], scores.softmax(0).T @ signal[0, :2])
    with pytest.raises(DataError, match="no sensor with a known position"):
        layer(signal, torch.full_like(place, torch.nan), mask)


def test_flat_map_keeps_the_angle_from_the_vertex():
    at = torch.tensor([[[0.0, 0.0, 0.1], [0.1, 0.0, 0.0], [0.0, -0.1, 0.1]]])
    flat = flat_map(at)[0]
    torch.testing.assert_close(flat, torch.tensor([[0.0, 0.0], [math.pi / 2, 0.0], [0.0, -math.pi / 4]]))


def test_sensor_dropout_never_takes_all():
    layer = SpatialAttention(n_virtual=2, n_frequencies=2, dropout_radius=5.0)
    out = layer(torch.randn(2, 3, 4), torch.randn(2, 3, 3), torch.ones(2, 3, dtype=torch.bool))
    assert out.isfinite().all()


@pytest.mark.parametrize("kind", ["max", "average"])
def test_pooling_is_its_definition_for_any_number_of_voxels(kind):
    g = torch.Generator().manual_seed(0)
    sizes, N = [3, 8, 9, 17, 50, 131], 8
    values = torch.randn(len(sizes), 160, generator=g, dtype=torch.float64)
    mask = torch.zeros(len(sizes), 160, dtype=torch.bool)
    for row, n in enumerate(sizes):
        # valid voxels anywhere, in their order
        mask[row, torch.randperm(160, generator=g)[:n]] = True
    ours = pool_channels(values, mask, N, kind=kind)
    for row, V in enumerate(sizes):
        v = values[row][mask[row]].numpy()
        spans = [v[i * V // N : -(-(i + 1) * V // N)] for i in range(N)]
        expected = [s.max() if kind == "max" else s.mean() for s in spans]
        np.testing.assert_allclose(ours[row].numpy(), expected, rtol=1e-12)


def test_mindbridge_terms_are_their_definitions():
    facts = facts_of(window=1, rate=1.0, subjects=3)
    torch.manual_seed(0)
    model = MODELS.build("mindbridge", facts, n_pooled=5, dim=8, n_blocks=1, bottleneck=2).double().eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.5)
    batch = batch_of(facts)
    batch = replace(batch, signal=batch.signal.double(), subject=torch.full((4,), 2))
    encoded, terms = model.encode_with_terms(batch, torch.Generator().manual_seed(0))
    torch.testing.assert_close(encoded.tokens, model(batch).tokens)
    rows = batch.subject
    x = pool_channels(batch.signal[..., 0], batch.channel_mask, 5)
    code = model._embed(x, rows)
    torch.testing.assert_close(terms["reconstruction"], (model._build(code, rows) - x).square().mean())
    possible = []
    for b in (1, 3):
        other = torch.full((4,), b)
        possible.append(float((model._embed(model._build(code, other), other) - code).square().mean().detach()))
    assert float(terms["cycle"].detach()) == pytest.approx(possible[0]) or float(terms["cycle"].detach()) == pytest.approx(possible[1])  # fmt: skip


def test_mindbridge_adapter_starts_as_the_identity():
    model = MODELS.build("mindbridge", facts_of(window=1, rate=1.0), n_pooled=5, dim=8, bottleneck=2)
    x, rows = torch.randn(3, 5), torch.tensor([1, 2, 0])
    assert torch.equal(model.embed_adapter(x, rows), x)


@pytest.mark.parametrize("name", ["speech_decoder", "meg_image", "mindbridge", "mindeye", "atm"])
def test_a_new_subject_starts_from_the_mean_of_the_others(name):
    small = {
        "speech_decoder": dict(n_virtual=4, n_frequencies=2, dim=8, n_layers=2),
        "meg_image": dict(n_virtual=4, n_frequencies=2, hidden=8, dim=8, n_layers=2),
        "mindbridge": dict(n_pooled=5, dim=8, bottleneck=2),
        "mindeye": dict(dim=8),
        "atm": dict(subject_token=True),
    }[name]
    facts = facts_of(window=128, rate=128.0)
    torch.manual_seed(0)
    model = MODELS.build(name, facts, **small).eval()
    owned = dict(model.named_parameters())
    names = model.subject_parameters()
    assert names
    assert all(len(owned[n]) == 3 for n in names), "a row for each subject and one for whoever is new"
    before = {n: owned[n].detach().clone() for n in names}
    model.start_new_subject()
    for n in names:
        torch.testing.assert_close(owned[n][0], before[n][1:].mean(0))
        assert torch.equal(owned[n][1:], before[n][1:])
    # unknown people read that row, and its gradient reaches no other
    batch = batch_of(facts)
    batch.subject = torch.tensor([0, -1, 0, 9])
    model.pool(model(batch)).square().sum().backward()
    touched = {n: owned[n].grad for n in names if owned[n].grad is not None}
    assert any(g[0].abs().max() > 0 for g in touched.values())
    assert all(not g[1:].any() for g in touched.values())


def test_subject_linear_is_each_subjects_own():
    layer = SubjectLinear(n_subjects=3, n_in=4, n_out=2, bias=True).double()
    torch.nn.init.normal_(layer.bias)
    x, rows = torch.randn(6, 5, 4, dtype=torch.float64), torch.tensor([2, 0, 3, 2, 1, 0])
    out = layer(x, rows)
    for i, row in enumerate(rows):
        torch.testing.assert_close(out[i], x[i] @ layer.weight[row].T + layer.bias[row])
    start_from_mean(layer)
    torch.testing.assert_close(layer(x, rows * 0)[0], sum(layer.one(x, r)[0] for r in (1, 2, 3)) / 3)


def test_subject_dropout_teaches_the_average_row():
    facts = facts_of(window=1, rate=1.0)
    for rate, taught in ((0.0, False), (0.7, True)):
        torch.manual_seed(0)
        model = MODELS.build("mindeye", facts, dim=8, subject_dropout=rate)
        model(batch_of(facts, 16)).tokens.square().sum().backward()
        assert bool(model.ridge.weight.grad[0].any()) is taught


def test_low_rank_head_is_a_tenth_of_the_published_one():
    published = 2048 * 257 * 768
    head = build_head("factorised", 2048, (257, 768), rank=16, hidden=0, dropout=0.0)
    assert count(head) < published / 40
    assert head(torch.randn(2, 2048)).shape == (2, 257, 768)


def test_band_powers_find_a_sine():
    rate, t = 250.0, torch.arange(500) / 250.0
    signal = torch.sin(2 * math.pi * 10 * t)[None, None] + 5
    bands = [(4, 7), (8, 12), (13, 30)]
    power = band_powers(signal.double(), rate, bands)[0, 0]
    assert power.argmax() == 1
    assert power[1] - power[0] > 5
    with pytest.raises(ConfigError, match="holds no frequency"):
        MODELS.build("mtam", facts_of(window=32, rate=128.0), bands_hz=[[5, 6]])


def test_state_space_is_the_recurrence():
    """The long convolution equals the discretised state equation, step by step."""
    torch.manual_seed(0)
    layer = S4D(2, n_state=6).double()
    u = torch.randn(1, 2, 20, dtype=torch.float64)
    out = layer(u)
    a = torch.complex(-layer.log_decay.exp(), layer.frequency)
    step = layer.log_step.exp()[:, None]
    transition, drive = (step * a).exp(), ((step * a).exp() - 1) / a
    state = torch.zeros_like(a)
    for s in range(20):
        state = transition * state + drive * u[0, :, s, None]
        y = 2 * (torch.view_as_complex(layer.readout) * state).sum(1).real + layer.skip * u[0, :, s]
        torch.testing.assert_close(out[0, :, s], y)


STREAMS = {
    "fnirs": dict(channels=3, samples=20, pyramid=[4], pooled=4),
    "ppg": dict(channels=2, samples=20, pyramid=[4], pooled=4),
    "motion": dict(channels=2, samples=12, pyramid=[4], pooled=4),
}


def loongx_batch(facts, dropped=()):
    batch, g = batch_of(facts), torch.Generator().manual_seed(3)
    for name, shape in STREAMS.items():
        mask = torch.full((4, 25), name not in dropped)
        batch.streams[name] = StreamValues(torch.randn(4, 25, shape["channels"], generator=g), torch.zeros(4, 25), mask)
    return batch


def test_loongx_uses_every_signal_and_misses_none():
    facts = facts_of()
    torch.manual_seed(0)
    model = MODELS.build(
        "loongx", facts, streams=STREAMS, eeg_samples=64, eeg_pyramid=[4], eeg_pooled=4, state_dim=6, hidden=8, tokens=4,
        width=4, dim=8, gate_hidden=8,
    ).eval()  # fmt: skip
    whole = model(loongx_batch(facts)).tokens
    for name in STREAMS:
        without = model(loongx_batch(facts, dropped=(name,))).tokens
        assert without.isfinite().all()
        assert (without - whole).abs().max() > 1e-4, name
    silent = loongx_batch(facts)
    del silent.streams["ppg"]
    with pytest.raises(DataError, match="no stream 'ppg'"):
        model(silent)
    narrow = loongx_batch(facts)
    narrow.streams["ppg"] = narrow.streams["motion"]._replace(values=torch.zeros(4, 25, 5))
    with pytest.raises(DataError, match="has 5 channels"):
        model(narrow)


def test_loongx_at_its_published_sizes_takes_the_published_shapes():
    name, choices = conf("model", "loongx")
    with torch.device("meta"):
        model = MODELS.build(name, facts_of(4), **choices)
    assert model.eeg.project[0].in_features == 4 * 4096
    assert model.eeg.project[-1].out_features == 512 * 8


def test_windows_of_another_length_get_a_sentence():
    facts = facts_of(window=128, rate=128.0)
    model = MODELS.build("nice", facts)
    with pytest.raises(ConfigError, match="built for windows of 128 samples"):
        model(batch_of(replace(facts, window_s=2.0)))
    with pytest.raises(ConfigError, match="needs the channels' names"):
        MODELS.build("nice", replace(facts, channels=()))


def test_speech_decoder_knows_electrodes_by_name_where_they_have_no_positions():
    facts = Facts(rate_hz=100.0, window_s=0.5, max_channels=3, channels=("a", "b", "c"), subjects=("s",))
    model = MODELS.build("speech_decoder", facts, sensors="names", dim=8, n_layers=2).eval()
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 50, generator=g)
    names = torch.tensor([1, 2, 3]).expand(2, -1)
    there = dict(channel_mask=torch.ones(2, 3, dtype=torch.bool), time_mask=torch.ones(2, 50, dtype=torch.bool))
    batch = NeuralBatch(signal=x, channel_ids=names, rate_hz=100.0, subject=torch.ones(2, dtype=torch.long), **there)
    # electrodes in another order are the same electrodes
    swapped = replace(batch, signal=x[:, [2, 0, 1]], channel_ids=names[:, [2, 0, 1]])
    torch.testing.assert_close(model(batch).tokens, model(swapped).tokens)
    assert model(batch).tokens.shape == (2, 50, 8)
    with pytest.raises(ConfigError, match="unknown sensors 'name': did you mean 'names'"):
        MODELS.build("speech_decoder", facts, sensors="name")
