"""Print held-out R² by band of tokenizers' reconstructions, at 1, 2, 4 … levels, with bits per second and channel.

python scripts/tokenizer_bands.py RUN [RUN …]   # runs of experiment=meg_bands_neurorvq, meg_bands_labram, hcp7_bands_*
"""

from __future__ import annotations

import sys

from neurofm.hub.load import load_model
from neurofm.report.tokenizer import WHOLE, reconstruct

# of EEG and MEG at 100 Hz; slower signals have the four bands of `nn.bands.bands_for`
BANDS_HZ = {"0.5–4": (0.5, 4.0), "4–8": (4.0, 8.0), "8–13": (8.0, 13.0), "13–20": (13.0, 20.0), "20–30": (20.0, 30.0),
            "30–42": (30.0, 42.0)}  # fmt: skip


def main(*runs: str) -> None:
    """One table per list of bands."""
    header: list[str] = []
    for run in runs:
        loaded = load_model(run)
        slow = loaded.facts.rate_hz < 8
        found = reconstruct(loaded, bands_hz=None if slow else BANDS_HZ)
        bands = list(found.power)
        if bands != header:
            header = bands
            print("\n| tokenizer | levels | bits/s | " + " | ".join(bands) + f" | {WHOLE} | perplexity |")
            print("|" + "---|" * (len(bands) + 5))
            print("| share of power | | | " + " | ".join(f"{found.power[b]:.3f}" for b in bands) + " | | |")
        name = loaded.card["model"]["name"]
        for n, r2 in found.r2.items():
            scores = " | ".join(f"{r2[b]:.3f}" for b in [*bands, WHOLE])
            print(
                f"| {name} | {n} | {found.bits_per_s[n]:.0f} | {scores} | {found.perplexity.mean():.0f} |", flush=True
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
