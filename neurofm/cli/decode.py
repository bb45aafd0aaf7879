"""`neurofm decode checkpoint=… source=…`: a decoder on a recording window by window, as in real time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from neurofm.cli.app import run_app
from neurofm.hub.folder import read_card


def main(argv: list[str]) -> int:
    """Run the verb."""
    return run_app("decode", decode, argv)


def decode(config: dict[str, Any]) -> dict[str, float]:
    """Decode one source, write what was said, and print how late it was."""
    read_card(config["checkpoint"])
    from neurofm.api.decode import write_decoded
    from neurofm.api.pretrained import load

    model = load(config["checkpoint"], device=config["device"], allow_import=config["allow_import"])
    keys = (
        "block_s", "stride_s", "calibration_s", "channel_policy", "recording_id", "modality", "duration_s", "compare",
    )  # fmt: skip
    decoded = model.decode(config["source"], **{k: config[k] for k in keys})
    checkpoint = Path(config["checkpoint"])
    run = checkpoint.parent if checkpoint.name == "model" else checkpoint
    source = str(config["source"])
    name = re.sub(r"[^\w.-]+", "_", source if source.startswith("lsl:") else Path(source).stem)
    about = {"source": source, "checkpoint": model.loaded.card["weights"]["sha256"], **{k: config[k] for k in keys}}
    path = write_decoded(config["out"] or run.with_name(f"{run.name}-decoded") / name, decoded, about=about)
    f = decoded.figures
    print(f"{path}: {len(decoded)} windows of {decoded.window_s:g} s, {len(decoded.classes)} classes")
    print(
        f"  computing: median {f['latency_ms_p50']:.2f} ms, 95 % {f['latency_ms_p95']:.2f} ms, 99 % {f['latency_ms_p99']:.2f} ms, "
        f"at most {f['latency_ms_max']:.2f} ms; {f['decodes_per_s']:.0f} decodes per second"
    )
    print(f"  waiting for blocks and filters: median {f['behind_ms_median']:.1f} ms after a window's end")
    if decoded.gap.get("gap_windows"):
        print(
            f"  against the zero-phase chain on {f['gap_windows']:.0f} windows: same label {100 * f['gap_same_label']:.1f} %, "
            f"probabilities differ by {f['gap_probability_mean']:.3f} on average, {f['gap_probability_max']:.3f} at most"
        )
    for note in decoded.notes:
        print(f"  {note}")
    return f
