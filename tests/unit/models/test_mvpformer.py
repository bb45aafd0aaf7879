from dataclasses import replace

import pytest
import torch
from torch import nn

from neurofm.models import MODELS
from neurofm.models.mvpformer import MVPFormer
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.facts import Facts

FACTS = Facts(rate_hz=100.0, window_s=0.8, max_channels=5, channels=("a", "b", "c"))
SMALL = dict(patch_samples=10, dim=16, n_layers=2, n_heads=4, n_kv_heads=2, dropout=0.0)


def make_batch(n_valid=(5, 3), n_samples=80, seed=0) -> NeuralBatch:
    C = max(n_valid)
    mask = torch.arange(C) < torch.tensor(n_valid)[:, None]
    signal = torch.randn(len(n_valid), C, n_samples, generator=torch.Generator().manual_seed(seed))
    return NeuralBatch(
        signal=signal * mask[..., None],
        channel_mask=mask,
        time_mask=torch.ones(len(n_valid), n_samples, dtype=torch.bool),
        rate_hz=100.0,
        channel_ids=torch.arange(C).clamp(max=3).expand(len(n_valid), -1) * mask,
    )


def count(D: int, layers: int, K: int, d: int, inner: int, features: int) -> int:
    """Parameters of MVPFormer and a bias-free two-class head, from the paper's shapes."""
    attention = 2 * D * D + 4 * K * d * D + 3 * K * d  # query and out; keys, values, time, channel; biases
    block = attention + 3 * D * inner + D
    encoder = features + features * D
    return layers * block + encoder + (110 + 128) * D + D + 2 * D


