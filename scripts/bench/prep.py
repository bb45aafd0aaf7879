"""Preparation against a plain MNE loop that does the same work on the same files: one ratio, and the largest difference.

    python scripts/bench/prep.py                       # 8 files of 10 min × 32 channels × 512 Hz, 2 workers
    python scripts/bench/prep.py --files 2 --minutes 3 # quick

Both read every file, take out line noise and drifts, re-reference to the average, resample and write the result. The
loop writes float32 arrays and nothing else; preparation writes checked, indexed int16 shards with their tables.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

LINE_HZ, LOW_HZ, WANTED_HZ = 50.0, 0.5, 200.0
STAGES = (
    {"name": "notch", "line_hz": LINE_HZ, "harmonics": 2},
    {"name": "filter", "low_hz": LOW_HZ},
    {"name": "rereference"},
    {"name": "resample", "rate_hz": WANTED_HZ},
)


def write_files(folder: Path, n_files: int, minutes: float, n_channels: int, rate_hz: float, suffix: str) -> None:
    import mne

    n = round(minutes * 60 * rate_hz)
    for i in range(n_files):
        rng = np.random.default_rng(i)
        x = np.cumsum(rng.standard_normal((n_channels, n)), axis=1)
        x += 20 * np.sin(2 * np.pi * LINE_HZ * np.arange(n) / rate_hz) - x.mean(axis=1, keepdims=True)
        raw = mne.io.RawArray(1e-6 * x, mne.create_info(n_channels, rate_hz, "eeg"), verbose="error")
        path = folder / f"sub{i:02d}.{suffix}"
        if suffix == "edf":
            mne.export.export_raw(path, raw, verbose="error")
        else:
            raw.save(path, fmt="single", verbose="error")


def mne_loop(folder: Path, out: Path, kernel: np.ndarray) -> None:
    import mne

    for path in sorted(folder.iterdir()):
        raw = mne.io.read_raw(path, preload=True, verbose="error")
        raw.notch_filter([LINE_HZ, 2 * LINE_HZ], notch_widths=1.0, trans_bandwidth=3.0, verbose="error")
        raw.filter(LOW_HZ, None, verbose="error")
        raw.set_eeg_reference("average", verbose="error")
        raw.resample(WANTED_HZ, method="polyphase", window=kernel, pad="antireflect", verbose="error")
        np.save(out / f"{path.stem}.npy", (1e6 * raw.get_data().T).astype(np.float32))


def differences(prepared: Path, out: Path) -> tuple[float, float]:
    """Largest difference in µV, and as a part of the channel's range."""
    from neurofm.data.dataset import Dataset

    data, most, part = Dataset(prepared), 0.0, 0.0
    for rid, row in data.recordings.items():
        theirs = np.load(out / f"{Path(row['source_file']).stem}.npy")
        ours = data.read_interval(rid, 0)
        assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
        away = np.abs(ours - theirs).max(axis=0)
        most, part = max(most, away.max()), max(part, float((away / np.ptp(theirs, axis=0)).max()))
    return float(most), part


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--rate", type=float, default=512.0, help="Hz")
    parser.add_argument("--format", choices=("edf", "fif"), default="edf")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1, help="each is run so often, in turn; the fastest counts")
    args = parser.parse_args()
    from data_prep.pipeline import prepare
    from data_prep.stages.resample import anti_alias_kernel, ratio_of

    warnings.simplefilter("ignore")
    ratio = ratio_of(args.rate, WANTED_HZ)
    up, down = ratio.numerator, ratio.denominator
    kernel = anti_alias_kernel(up, down, 0.16, 60.0) / up
    hours = args.files * args.minutes / 60
    roads = {"MNE loop": "", "prep, 1 process": "none", f"prep, {args.workers} workers": "local"}
    seconds: dict[str, list[float]] = {name: [] for name in roads}
    busy: dict[str, list[float]] = {name: [] for name in roads}
    with tempfile.TemporaryDirectory() as temporary:
        top = Path(temporary)
        (top / "raw").mkdir()
        (top / "loop").mkdir()
        write_files(top / "raw", args.files, args.minutes, args.channels, args.rate, args.format)
        size = sum(p.stat().st_size for p in (top / "raw").iterdir())
        print(
            f"{args.files} {args.format} files of {args.minutes:g} min × {args.channels} × {args.rate:g} Hz, {size / 1e6:.0f} MB"
        )
        source = {"name": "files", "root": str(top / "raw"), "glob": f"*.{args.format}"}
        for k in range(args.repeats):
            for name, dask in roads.items():
                began, cpu = time.monotonic(), sum(os.times()[:4])
                if dask:
                    how = {"kind": "local", "n_workers": args.workers} if dask == "local" else dask
                    out = top / f"{dask}{k}"
                    prepare(source=source, out=out, stages=STAGES, dask=how, progress=False)
                else:
                    mne_loop(top / "raw", top / "loop", kernel)
                seconds[name].append(time.monotonic() - began)
                busy[name].append(sum(os.times()[:4]) - cpu)
        loop = min(seconds["MNE loop"])
        for name in roads:
            best = min(seconds[name])
            print(
                f"{name:18s} {best:7.1f} s  {60 * hours / best:6.2f} recording hours/min  CPU {min(busy[name]):6.1f} s  ratio {loop / best:.2f}"
            )
        for dask in ("none", "local"):
            most, part = differences(top / f"{dask}0", top / "loop")
            print(
                f"largest difference ({dask}): {most:.3g} µV, {part:.3g} of the channel's range (int16 step: {1 / 65534:.3g})"
            )


if __name__ == "__main__":
    main()
