"""MAYO and FNUSA: clips under their patient, in any of the trees the sets are passed on in."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.io import savemat

from data_prep.sources import SOURCES
from neurofm.schema.errors import ConfigError, DataError

ROWS = [  # segment, patient, category, reviewer; some ids with a suffix
    ("a1", 2, 3, 1),
    ("b1.mat", 10, 0, 2),
    ("a2", 2, 2, 3),
    ("a3.mat", 2, 1, 1),
]


def write(root, table, clips, rows=ROWS) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    for folder in (root / table, root / clips):
        folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{i},{s},{p},{c},{r}" for i, (s, p, c, r) in enumerate(rows)]
    (root / table / "segments.csv").write_text(
        "index,segment_id,patient_id,category_id,reviewer_id\n" + "\n".join(lines)
    )
    values = {}
    for segment, *_ in rows:
        name = segment.removesuffix(".mat")
        values[name] = rng.standard_normal((1, 15000))
        savemat(root / clips / f"{name}.mat", {"data": values[name]})
    return values


@pytest.mark.parametrize(
    ("table", "clips"),
    [("FNUSA", "FNUSA/DATASET_FNUSA"), ("DATASET_FNUSA", "DATASET_FNUSA"), (".", "."), (".", "DATASET_FNUSA")],
)
def test_trees(tmp_path, table, clips):
    x = write(tmp_path, table, clips)
    source = SOURCES.build("mayo_fnusa", root=tmp_path, site="fnusa")
    assert source.id == "fnusa"
    recs = {i.subject: i.load() for i in source.list()}
    assert set(recs) == {"2", "10"}
    rec = recs["2"]
    assert (rec.signal.n_samples, rec.interval_start_s) == ((15000,) * 3, (0.0, 4.0, 8.0))
    assert np.array_equal(rec.signal.read(1, 100, 200), x["a2"].T[100:200])
    assert [(e.onset_s, e.label, e.block, e.trial) for e in rec.events] == [
        (0.0, "physiological", 1, 0),
        (4.0, "pathological", 3, 1),
        (8.0, "noise", 1, 2),
    ]
    assert [e.label for e in recs["10"].events] == ["power line"]


def test_missing_clip(tmp_path):
    write(tmp_path, "MAYO", "MAYO")
    (tmp_path / "MAYO" / "a2.mat").unlink()
    (item,) = SOURCES.build("mayo_fnusa", root=tmp_path, subjects=["2"]).list()
    with pytest.raises(DataError, match=r"'a2' .* \(1 of 3 clips\)"):
        item.load()
    (item,) = SOURCES.build("mayo_fnusa", root=tmp_path, subjects=["2"], missing="leave_out").list()
    assert [(e.trial, e.label) for e in item.load().events] == [(0, "physiological"), (2, "noise")]


def test_nonsense_is_told(tmp_path):
    write(tmp_path, "MAYO", "MAYO", rows=[("a1", 2, 7, 1)])
    with pytest.raises(DataError, match="category_id '7'"):
        SOURCES.build("mayo_fnusa", root=tmp_path).list()
    write(tmp_path, "MAYO", "MAYO", rows=[("a1", 2, 2, 1)])
    savemat(tmp_path / "MAYO" / "a1.mat", {"data": np.zeros((1, 100))})
    rec = SOURCES.build("mayo_fnusa", root=tmp_path).list()[0].load()
    with pytest.raises(DataError, match="15000"):
        rec.signal.read(0, 0, 10)
    with pytest.raises(DataError, match=r"no segments\.csv|holds no"):
        SOURCES.build("mayo_fnusa", root=tmp_path, site="fnusa").list()
    with pytest.raises(ConfigError, match="did you mean 'mayo'"):
        SOURCES.build("mayo_fnusa", root=tmp_path, site="mayoo")
