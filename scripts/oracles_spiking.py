"""What the truth and simple methods score on the simulated populations, beside the figures of the reference.

Run before any model is scored on them: ``python scripts/oracles_spiking.py [name …] [--write]``. A minute of CPU for all.
Every figure is of the sources' default choices. `--write` makes docs/measurements/spiking_oracles.md.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_prep.sources import SOURCES, sim_switching
from data_prep.sources.sim_calcium import FINE_S, kernel
from data_prep.sources.sim_hub import SimHub, connectivity, run
from neurofm.analysis.switching_glm import align_states, most_likely_states, posterior_states
from neurofm.benchmarks.baselines.correlogram import connectivity as correlogram
from neurofm.benchmarks.baselines.correlogram import score_connectivity
from neurofm.benchmarks.baselines.poisson_glm import CoupledGlm, PoissonGlm
from neurofm.benchmarks.baselines.smoothing import exponential, gaussian
from neurofm.benchmarks.baselines.wiener import WienerFilter
from neurofm.benchmarks.population.metrics import bits_per_spike, r2_weighted
from neurofm.data.storage.events import bin_counts
from neurofm.schema.recording import EventStream, Recording, Stream

Line = tuple[str, float, str]


def of(name: str, **choices: object) -> dict[str, Recording]:
    """Return the recordings of a source by their key."""
    return {item.key: item.load() for item in SOURCES.build(name, **choices).list()}


def binned(recording: Recording, bin_s: float) -> list[np.ndarray]:
    """Return counts of every valid interval, (bin, unit)."""
    spikes = recording.first
    assert isinstance(spikes, EventStream)
    out = []
    for i, duration_s in enumerate(spikes.duration_s):
        time_s, unit = spikes.read(i, 0.0, duration_s)
        n = int(duration_s / bin_s + 1e-6)
        out.append(bin_counts(time_s, unit, start_s=0.0, n_bins=n, bin_s=bin_s, n_units=len(spikes.channels)))
    return out


def beside(recording: Recording, name: str) -> list[np.ndarray]:
    """Return another stream of every valid interval."""
    (stream,) = [s for s in recording.streams if s.name == name]
    assert isinstance(stream, Stream)
    return [stream.read(i, 0, n) for i, n in enumerate(stream.n_samples)]


def oracle(recording: Recording, bin_s: float, first: int = 0) -> float:
    """Bits per spike of the true rates, of units from `first` on."""
    rates = np.concatenate(beside(recording, "true_rates")) * bin_s
    return bits_per_spike(rates[:, first:], np.concatenate(binned(recording, bin_s))[:, first:])


def lorenz() -> Iterator[Line]:
    """Known rates; held-out units from the others."""
    found = of("sim_lorenz")
    train, test = found["sub-01_train"], found["sub-01_test"]
    yield "mean rate, Hz", float(np.concatenate(binned(test, 0.01)).mean() * 100), "6.7"
    yield "oracle, all units, bits/spike", oracle(test, 0.01), ".410"
    yield "oracle, 8 held-out units, bits/spike", oracle(test, 0.01, 22), ".441"

    def features(r: Recording) -> np.ndarray:
        return np.log(np.concatenate([gaussian(c[:, :22], sd_bins=5) for c in binned(r, 0.01)]) + 1e-4)

    glm = PoissonGlm(alpha=0.01).fit(features(train), np.concatenate(binned(train, 0.01))[:, 22:])
    said = glm.predict(features(test))
    yield (
        "smoothing 50 ms + GLM, held-out, bits/spike",
        bits_per_spike(said, np.concatenate(binned(test, 0.01))[:, 22:]),
        ".335",
    )


def rnn() -> Iterator[Line]:
    """Known rates of a chaotic network."""
    whole = of("sim_rnn", n_sessions=1, n_units=50)["sub-01_test"]
    yield "mean rate, Hz", float(np.concatenate(binned(whole, 0.01)).mean() * 100), "15.0"
    yield "oracle, all 50 cells, bits/spike", oracle(whole, 0.01), ".416"
    seen = of("sim_rnn", n_sessions=1)["sub-01_test"]
    yield "oracle, first session's 30 units, bits/spike", oracle(seen, 0.01), ""
    yield "oracle, its 6 held-out units, bits/spike", oracle(seen, 0.01, 24), ""


def hub() -> Iterator[Line]:
    """Directed connections from correlograms and a coupled GLM."""
    for gain, rate, area, precision in ((0.0, "8.9", ".979", ".941"), (3.0, "11.5", ".961", ".888")):
        choices = SimHub(stimulus_gain=gain).choices
        time_s, unit, _ = run(choices)
        weights, n = connectivity(choices), choices["n_units"]
        words = "with" if gain else "without"
        yield f"mean rate {words} stimulus, Hz", len(time_s) / n / choices["duration_s"], rate
        fine = bin_counts(time_s, unit, start_s=0, n_bins=round(choices["duration_s"] * 1000), bin_s=0.001, n_units=n)
        scores = score_connectivity(correlogram(fine), weights)
        yield f"correlogram {words} stimulus, AUROC", scores["auroc"], area
        yield f"correlogram {words} stimulus, AP", scores["ap"], precision
        if gain:
            yield "correlogram, excitatory, AUROC", scores["auroc_excitatory"], ".975"
            yield "correlogram, inhibitory, AUROC", scores["auroc_inhibitory"], "1.0"
            coarse = fine.reshape(-1, 4, n).sum(1)
            # 16 ms: conduction and the rise of the potential; the slow filter takes what the stimulus drives in common
            glm = CoupledGlm(taus_bins=(1.0, 25.0), delay_bins=4).fit([coarse])
            scores = score_connectivity(glm.couplings(0), weights)
            yield "coupled GLM at 4 ms with stimulus, AUROC", scores["auroc"], ""
            yield "coupled GLM at 4 ms with stimulus, AP", scores["ap"], ""
        p = np.bincount(unit, minlength=n) / len(unit)
        yield f"unigram entropy of cells {words} stimulus, nats", float(-(p * np.log(p)).sum()), "4.070"


def velocity() -> Iterator[Line]:
    """Linear decoding of the last fifth."""
    for n_units, ridge, slow in ((20, ".842", ".771"), (60, ".935", ".824"), (120, ".960", ".829")):
        wide, causal, now = [], [], []
        for r in of("sim_velocity", n_units=n_units).values():
            (x,), v, rate = binned(r, 0.02), beside(r, "velocity")[0][::2], beside(r, "true_rates")[0][::2]
            k = len(x) * 4 // 5
            for scores, features, n_taps in (
                (wide, x, 15), (causal, exponential(x, tau_bins=12), 1), (now, np.log(rate), 1),
            ):  # fmt: skip
                fitted = WienerFilter(n_taps=n_taps).fit([features[:k]], [v[:k]])
                scores.append(r2_weighted(v[k:], fitted.predict(features)[k:]))
        yield f"ridge, 15 taps of 20 ms, {n_units} units, R²", float(np.mean(wide)), ridge
        yield f"exponential 240 ms, {n_units} units, R²", float(np.mean(causal)), slow
        if n_units == 60:
            yield "true log-rate of the same bin, 60 units, R²", float(np.mean(now)), ".878"


def switching() -> Iterator[Line]:
    """Known states and couplings."""
    choices = SOURCES.build("sim_switching").choices
    made, truth = sim_switching.run(choices), sim_switching.parameters(choices)
    yield "mean count per bin", float(made["counts"].mean()), ".476"
    yield "oracle with true states and couplings, bits/spike", bits_per_spike(made["rates"], made["counts"]), ".143"
    test = made["counts"][30:]
    posterior = posterior_states(
        test, bias=truth["bias"], weights=truth["weights"], transition=truth["transition"], basis=sim_switching.basis()
    )
    yield (
        "forward–backward with true parameters, accuracy",
        float((posterior.argmax(-1) == made["state"][30:]).mean()),
        ".978",
    )
    path = most_likely_states(
        test, bias=truth["bias"], weights=truth["weights"], transition=truth["transition"], basis=sim_switching.basis()
    )
    yield "Viterbi with true parameters, accuracy", float((path == made["state"][30:]).mean()), ""
    guess = np.random.default_rng(0).integers(5, size=path.shape)
    yield "guess, accuracy after alignment", align_states(made["state"][30:], guess, n_states=5)[1], ".20"


def multimodal() -> Iterator[Line]:
    """Known rates."""
    test = of("sim_multimodal", side=8)["sub-01_test"]
    counts = np.concatenate(binned(test, 0.05))
    yield "mean count per bin", float(counts.mean()), "1.50"
    yield "share of empty bins", float((counts == 0).mean()), ".37"
    yield "oracle, bits/spike", oracle(test, 0.05), ".552"


def latent_labels() -> Iterator[Line]:
    """Known rates, and how much of the latent a straight line finds."""
    r = of("sim_latent_labels")["sub-01"]
    (counts,), (z,) = binned(r, 0.1), beside(r, "true_latent")
    yield "oracle, bits/spike", oracle(r, 0.1), ".075"
    k = len(z) * 4 // 5
    x = np.log1p(counts)
    fitted = WienerFilter(n_taps=1).fit([x[:k]], [z[:k]])
    yield "latent from log(1 + counts), linear R²", r2_weighted(z[k:], fitted.predict(x)[k:]), ".839"


def calcium() -> Iterator[Line]:
    """How much of a trace its own spikes explain, through the true kernel."""
    choices = SOURCES.build("sim_calcium").choices
    r = of("sim_calcium", n_subjects=1)["sub-01"]
    trace = r.signal.read(0, 0, r.signal.n_samples[0])
    spikes = next(s for s in r.streams if s.name == "true_spikes")
    assert isinstance(spikes, EventStream)
    time_s, unit = spikes.read(0, 0.0, spikes.duration_s[0])
    n = round(choices["duration_s"] / FINE_S)
    fine = bin_counts(time_s, unit, start_s=0.0, n_bins=n, bin_s=FINE_S, n_units=trace.shape[1])
    frame = np.minimum((np.arange(len(trace)) / choices["rate_hz"] / FINE_S + 1e-6).astype(int), n - 1)
    clean = np.stack([np.convolve(c, kernel(choices["indicator"]))[:n] for c in fine.T], axis=1)[frame]
    r2 = [np.corrcoef(a, b)[0, 1] ** 2 for a, b in zip(clean.T, trace.T, strict=True)]
    yield "true spikes through the true kernel, R² of traces", float(np.mean(r2)), ""


ALL = {
    "sim_lorenz": lorenz, "sim_rnn": rnn, "sim_hub": hub, "sim_velocity": velocity, "sim_switching": switching,
    "sim_multimodal": multimodal, "sim_latent_labels": latent_labels, "sim_calcium": calcium,
}  # fmt: skip


def main(arguments: list[str]) -> None:
    """Print the table; write it when asked."""
    names = [a for a in arguments if not a.startswith("--")] or list(ALL)
    lines = ["| source | figure | here | reference |", "| --- | --- | --- | --- |"]
    for name in names:
        began = time.monotonic()
        for what, value, reference in ALL[name]():
            lines.append(f"| {name} | {what} | {value:.3f} | {reference} |")
            print(f"{name:<18} {what:<58} {value:7.3f}   {reference}", flush=True)
        print(f"{name:<18} {time.monotonic() - began:.0f} s", flush=True)
    if "--write" in arguments:
        page = Path(__file__).parents[1] / "docs/measurements/spiking_oracles.md"
        head = (
            "# Oracles and baselines on simulated populations\n\nPrinted by `python scripts/oracles_spiking.py --write`, "
            "committed before any model was scored on these sources. The last column is the figure that was aimed at.\n\n"
        )
        page.write_text(head + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
