"""Decoding a recording as if it came in now: answers, how late they are, and what causality costs."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurofm.api.live import Answer, LiveDecoder
from neurofm.api.pretrained import Pretrained
from neurofm.schema.errors import DataError
from neurofm.schema.hashing import write_json

if TYPE_CHECKING:
    from data_prep.live import Block
    from neurofm.schema.recording import Recording

PERCENTILES = (50, 95, 99, 100)


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What `decode` returns; `numpy.asarray` of it is `probabilities`.

    Attributes
    ----------
    probabilities : ndarray, shape (window, class), float32
    classes : tuple of str
    start_s, interval : ndarray, shape (window,)
        Of each window, on the source's clock.
    window_s : float
        Length of a window.
    behind_s : ndarray, shape (window,)
        Signal that had arrived after the window's end when it was answered.
    compute_s : ndarray, shape (window,)
        From the arrival of the block to the answer.
    gap : dict of str to float
        What the causal chain changes against the zero-phase one on the same windows; empty where not compared.
    notes : tuple of str
    """

    probabilities: np.ndarray = field(repr=False)
    classes: tuple[str, ...]
    start_s: np.ndarray = field(repr=False)
    interval: np.ndarray = field(repr=False)
    window_s: float
    behind_s: np.ndarray = field(repr=False)
    compute_s: np.ndarray = field(repr=False)
    gap: dict[str, float]
    notes: tuple[str, ...]

    @property
    def labels(self) -> list[str]:
        """The likeliest class of each window."""
        return [self.classes[i] for i in self.probabilities.argmax(axis=1)]

    @property
    def figures(self) -> dict[str, float]:
        """Latency percentiles in milliseconds, decodes per second of computing, and the gap."""
        latency = {
            f"latency_ms_{'max' if q == 100 else f'p{q}'}": float(np.percentile(self.compute_s, q) * 1e3)
            for q in PERCENTILES
        }
        total = float(self.compute_s.sum())
        return {
            "n_windows": float(len(self)), **latency, "decodes_per_s": len(self) / total if total else float("nan"),
            "behind_ms_median": float(np.median(self.behind_s) * 1e3), **self.gap,
        }  # fmt: skip

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.probabilities, dtype=dtype, copy=copy)

    def __len__(self) -> int:
        return len(self.probabilities)


def decode(
    pretrained: Pretrained,
    source: Any,
    *,
    block_s: float = 0.05,
    stride_s: float | None = None,
    calibration_s: float | None = None,
    channel_policy: str = "error",
    recording_id: str | None = None,
    modality: str | None = None,
    duration_s: float | None = None,
    compare: bool = True,
    **given: Any,
) -> Decoded:
    """Run a decoder window by window over a recording, or a live stream.

    Parameters
    ----------
    pretrained : Pretrained
        A classifier, made by `neurofm.load`.
    source
        What `Pretrained.embed` takes, or ``lsl:NAME``, a stream of the lab streaming layer.
    block_s : float
        What arrives at once.
    stride_s : float, optional
        Between two answers; default the window's length.
    calibration_s, channel_policy, recording_id
        As in `LiveDecoder`.
    modality, **given
        As in `Pretrained.embed`: rate_hz, channel_names, unit.
    duration_s : float, optional
        Stop after so much signal; a stream of a device has no other end.
    compare : bool
        Also run the chain that the training data went through over the whole recording, and report the gap.

    Raises
    ------
    ConfigError, DataError
        When something is missing, does not fit, or no window was complete.
    """
    from data_prep.live import replay
    from data_prep.live_lsl import PREFIX, lsl_blocks
    from data_prep.stages.base import SignalInfo

    how = {"stride_s": stride_s, "calibration_s": calibration_s, "channel_policy": channel_policy}
    prep = pretrained.loaded.card["prep"].get("source", {})
    recording: Recording | None = None
    blocks: Iterable[Block]
    if isinstance(source, str) and source.startswith(PREFIX):
        name = source.removeprefix(PREFIX)
        info, blocks = lsl_blocks(name, block_s=block_s, modality=modality or prep.get("modality") or "eeg")
        decoder = LiveDecoder(pretrained, info, recording_id=recording_id, **how)  # type: ignore[arg-type]
    else:
        recording = pretrained.recording_of(source, modality=modality, **given)
        info = SignalInfo(rate_hz=recording.signal.rate_hz, channels=recording.signal.channels)
        decoder = LiveDecoder(
            pretrained, info, recording_id=recording_id, subject=recording.subject, modality=recording.modality,
            **how,  # type: ignore[arg-type]
        )  # fmt: skip
        blocks = replay(recording, block_s=block_s)
    answers = _run(decoder, blocks, None if duration_s is None else round(duration_s * info.rate_hz))
    if not answers:
        raise DataError(
            f"decode: the source ended before one window of {pretrained.loaded.facts.window_s:g} s was complete"
            + (f" after {calibration_s:g} s of calibration" if calibration_s else "")
        )
    gap: dict[str, float] = {}
    if compare and recording is not None:
        gap = _gap(pretrained, recording, answers, recording_id=recording_id, **how)
    return Decoded(
        probabilities=np.stack([a.probabilities for a in answers]),
        classes=decoder.classes,
        start_s=np.array([a.start_s for a in answers]),
        interval=np.array([a.interval for a in answers]),
        window_s=pretrained.loaded.facts.window_s,
        behind_s=np.array([a.behind_s for a in answers]),
        compute_s=np.array([a.compute_s for a in answers]),
        gap=gap,
        notes=tuple(decoder.notes),
    )


