"""Spectra of patches, and R² by band."""

import numpy as np
import pytest
import torch

from neurofm.nn.bands import band_powers, band_r_squared, bands_for
from neurofm.nn.spectrum import Spectrum, bin_weights, masked_deviation, masked_mean, patches_of, spectrum_of


@pytest.mark.parametrize("n", [1, 2, 9, 20, 200])
def test_there_and_back(n):
    x = torch.randn(3, 4, n, dtype=torch.float64)
    spectrum = spectrum_of(x)
    assert torch.allclose(patches_of(spectrum, n), x, rtol=1e-10, atol=1e-12)
    # what stands for nothing changes nothing: length of (sin, cos), imaginary parts that cannot be
    longer = Spectrum(spectrum.amplitude, 0.3 * spectrum.sin, 0.3 * spectrum.cos)
    assert torch.allclose(patches_of(longer, n), x, rtol=1e-10, atol=1e-12)


def test_against_numpy_and_weights_of_the_full_spectrum():
    for n in (9, 20):
        x = np.random.default_rng(0).normal(size=(5, n))
        full = np.fft.fft(x, norm="ortho")
        found = spectrum_of(torch.from_numpy(x))
        assert np.allclose(found.amplitude.numpy(), np.abs(full[:, : n // 2 + 1]))
        phase = np.angle(full[:, : n // 2 + 1])
        assert np.allclose(found.sin.numpy(), np.sin(phase))
        assert np.allclose(found.cos.numpy(), np.cos(phase))
        # a mean over the half spectrum with these weights is the mean over the full one
        half = (found.amplitude.numpy() ** 2 * bin_weights(n).numpy()).mean()
        assert half == pytest.approx((np.abs(full) ** 2).mean())


def test_flat_patches_have_a_phase_and_a_gradient():
    x = torch.zeros(2, 8, requires_grad=True)
    spectrum = spectrum_of(x)
    assert all(part.isfinite().all() for part in spectrum)
    patches_of(spectrum, 8).sum().backward()
    assert x.grad.isfinite().all()


def test_masked_figures():
    values = torch.randn(3, 5, 4, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 0, 0, 1], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
    mean, deviation = masked_deviation(values.masked_fill(~mask[..., None], torch.inf), mask)
    for i in range(3):
        kept = values[i][mask[i]]
        assert float(mean[i]) == pytest.approx(float(kept.mean()))
        assert float(deviation[i]) == pytest.approx(float(kept.std(correction=0)))
    assert float(masked_mean(values, mask)) == pytest.approx(float(values[mask].mean()))
    assert float(masked_mean(values, torch.zeros_like(mask))) == 0


def test_bands():
    assert list(bands_for(200.0)) == ["delta", "theta", "alpha", "beta", "gamma"]
    assert list(bands_for(20.0)) == ["delta", "theta", "alpha"]
    assert bands_for(20.0)["alpha"] == (8.0, 10.0)
    slow = bands_for(1 / 0.72)
    assert len(slow) == 4
    assert next(iter(slow)).startswith("0-0.17")


def test_an_estimate_without_fast_waves_explains_the_slow_ones():
    t = torch.arange(400) / 200.0
    slow, fast = torch.sin(2 * torch.pi * 6 * t), torch.sin(2 * torch.pi * 40 * t)
    truth = (slow + 0.5 * fast + 3).expand(2, 3, -1).clone()
    truth[:, 2] = 1e4
    there = torch.tensor([[True, True, False]] * 2)
    scores = band_r_squared(slow.expand(2, 3, -1), truth, there, rate_hz=200.0)
    assert scores["theta"] > 0.999
    assert abs(scores["gamma"]) < 1e-3
    powers = band_powers(slow.expand(2, 3, -1), truth, there, rate_hz=200.0)
    assert float(powers["theta"][1]) == pytest.approx(4 * float(powers["gamma"][1]), rel=1e-3)