@pytest.mark.parametrize(
    ("published", "choices"),
    [
        (73_596_210, dict(dim=768, n_layers=12, n_heads=12, n_kv_heads=4, ffn_dim=1728)),
        (1_239_146_546, dict(dim=2048, n_layers=24, n_heads=16, n_kv_heads=8, ffn_dim=5632)),
    ],
)
def test_published_sizes_match_to_the_parameter(published, choices):
    """The released checkpoints hold two things that are never used: a second norm per block and three
    "seizure embeddings" of one raw segment each. With these added, the counts are the published ones."""
    facts = Facts(rate_hz=512.0, window_s=125.0, max_channels=128)
    with torch.device("meta"):
        model = MVPFormer(facts, tokenizer="wavelet", patch_s=5.0, n_positions=110, n_channels=128, **choices)
        head = nn.Linear(model.dim, 2, bias=False)
    ours = sum(p.numel() for module in (model, head) for p in module.parameters())
    D, layers, K = choices["dim"], choices["n_layers"], choices["n_kv_heads"]
    assert ours == count(D, layers, K, D // choices["n_heads"], choices["ffn_dim"], 2610)
    unused_norms, seizure_embeddings = layers * D, 3 * 2560
    assert ours + unused_norms + seizure_embeddings == published
    assert model.n_segments == 25


def test_block_is_a_parallel_residual_with_one_norm():
    model = MVPFormer(FACTS, **SMALL).eval()
    block, batch = model.blocks[0], make_batch()
    x = torch.randn(2, 8, 5, 16)
    tables = model.time_table.weight, model.channel_table.weight, batch.channel_mask
    h = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * block.norm.weight
    expected = x + block.feedforward(h) + block.attention(h, *tables)
    assert torch.allclose(block(x, *tables), expected, atol=1e-6)


def test_tokens_are_segment_major_with_the_channel_fastest():
    model, batch = MVPFormer(FACTS, **SMALL).eval(), make_batch()
    encoded = model(batch)
    assert encoded.tokens.shape == (2, 40, 16)
    assert encoded.channel[0].tolist() == [0, 1, 2, 3, 4] * 8
    assert torch.allclose(encoded.time_s[1, :10], torch.tensor([0.05] * 5 + [0.15] * 5))
    assert encoded.mask[1].view(8, 5).tolist() == [[True, True, True, False, False]] * 8
    x = model.embed_tokens(batch)
    for block in model.blocks:
        x = block(x, model.time_table.weight, model.channel_table.weight, batch.channel_mask)
    assert torch.allclose(encoded.tokens.view(2, 8, 5, 16), model.norm(x))


def test_causal_models_do_not_see_the_future_and_others_do():
    batch = make_batch()
    later = batch.with_signal(torch.cat([batch.signal[..., :50], batch.signal[..., 50:] * -1], dim=-1))
    for causal in (True, False):
        model = MVPFormer(FACTS, causal=causal, **SMALL).eval()
        change = (model(batch).tokens - model(later).tokens).view(2, 8, 5, 16)[0, :5].abs().max()
        assert (change < 1e-6) == causal


def test_pooling():
    model, batch = MVPFormer(FACTS, **SMALL).eval(), make_batch()
    encoded = model(batch)
    grid = encoded.tokens.view(2, 8, 5, 16)
    assert torch.allclose(model.pool(encoded)[1], grid[1, -1, :3].mean(0), atol=1e-6)
    mean = MVPFormer(FACTS, causal=False, **SMALL).pool(encoded)
    assert torch.allclose(mean[1], grid[1, :, :3].mean((0, 1)), atol=1e-6)
    assert torch.allclose(MVPFormer(FACTS, pooling="mean", **SMALL).pool(encoded), mean)


def test_hidden_tokens_do_not_reach_the_output():
    model = MVPFormer(FACTS, mask_token=True, causal=False, **SMALL).eval()
    batch = make_batch()
    hidden = torch.zeros(2, 8, 5, dtype=torch.bool)
    hidden[0, 3, 2] = hidden[1, 0, 1] = True
    other = batch.signal.clone()
    other[0, 2, 30:40] = 100.0
    other[1, 1, :10] = -100.0
    masked = model.encode(batch, hidden)
    assert torch.equal(masked.tokens, model.encode(batch.with_signal(other), hidden).tokens)
    assert torch.equal(masked.tokens, model.encode(batch, hidden, tokens=model.embed_tokens(batch)).tokens)
    assert not torch.equal(masked.tokens, model(batch).tokens)
    masked.tokens.sum().backward()
    assert model.mask_token.grad.abs().max() > 0
    with pytest.raises(ConfigError, match="mask_token=true"):
        MVPFormer(FACTS, **SMALL).encode(batch, hidden)


def test_channel_embedding_goes_by_name():
    model, batch = MVPFormer(FACTS, channel_embedding=True, **SMALL).eval(), make_batch()
    assert model.channel_embedding.weight.shape == (4, 16)
    assert model.subject_parameters() == ["channel_embedding.weight"]
    assert dict(model.named_parameters()).keys() >= set(model.subject_parameters())
    before = model(batch).tokens
    renamed = replace(batch, channel_ids=torch.zeros_like(batch.channel_ids))
    assert not torch.allclose(before, model(renamed).tokens)
    with pytest.raises(DataError, match="channel_ids"):
        model(replace(batch, channel_ids=None))
    assert MVPFormer(FACTS, **SMALL).subject_parameters() == []


def test_other_window_lengths_and_channel_counts_up_to_the_tables():
    model = MVPFormer(FACTS, n_positions=12, n_channels=7, **SMALL).eval()
    assert model(make_batch((7,), 120)).tokens.shape == (1, 84, 16)
    with pytest.raises(ConfigError, match="n_channels of at least 8"):
        model(make_batch((8,)))
    with pytest.raises(ConfigError, match="n_positions of at least 13"):
        model(make_batch((2,), 130))


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (dict(patch_samples=None), "either patch_s"),
        (dict(patch_s=0.1), "either patch_s"),
        (dict(patch_samples=None, patch_s=0.001), "less than one sample at 100 Hz"),
        (dict(patch_samples=0), "patch_samples=0"),
        (dict(patch_samples=30), "window of 80 samples is not a multiple of the patch of 30"),
        (dict(n_positions=7), "n_positions=7 is too few for 8 segments"),
        (dict(n_channels=4), "n_channels=4 is too few for 5 channels"),
        (dict(pooling="lst"), "did you mean 'last'"),
        (dict(tokenizer="wavlet"), "did you mean 'wavelet'"),
        (dict(tokenizer_choices={"normalize": True}), "did you mean 'normalise'"),
        (dict(dims=3), "no argument 'dims'"),
    ],
)
def test_wrong_choices_are_refused_in_a_sentence(choices, message):
    with pytest.raises(ConfigError, match=message):
        MODELS.build("mvpformer", FACTS, **{**SMALL, **choices})


def test_missing_samples_are_refused():
    batch = make_batch()
    batch.time_mask[0, -1] = False
    with pytest.raises(DataError, match="time_mask"):
        MVPFormer(FACTS, **SMALL)(batch)


def test_seconds_and_samples_mean_the_same():
    del_samples = {k: v for k, v in SMALL.items() if k != "patch_samples"}
    assert MVPFormer(FACTS, patch_s=0.1, **del_samples).patch_samples == 10


def test_initial_values_are_the_published_ones():
    model = MVPFormer(FACTS, **{**SMALL, "dim": 128})
    for name, parameter in model.named_parameters():
        if "norm" in name:
            assert (parameter == 1).all()
        elif name.endswith("embed.bias"):
            assert (parameter == 0).all()
        else:
            assert abs(float(parameter.detach().std()) / 0.02 - 1) < 0.25
