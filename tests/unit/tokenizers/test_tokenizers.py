import numpy as np
import pytest
import pywt
import torch

from neurofm.schema.errors import ConfigError
from neurofm.tokenizers import TOKENIZERS


@pytest.mark.parametrize("name", TOKENIZERS.names())
def test_every_tokenizer_maps_each_patch_of_each_channel_alone(name):
    torch.manual_seed(0)
    tokenizer = TOKENIZERS.build(name, 12, patch_samples=30)
    signal = torch.randn(2, 3, 120)
    tokens, features = tokenizer(signal), tokenizer.patch_features(signal)
    assert tokens.shape == (2, 4, 3, 12)
    assert features.shape == (2, 4, 3, tokenizer.n_features)
    assert tokenizer.patch_samples == 30
    alone = tokenizer(signal[1:, 2:, 60:90])
    assert torch.allclose(tokens[1, 2, 2], alone[0, 0, 0], atol=1e-6)
    tokens.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in tokenizer.parameters())


@pytest.mark.parametrize("name", TOKENIZERS.names())
def test_padding_stays_finite(name):
    tokenizer = TOKENIZERS.build(name, 4, patch_samples=16)
    tokens = tokenizer(torch.zeros(1, 2, 32))
    tokens.sum().backward()
    assert tokens.isfinite().all()
    assert all(p.grad.isfinite().all() for p in tokenizer.parameters())


@pytest.mark.parametrize("name", TOKENIZERS.names())
def test_a_window_that_is_no_multiple_of_the_patch_names_both_numbers(name):
    tokenizer = TOKENIZERS.build(name, 4, patch_samples=30)
    with pytest.raises(
        ConfigError, match=r"window of 100 samples is not a multiple of the patch of 30 samples.*90 or 120"
    ):
        tokenizer(torch.zeros(1, 2, 100))
    with pytest.raises(ConfigError, match="window of 30 samples"):
        tokenizer(torch.zeros(1, 2, 10))


def test_linear_patch_is_a_linear_map_of_raw_samples():
    tokenizer = TOKENIZERS.build("linear_patch", 5, patch_samples=4)
    signal = torch.randn(1, 2, 8)
    expected = signal[0, 1, 4:8] @ tokenizer.embed.weight.T + tokenizer.embed.bias
    assert torch.allclose(tokenizer(signal)[0, 1, 1], expected, atol=1e-6)
    assert torch.equal(tokenizer.patch_features(signal)[0, 1, 1], signal[0, 1, 4:8])


def test_normalised_patches_forget_gain_and_offset():
    tokenizer = TOKENIZERS.build("linear_patch", 5, patch_samples=8, normalise=True)
    signal = torch.randn(1, 2, 16)
    assert torch.allclose(tokenizer(signal), tokenizer(signal * 1e-6), atol=1e-5)
    assert torch.allclose(tokenizer(signal), tokenizer(3 * signal + 7), atol=1e-5)


def test_wavelet_is_the_published_encoder():
    tokenizer = TOKENIZERS.build("wavelet", 6, patch_samples=64).double()
    torch.nn.init.uniform_(tokenizer.norm.weight)
    signal = torch.randn(1, 2, 128, dtype=torch.float64)
    patch = signal[0, 1, 64:].numpy()
    coefficients = np.concatenate(pywt.wavedec(patch, "db4", mode="periodic"))
    normed = coefficients / np.sqrt(np.mean(coefficients**2) + 1e-5) * tokenizer.norm.weight.detach().numpy()
    expected = tokenizer.embed.weight.detach().numpy() @ normed
    assert np.abs(tokenizer(signal)[0, 1, 1].detach().numpy() - expected).max() < 1e-10 * np.abs(expected).max()
    assert list(tokenizer.state_dict()) == ["norm.weight", "embed.weight"]


def test_published_size():
    assert TOKENIZERS.build("wavelet", 8, patch_samples=2560).n_features == 2610


def test_log_spectrum_is_scipys_periodogram_in_bands():
    from scipy.signal import periodogram

    rate, patch = 128.0, 256
    x = np.random.default_rng(0).standard_normal((1, 2, 3 * patch)) * 3
    x[0, 1] += 20 * np.sin(2 * np.pi * 10 * np.arange(3 * patch) / rate)
    tokenizer = TOKENIZERS.build("log_spectrum", 4, patch_samples=patch, n_bands=12, floor=1e-12)
    ours = tokenizer.double().patch_features(torch.from_numpy(x)).numpy()
    _, density = periodogram(x.reshape(2, 3, patch), fs=rate, window="hann", detrend="constant")
    # a one-sided density over half the rate, brought to 1 for white noise of variance 1
    power = density[..., 1:] * rate / 2
    sizes = [int((w > 0).sum()) for w in tokenizer.mean_in_band.T]
    assert sum(sizes) == patch // 2
    stops = np.cumsum(sizes)
    for k, (a, b) in enumerate(zip(stops - sizes, stops, strict=True)):
        weight = np.where(np.arange(a, b) == patch // 2 - 1, 1.0, 2.0)
        mean = (power[..., a:b] * np.where(weight == 1.0, 2.0, 1.0) * weight).sum(-1) / weight.sum()
        assert np.allclose(ours[0, :, :, k].T, np.log(mean), atol=1e-9)
    loudest = int(ours[0, :, 1].mean(0).argmax())
    assert stops[loudest] - sizes[loudest] <= 19 < stops[loudest]  # bin 20 of 0.5 Hz is 10 Hz


def test_standardised_log_power_of_white_noise_has_mean_0_and_deviation_1():
    tokenizer = TOKENIZERS.build("log_spectrum", 4, patch_samples=64, n_bands=6, standardise=True)
    signal = torch.randn(200, 2, 256, generator=torch.Generator().manual_seed(0))
    values = tokenizer.patch_features(signal).flatten(0, 2)
    # neighbouring frequencies of a tapered patch are not independent, so wide bands vary a little more
    assert values.mean(0).abs().max() < 0.15
    assert (values.std(0) - 1).abs().max() < 0.5
