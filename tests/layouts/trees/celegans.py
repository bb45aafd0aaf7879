"""Homogenised C. elegans collection: parquet, one row per (source dataset, worm, neuron) with its whole trace.

``worm0`` occurs in every source dataset, so a worm is told by both. `calcium_data` is the resampled trace (0.333 s);
`original_calcium_data` is on the microscope's clock. Times are float32. How a worm is named as a subject is the reader's choice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurofm.schema.recording import Recording

from ..expected import Expected, Piece, Tree

DT_S = 0.333
Traces = dict[str, np.ndarray]


def _rows(
    dataset: str, worm: str, neurons: list[str], *, n: int, seed: int, old_columns: bool = False
) -> tuple[list[dict[str, Any]], Traces]:
    """Return one row per neuron and the traces by neuron; names of digits are unlabelled cells."""
    rng = np.random.default_rng(seed)
    rows, traces = [], {}
    for neuron in neurons:
        trace = rng.normal(size=n).astype("f4")
        labelled = not neuron.isdigit()
        row = {
            "source_dataset": dataset,
            "raw_data_file": f"{dataset}.mat",
            "worm": worm,
            "neuron": neuron,
            "slot": np.int32(int(neuron) if neuron.isdigit() else 10 + sorted(neurons).index(neuron)),
            "is_labeled_neuron": labelled,
            "smooth_method": "causal",
            "interpolate_method": "linear",
            **({"is_unlabeled_neuron": not labelled} if old_columns else {"normalization_method": "standard"}),
            "original_calcium_data": rng.normal(size=2 * n).astype("f4"),
            "calcium_data": trace,
            "original_time_in_seconds": (np.arange(2 * n) * 0.17).astype("f4"),
            "time_in_seconds": (np.arange(n) * DT_S).astype("f4"),
            "original_max_timesteps": np.int32(2 * n),
            "max_timesteps": np.int32(n),
        }
        rows.append(row)
        traces[neuron] = trace
    return rows, traces


def _write(root: Path, rows: list[dict[str, Any]]) -> None:
    pd.DataFrame(rows).to_parquet(root / "worm_data_short.parquet", index=False, engine="pyarrow")


def _one_worm(root: Path, *, old_columns: bool) -> Tree:
    neurons = ["ADAL", "AVAL", "AVAR", "RIML"]  # in order of the alphabet, which is that of the slots
    rows, traces = _rows("Kato2015", "worm0", neurons, n=1000, seed=1, old_columns=old_columns)
    _write(root, rows)
    expected = Expected(
        subject=None,
        session=None,
        modality="calcium",
        rate_hz=1 / DT_S,
        only_good=True,
        channels=neurons,
        kinds=["calcium"] * 4,
        n_samples=[1000],
        values={0: np.stack(list(traces.values()), axis=1)},
        atol=1e-6,
    )
    return Tree(source="celegans", choices={"root": root, "trace": "prepared"}, recordings=[expected], also=_same_order)


def _same_order(read: list[Recording]) -> None:
    """Every worm has the same names in the same order, 302 without the two CAN cells; those it lacks are bad."""
    for recording in read:
        names = [c.name for c in recording.signal.channels]
        assert names == sorted(set(names))
        assert len(names) == 300
        assert not {"CANL", "CANR"} & set(names)


def write(root: Path) -> Tree:
    """Columns of the present script."""
    return _one_worm(root, old_columns=False)


def write_original(root: Path) -> Tree:
    """The traces as recorded, every 0.17 s for 340 s: what the reader takes unasked, since the other is z-scored."""
    neurons = ["ASEL", "AVAL"]
    rows, _ = _rows("Kato2015", "worm0", neurons, n=1000, seed=6)
    n = int(1999 * 0.17 / DT_S) + 1
    slow = {"ASEL": lambda t: np.sin(t / 9) + 3, "AVAL": lambda t: 0.02 * t}
    for row in rows:
        row["original_calcium_data"] = slow[row["neuron"]](np.arange(2000) * 0.17).astype("f4")
    _write(root, rows)
    values = np.stack([slow[name](np.arange(n) * DT_S) for name in neurons], axis=1)
    # at the ends there is only one side to average
    piece = Piece(values=values[1:-1], at_s=DT_S, electrodes=["asel", "aval"], atol=2e-3)
    expected = Expected(
        subject=None,
        session=None,
        modality="calcium",
        rate_hz=1 / DT_S,
        only_good=True,
        channels=neurons,
        n_samples=[n],
        pieces=[piece],
    )
    return Tree(source="celegans", choices={"root": root}, recordings=[expected], also=_same_order)


def write_old_columns(root: Path) -> Tree:
    """Columns of the published table, with `is_unlabeled_neuron`."""
    return _one_worm(root, old_columns=True)


def worms(root: Path) -> tuple[Tree, list[Traces]]:
    """Three worms, two of them called ``worm0``, rows in no order; the traces of each by labelled neuron.

    Lengths differ between worms; the first has an unlabelled cell beside its labelled ones.
    """
    sets = [
        _rows("Kato2015", "worm0", ["AVAL", "ASEL", "37"], n=1000, seed=2),
        _rows("Kato2015", "worm1", ["AVAR"], n=700, seed=3),
        _rows("Nichols2017", "worm0", ["AVAL", "RIML", "ASEL"], n=650, seed=4),
    ]
    rows = [row for part, _ in sets for row in part]
    _write(root, [rows[i] for i in np.random.default_rng(5).permutation(len(rows))])
    traces = [{k: v for k, v in t.items() if not k.isdigit()} for _, t in sets]
    return Tree(source="celegans", choices={"root": root, "trace": "prepared"}, recordings=[]), traces
