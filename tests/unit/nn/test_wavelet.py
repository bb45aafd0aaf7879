"""The transform against PyWavelets."""

import numpy as np
import pytest
import pywt
import torch

from neurofm.nn.wavelet import coefficient_lengths, filter_bank, max_level, wavelet_transform


def transform(signal: np.ndarray, wavelet: str, dtype: torch.dtype = torch.float64) -> np.ndarray:
    return wavelet_transform(torch.tensor(signal, dtype=dtype), *filter_bank(wavelet)).numpy()


@pytest.mark.parametrize("wavelet", ["db4", "haar", "db2", "sym5"])
@pytest.mark.parametrize("n", [1, 2, 6, 7, 8, 13, 14, 15, 27, 28, 56, 99, 112, 250, 511, 512, 1000, 2560])
def test_matches_pywavelets(wavelet, n):
    signal = np.random.default_rng(n).standard_normal((2, n))
    expected = pywt.wavedec(signal, wavelet, mode="periodic", level=pywt.dwt_max_level(n, pywt.Wavelet(wavelet)))
    ours = transform(signal, wavelet)
    expected_flat = np.concatenate(expected, axis=-1)
    assert ours.shape == expected_flat.shape
    assert np.abs(ours - expected_flat).max() <= 1e-10 * np.abs(expected_flat).max()
    assert coefficient_lengths(n, pywt.Wavelet(wavelet).dec_len) == [len(c[0]) for c in expected]


def test_float32_within_tolerance():
    signal = np.random.default_rng(0).standard_normal((3, 4, 500))
    exact = transform(signal, "db4")
    assert np.abs(transform(signal, "db4", torch.float32) - exact).max() <= 1e-5 * np.abs(exact).max()


def test_levels_are_those_of_pywavelets_at_every_length():
    for n_taps in (2, 4, 8, 10):
        assert [max_level(n, n_taps) for n in range(1, 3000)] == [pywt.dwt_max_level(n, n_taps) for n in range(1, 3000)]


def test_published_length():
    assert coefficient_lengths(2560, 8) == [16, 16, 26, 46, 86, 166, 326, 645, 1283]


def test_no_gradient():
    assert not wavelet_transform(torch.randn(50, requires_grad=True), *filter_bank("db4")).requires_grad


def test_mixed_precision_does_not_round_it():
    signal = torch.randn(4, 100)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = wavelet_transform(signal, *filter_bank("db4"))
    assert torch.equal(mixed, wavelet_transform(signal, *filter_bank("db4")))
    assert wavelet_transform(signal.bfloat16(), *filter_bank("db4")).dtype == torch.bfloat16
