"""Burg's method against closed forms and a plain loop; the warped axis against spectra that are known."""

import numpy as np
import pytest
import torch
from scipy.linalg import solve_toeplitz
from scipy.signal import freqz, lfilter

from neurofm.nn.linear_prediction import all_pass, ar_spectrum, burg, warped_angle
from neurofm.schema.errors import ConfigError

TRUE = np.array([1.0, -1.2, 0.9, -0.3])


def process(n, seed=0):
    return lfilter([1.0], TRUE, 2.0 * np.random.default_rng(seed).standard_normal(n + 500))[500:]


def slow_burg(x, order):
    """The recursion sample by sample (Burg 1975)."""
    f, b, a = list(x), list(x), [1.0]
    for m in range(1, order + 1):
        top = -2 * sum(f[n] * b[n - 1] for n in range(m, len(x)))
        k = top / sum(f[n] ** 2 + b[n - 1] ** 2 for n in range(m, len(x)))
        f, b = (
            [f[n] + k * b[n - 1] if n >= m else 0.0 for n in range(len(x))],
            [b[n - 1] + k * f[n] if n >= m else 0.0 for n in range(len(x))],
        )
        a = [u + k * v for u, v in zip([*a, 0.0], [0.0, *a[::-1]], strict=True)]
    return np.array(a[1:])


def test_burg_is_the_plain_recursion():
    x = process(60)
    ours, _ = burg(torch.from_numpy(x), 5)
    slow = slow_burg(x, 5)
    assert np.abs(ours.numpy() - slow).max() <= 1e-10 * np.abs(slow).max()


def test_burg_finds_a_known_process_and_agrees_with_yule_walker():
    x = process(200_000)
    a, power = burg(torch.from_numpy(x), 3)
    assert np.abs(a.numpy() - TRUE[1:]).max() < 0.01
    assert float(power) == pytest.approx(4.0, rel=0.01)
    r = np.array([x[: len(x) - k] @ x[k:] for k in range(4)])
    assert np.abs(a.numpy() + solve_toeplitz(r[:3], r[1:])).max() < 1e-3


def test_a_sine_is_predicted():
    t = torch.arange(400, dtype=torch.float64)
    a, power = burg(torch.sin(0.3 * t), 2)
    assert a.tolist() == pytest.approx([-2 * np.cos(0.3), 1.0], abs=1e-3)
    assert float(power) < 1e-4


@pytest.mark.parametrize("warp", [0.2, -0.4, 0.7])
def test_all_pass_is_the_recursive_filter(warp):
    x = np.random.default_rng(0).standard_normal((2, 300))
    truth = lfilter([-warp, 1.0], [1.0, -warp], x)
    assert np.abs(all_pass(torch.from_numpy(x), warp).numpy() - truth).max() <= 1e-10 * np.abs(truth).max()
    w, h = freqz([-warp, 1.0], [1.0, -warp], worN=50)
    phase = -np.unwrap(np.angle(h))
    assert np.abs(warped_angle(torch.from_numpy(w), warp).numpy() - phase).max() < 1e-9


def test_plain_spectrum_is_the_filters():
    n = 128
    s = ar_spectrum(torch.from_numpy(TRUE[1:]), torch.tensor(4.0, dtype=torch.float64), n).numpy()
    _, h = freqz([2.0], TRUE, worN=2 * np.pi * np.arange(n // 2 + 1) / n)
    assert np.abs(s - np.abs(h) ** 2).max() <= 1e-10 * s.max()


@pytest.mark.parametrize("warp", [0.0, 0.2, -0.3, 0.6])
def test_warped_models_have_the_right_spectrum(warp):
    x = process(100_000, seed=3)
    a, power = burg(torch.from_numpy(x), 24, warp=warp)
    fitted = ar_spectrum(a, power, 256, warp=warp).numpy()
    _, h = freqz([2.0], TRUE, worN=2 * np.pi * np.arange(129) / 256)
    assert np.abs(np.log(fitted / np.abs(h) ** 2)).max() < 0.25


def test_warping_spends_the_order_on_low_frequencies():
    # two lines close together near zero: order 4 tells them apart only on the warped axis
    rng = np.random.default_rng(0)
    t = np.arange(20_000)
    x = torch.from_numpy(np.sin(0.10 * t) + np.sin(0.25 * t) + 0.05 * rng.standard_normal(len(t)))

    def lines(warp):
        a, power = burg(x, 4, warp=warp)
        s = ar_spectrum(a, power, 2000, warp=warp).numpy()
        peaks = np.flatnonzero((s[1:-1] > s[:-2]) & (s[1:-1] > s[2:])) + 1
        return [w for w in 2 * np.pi * peaks / 2000 if w < 0.5]

    assert len(lines(0.0)) == 1
    assert lines(0.7) == pytest.approx([0.10, 0.25], abs=0.02)


def test_silence_and_wrong_choices():
    a, power = burg(torch.zeros(3, 20), 4)
    assert (a == 0).all()
    assert (power == 0).all()
    with pytest.raises(ConfigError, match="below the samples"):
        burg(torch.zeros(8), 8)
    with pytest.raises(ConfigError, match="warp"):
        burg(torch.zeros(8), 2, warp=1.0)
