"""Checks over the recordings of one session."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from data_prep.writer.shards import Staged

# Of these a model reads one rate per batch and a session is one montage; volumes of fMRI runs may differ by protocol.
MODALITIES = ("eeg", "ieeg", "meg")


def split_mixed_rates(staged: Sequence[Staged]) -> tuple[list[Staged], list[tuple[Staged, str]]]:
    """Keep, of each subject's session, the recordings at the rate that most of its time is sampled at.

    Parameters
    ----------
    staged : sequence of Staged
        After the stages, so that a resampling stage has made the rates equal.

    Returns
    -------
    kept : list of Staged
        In the given order.
    others : list of (Staged, reason)
    """
    rates: dict[str, float] = {}
    seconds: dict[tuple[str, str, str], dict[float, float]] = defaultdict(lambda: defaultdict(float))
    for s in staged:
        row = s.recording
        signal = next((x for x in s.receipt["streams"] if x["role"] == "signal" and x["regular"]), None)
        if signal is None or row["modality"] not in MODALITIES:
            continue
        rates[row["recording_id"]] = float(signal["rate_hz"])
        seconds[_session(s)][float(signal["rate_hz"])] += row["duration_s"]
    kept, others = [], []
    for s in staged:
        rate = rates.get(s.recording["recording_id"])
        usual = max(seconds[_session(s)].items(), key=lambda x: (x[1], x[0]))[0] if rate is not None else None
        if rate == usual:
            kept.append(s)
        else:
            others.append((
                s,
                f"is sampled at {rate:g} Hz, most of its session at {usual:g} Hz; add the stage 'resample', or give the "
                "true rate if a header is wrong",
            ))  # fmt: skip
    return kept, others


def _session(s: Staged) -> tuple[str, str, str]:
    return s.recording["subject"], s.recording["session"], s.recording["modality"]
