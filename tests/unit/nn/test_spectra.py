"""Spectrograms against scipy and against loops written from the papers."""

import numpy as np
import pytest
import torch
from scipy import signal as ss

from neurofm.nn.positions import sincos_table
from neurofm.nn.spans import draw_spans
from neurofm.nn.spectra import count_frames, standardised, stft_magnitude
from neurofm.nn.superlets import Superlets
from neurofm.schema.errors import ConfigError


@pytest.mark.parametrize(
    ("n", "window", "hop"), [(10239, 400, 50), (1000, 49, 6), (333, 16, 4), (100, 15, 15), (30, 32, 7)]
)
def test_stft_is_scipys(n, window, hop):
    x = np.random.default_rng(0).standard_normal((2, n))
    _, _, z = ss.stft(x, nperseg=window, noverlap=window - hop) if n >= window else (0, 0, None)
    ours = stft_magnitude(torch.from_numpy(x), window_samples=window, hop_samples=hop, n_bins=window // 2 + 1)
    assert ours.shape[1] == count_frames(n, window_samples=window, hop_samples=hop)
    if z is not None:
        truth = np.abs(z).swapaxes(1, 2)
        assert ours.shape == truth.shape
        assert np.abs(ours.numpy() - truth).max() <= 1e-10 * truth.max()


def test_published_shapes():
    # 5 s, 3 s and 1 s at 2048 Hz, all samples but the last; ten frames dropped at each end
    frames = [count_frames(s * 2048 - 1, window_samples=400, hop_samples=50) - 20 for s in (5, 3, 1)]
    assert frames == [186, 104, 22]


def test_standardised_bins():
    x = torch.rand(3, 20, 4, dtype=torch.float64)
    x[0, :, 1] = 0.3
    y = standardised(x)
    assert torch.allclose(y.mean(1), torch.zeros(3, 4, dtype=torch.float64), atol=1e-12)
    sd = y.std(1, correction=0)
    assert sd[0, 1] == 0
    assert torch.allclose(sd[1:], torch.ones(2, 4, dtype=torch.float64))


def slow_superlets(x, rate_hz, frequencies, c1, order, hop):
    """Convolve with every wavelet in the time domain, as eq. 1 to 3 of the paper say."""
    out = []
    for f in frequencies:
        o = order[0] + (order[1] - order[0]) * (f - frequencies[0]) / (frequencies[-1] - frequencies[0])
        exponents = [1.0] * int(o) + ([o - int(o)] if o > int(o) else [])
        product = np.ones(len(x))
        for k, e in enumerate(exponents):
            sd = c1 * (k + 1) / (5 * f)
            reach = int(np.ceil(8.6 * sd * rate_hz))
            t = np.arange(-reach, reach + 1) / rate_hz
            wavelet = np.exp(-(t**2) / (2 * sd**2)) / (sd * np.sqrt(2 * np.pi)) * np.exp(2j * np.pi * f * t)
            response = np.convolve(x, wavelet / rate_hz)[reach : reach + len(x)]
            product *= (np.sqrt(2) * np.abs(response)) ** (e / o)
        out.append(product[::hop])
    return np.array(out).T


@pytest.mark.parametrize(("order", "c1", "hop"), [((3, 30), 1.0, 7), ((1, 1), 3.0, 1), ((2, 7.5), 1.5, 13)])
def test_superlets_against_the_loop(order, c1, hop):
    x = np.random.default_rng(1).standard_normal(600)
    # the last is half the rate: its images count
    frequencies = np.linspace(0.7, 256, 7)
    slow = slow_superlets(x, 512.0, frequencies, c1, order, hop)
    make = Superlets(rate_hz=512.0, n_samples=600, frequencies_hz=frequencies, c1=c1, order=order, hop_samples=hop)
    double = make(torch.from_numpy(x)).numpy()
    assert np.abs(double - slow).max() <= 1e-10 * slow.max()
    single = make(torch.from_numpy(x).float()).numpy()
    assert np.abs(single - slow).max() <= 1e-5 * slow.max()


def test_superlets_are_sharper_than_each_of_their_wavelets():
    # two bursts 8 Hz apart in frequency and 150 ms apart in time: short wavelets blur one, long ones the other
    rate, t = 512.0, np.arange(1024) / 512.0
    bursts = [(60.0, 0.9), (68.0, 0.9), (60.0, 1.15)]
    x = sum(np.exp(-(((t - at) / 0.06) ** 2)) * np.sin(2 * np.pi * f * t) for f, at in bursts)
    grid = np.arange(50.0, 81.0)

    def width_hz(order, c1):
        power = Superlets(rate_hz=rate, n_samples=1024, frequencies_hz=grid, c1=c1, order=(order, order))(
            torch.from_numpy(x)
        )
        return float((power[round(1.15 * rate)] > power[round(1.15 * rate)].max() / 2).sum())

    assert width_hz(10, 3.0) < width_hz(1, 3.0)


def test_silence_and_wrong_choices():
    kind = dict(rate_hz=100.0, n_samples=50, frequencies_hz=[5.0, 20.0])
    assert (Superlets(**kind)(torch.zeros(2, 50)) == 0).all()
    with pytest.raises(ConfigError, match="half the rate"):
        Superlets(**{**kind, "frequencies_hz": [60.0]})
    with pytest.raises(ConfigError, match="made for 50 samples"):
        Superlets(**kind)(torch.zeros(51))
    with pytest.raises(ConfigError, match="n_bins"):
        stft_magnitude(torch.zeros(50), window_samples=8, hop_samples=2, n_bins=6)


def test_spans_keep_a_gap_and_their_length():
    g = torch.Generator().manual_seed(0)
    start, length = torch.rand(200, 60, generator=g), torch.rand(200, 60, generator=g)
    span = draw_spans(start, length, probability=0.2, longest=4)
    for r in range(200):
        inside = span[r] >= 0
        for first in span[r][inside].unique().tolist():
            where = (span[r] == first).nonzero().flatten()
            assert where[0] == first
            assert len(where) == min(1 + int(length[r, first] * 4), 60 - first)
            assert torch.equal(where, torch.arange(first, first + len(where)))
            after = first + len(where)
            assert after >= 60 or span[r, after] == -1
    share = (span >= 0).float().mean()
    assert 0.25 < share < 0.4


def test_sincos_table():
    table = sincos_table(7, 10)
    for p in range(7):
        for k in range(5):
            angle = p / 10000 ** (2 * k / 10)
            assert table[p, 2 * k].item() == pytest.approx(np.sin(angle), abs=1e-6)
            assert table[p, 2 * k + 1].item() == pytest.approx(np.cos(angle), abs=1e-6)
