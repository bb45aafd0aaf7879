"""What an EDF or BDF header promises, compared with the file: mne corrects such contradictions with a warning.

Layout after Kemp et al. 1992, "A simple format for exchange of digitized polygraphic recordings", and the EDF+
specification (2003): 256 bytes, then one field after the other for all signals.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from neurofm.schema.errors import DataError

SUFFIXES = (".edf", ".bdf", ".rec")
# Bytes per signal of the fields before the number of samples per record: label, transducer, unit, physical and
# digital minimum and maximum, prefilter.
BEFORE_SAMPLES = 16 + 80 + 8 + 8 + 8 + 8 + 8 + 80


@dataclass(frozen=True, kw_only=True)
class EdfHeader:
    """The fields of a header that decide how much data there is.

    Attributes
    ----------
    n_records : int
        Data records; −1 while a recording is going on.
    record_s : float
        Seconds per record.
    labels : tuple of str
        One per signal, without the annotation signals.
    samples : tuple of int
        Samples per record of these signals.
    header_bytes, record_bytes : int
        Size of the header and of one record, annotations included.
    """

    n_records: int
    record_s: float
    labels: tuple[str, ...]
    samples: tuple[int, ...]
    header_bytes: int
    record_bytes: int

    @property
    def rates_hz(self) -> tuple[float, ...]:
        """Sampling rate of each signal."""
        return tuple(n / (self.record_s or 1.0) for n in self.samples)


def read_edf_header(path: Path) -> EdfHeader:
    """Read the header.

    Raises
    ------
    DataError
        When it is shorter than it says or a number in it is none.
    """
    with open(path, "rb") as f:
        head = f.read(256)
        try:
            is_bdf = head[:1] == b"\xff"
            header_bytes, n_records = int(head[184:192]), int(head[236:244])
            record_s, n_signals = float(head[244:252]), int(head[252:256])
        except ValueError as error:
            # the fields themselves are not quoted: what stands there may be the name of the patient
            raise DataError("has no readable EDF header, so mne cannot open it") from error
        rest = f.read(256 * n_signals)
    if len(head) + len(rest) != 256 * (n_signals + 1) or n_signals < 1:
        raise DataError(f"ends within its EDF header of {n_signals} signals; it is truncated, copy it again")
    labels = [rest[16 * i : 16 * (i + 1)].decode("latin-1").strip() for i in range(n_signals)]
    at = BEFORE_SAMPLES * n_signals
    try:
        samples = [int(rest[at + 8 * i : at + 8 * (i + 1)]) for i in range(n_signals)]
    except ValueError as error:
        raise DataError("has no readable EDF header, so mne cannot open it") from error
    signals = [i for i, label in enumerate(labels) if label not in ("EDF Annotations", "BDF Annotations")]
    return EdfHeader(
        n_records=n_records,
        record_s=record_s,
        labels=tuple(labels[i] for i in signals),
        samples=tuple(samples[i] for i in signals),
        header_bytes=header_bytes,
        record_bytes=sum(samples) * (3 if is_bdf else 2),
    )


def require_whole(header: EdfHeader, path: Path) -> None:
    """Check that the file holds the records its header promises; more (an old header) is no harm.

    Raises
    ------
    DataError
        When it is shorter.
    """
    there = (path.stat().st_size - header.header_bytes) // max(header.record_bytes, 1)
    if there < header.n_records:
        raise DataError(
            f"is truncated: its header promises {header.n_records} records of {header.record_s:g} s, it holds {there}; "
            "copy it again"
        )
    if header.n_records == 0 or there == 0:
        raise DataError("has no samples (length zero)")


def require_rate(header: EdfHeader) -> None:
    """Check that the header states a rate.

    Raises
    ------
    DataError
        When it does not.
    """
    if header.labels and (header.record_s <= 0 or max(header.samples) <= 0):
        raise DataError(
            f"its header states {max(header.samples)} samples in records of {header.record_s:g} s, which is no sampling "
            "rate; give the true one with source.rate_hz"
        )