def _run(decoder: LiveDecoder, blocks: Iterable[Block], n_samples: int | None) -> list[Answer]:
    answers: list[Answer] = []
    taken, started = 0, False
    for block in blocks:
        if block.begins and started:
            answers += decoder.finish()
        started = True
        answers += decoder.push(block)
        taken += len(block.values)
        if n_samples is not None and taken >= n_samples:
            # what filters still hold is not waited for: it has not happened yet
            return answers
    return answers + (decoder.finish() if started else [])


def _gap(pretrained: Pretrained, recording: Recording, answers: list[Answer], **how: Any) -> dict[str, float]:
    """Compare with the zero-phase chain on the windows that both have."""
    offline = pretrained.predict(recording, **how)
    at = {round(float(t), 4): p for t, p in zip(offline.start_s, offline.probabilities, strict=True)}
    both = [(a.probabilities, at[key]) for a in answers if (key := round(a.start_s, 4)) in at]
    if not both:
        return {"gap_windows": 0.0}
    live, whole = (np.stack(x) for x in zip(*both, strict=True))
    return {
        "gap_windows": float(len(both)),
        "gap_probability_mean": float(np.abs(live - whole).max(1).mean()),
        "gap_probability_max": float(np.abs(live - whole).max()),
        "gap_same_label": float((live.argmax(1) == whole.argmax(1)).mean()),
    }


def write_decoded(folder: str | Path, decoded: Decoded, *, about: Mapping[str, Any] | None = None) -> Path:
    """Write ``decoded.csv`` (one row per window) and ``decode.json``: figures, notes, and `about` what was decoded with what."""
    out = Path(folder)
    part = out / f".decoded.{os.getpid()}.part"
    try:
        out.mkdir(parents=True, exist_ok=True)
        with open(part, "w", newline="", encoding="utf-8") as f:
            writer = csv.writer(f)
            writer.writerow(["start_s", "label", *(f"p_{c}" for c in decoded.classes), "behind_ms", "latency_ms"])
            for i, label in enumerate(decoded.labels):
                writer.writerow(
                    [f"{decoded.start_s[i]:.6f}", label, *(f"{p:.6f}" for p in decoded.probabilities[i]),
                     f"{1e3 * decoded.behind_s[i]:.3f}", f"{1e3 * decoded.compute_s[i]:.3f}"]
                )  # fmt: skip
        os.replace(part, out / "decoded.csv")
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror}); choose another folder with out=…") from error
    write_json(
        out / "decode.json",
        {**(about or {}), "figures": decoded.figures, "notes": list(decoded.notes), "classes": list(decoded.classes),
         "window_s": decoded.window_s},
    )  # fmt: skip
    return out / "decoded.csv"
