"""ZuCo 1.0 (MAT v5) and 2.0 (MAT v7.3, which is HDF5): one struct a sentence, with holes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..expected import Expected, Piece, Tree

N_CHANNELS, RATE = 105, 500
BANDS = ("t1", "t2", "a1", "a2", "b1", "b2", "g1", "g2")
FIXATIONS = ("FFD", "GD", "TRT", "GPT", "SFD")


def sentences(rng: np.random.Generator, task: str) -> list[tuple[str, list[str]]]:
    """Return four (text, words): the same for everyone who reads a task."""
    texts = ["The film isn't bad at all.", "A café on the river.", "He was born in 1908.", "Nobody came."]
    return [(f"{task}: {t}", t.rstrip(".").split()) for t in texts]


def raw(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return one sentence's EEG, shape (time, channel), with two electrodes that were rejected."""
    x = np.round(rng.normal(0, 15, (n, N_CHANNELS)), 3)
    x[:, [7, 90]] = np.nan
    return x


def expected(subject: str, task: str, read: dict[int, np.ndarray]) -> Expected:
    # a missing sentence leaves the identity of the next ones alone
    pieces = [Piece(values=x, shown=(0.0, f"{task} {k}")) for k, x in read.items()]
    return Expected(
        subject=subject, session=None, task=task, part="", modality="eeg", rate_hz=RATE, kinds=["eeg"] * N_CHANNELS,
        n_samples=[len(x) for x in read.values()], pieces=pieces,
    )  # fmt: skip


def put_v5(path: Path, rng: np.random.Generator, *, task: str, missing: int, empty: int) -> dict[int, np.ndarray]:
    """Write one reader; return the sentences that are there."""
    from scipy.io import savemat

    extra = [f"answer_mean_{b}" for b in BANDS] if task == "SR" else []
    fields = ["content", "rawData", *(f"mean_{b}" for b in BANDS), *extra, "omissionRate", "word"]
    table = np.zeros((1, 4), dtype=[(f, object) for f in fields])
    read = {}
    for k, (text, its_words) in enumerate(sentences(rng, task)):
        row: dict[str, Any] = dict.fromkeys(fields, np.nan) | {"content": text}
        if k == empty:
            row |= {
                "rawData": np.full((N_CHANNELS, 300), np.nan),
                "omissionRate": 1.0,
                "word": word_table(rng, its_words),
            }
        elif k != missing:
            read[k] = raw(rng, 400 + 50 * k)
            row |= {f: rng.normal(size=N_CHANNELS) for f in fields if "mean_" in f}
            row |= {"rawData": read[k].T, "omissionRate": 0.1, "word": word_table(rng, its_words)}
        for f in fields:
            table[f][0, k] = row[f]
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"sentenceData": table})
    return read


def word_table(rng: np.random.Generator, its_words: list[str]) -> np.ndarray:
    fields = ["content", "nFixations", "rawEEG", "rawET", "fixPositions", *FIXATIONS, "FFD_t1", "FFD_t1_diff"]
    table = np.zeros((1, len(its_words)), dtype=[(f, object) for f in fields])
    for i, word in enumerate(its_words):
        seen = i != 1
        row: dict[str, Any] = dict.fromkeys(fields, np.zeros((0, 0))) | {"content": word}
        if seen:
            cell = np.empty((1, 1), dtype=object)
            cell[0, 0] = rng.normal(size=(N_CHANNELS, 40))
            row |= {"nFixations": 1.0, "rawEEG": cell, "fixPositions": float(i + 1)}
            row |= {f: 80.0 for f in FIXATIONS} | {f: rng.normal(size=N_CHANNELS) for f in ("FFD_t1", "FFD_t1_diff")}
        for f in fields:
            table[f][0, i] = row[f]
    return table


def write_v1(root: Path) -> Tree:
    rng = np.random.default_rng(17)
    files = [
        # the odd space is in the published name; the last one is as loaders rename it
        ("task1- SR/Matlab files", "ZAB", "SR", 1, 3), ("task1- SR/Matlab files", "ZDM", "SR", 0, 2),
        ("task2 - NR/Matlab files", "ZAB", "NR", 2, 1), ("task3-TSR/Matlab_files", "ZAB", "TSR", 1, 0),
    ]  # fmt: skip
    recordings = []
    for folder, subject, task, missing, empty in files:
        path = root / folder / f"results{subject}_{task}.mat"
        recordings.append(expected(subject, task, put_v5(path, rng, task=task, missing=missing, empty=empty)))
    return Tree(source="zuco", choices={"root": root}, recordings=recordings)


class Table:
    """What MATLAB's v7.3 makes of struct arrays: one data set of references a field, the values in #refs#."""

    def __init__(self, file: Any) -> None:
        self.file, self.refs, self.n = file, file.create_group("#refs#"), 0

    def name(self) -> str:
        self.n += 1
        return f"v{self.n}"

    def value(self, x: Any) -> Any:
        """Store one value and return the reference to it: text as code units, arrays with their axes turned."""
        if isinstance(x, str):
            units = np.array([ord(c) for c in x], np.uint16)[:, None]
            made = self.refs.create_dataset(self.name(), data=units)
            made.attrs["MATLAB_class"] = np.bytes_("char")
        elif np.size(x) == 0:
            made = self.refs.create_dataset(self.name(), data=np.array([0, 0], np.uint64))
            made.attrs["MATLAB_class"], made.attrs["MATLAB_empty"] = np.bytes_("double"), np.uint8(1)
        else:
            made = self.refs.create_dataset(self.name(), data=np.atleast_2d(np.asarray(x, dtype=np.float64)).T)
            made.attrs["MATLAB_class"] = np.bytes_("double")
        return made.ref

    def struct(self, group: Any, rows: list[dict[str, Any]]) -> Any:
        """Fill a group with one column of references a field; a value that is a list of rows becomes a group itself."""
        import h5py

        for field in rows[0]:
            cells = []
            for row in rows:
                x = row[field]
                nested = isinstance(x, list)
                cells.append(self.struct(self.refs.create_group(self.name()), x).ref if nested else self.value(x))
            column = np.empty((len(rows), 1), dtype=h5py.ref_dtype)
            column[:, 0] = cells
            group.create_dataset(field, data=column, dtype=h5py.ref_dtype).attrs["MATLAB_class"] = np.bytes_("cell")
        group.attrs["MATLAB_class"] = np.bytes_("struct")
        return group


def put_v73(path: Path, rng: np.random.Generator, *, task: str, missing: int, empty: int) -> dict[int, np.ndarray]:
    """Write one reader; return the sentences that are there."""
    import h5py

    rows, read = [], {}
    for k, (text, its_words) in enumerate(sentences(rng, task)):
        row: dict[str, Any] = {"content": text, "rawData": np.nan, "omissionRate": np.nan, "word": np.nan}
        row |= {f"mean_{b}": np.nan for b in BANDS}
        if k == empty:
            row |= {"rawData": np.zeros((0, 0)), "word": [{"content": w} for w in its_words]}
        elif k != missing:
            read[k] = raw(rng, 400 + 50 * k)
            row |= {f"mean_{b}": rng.normal(size=(N_CHANNELS, 1)) for b in BANDS}
            table = [{"content": w, "nFixations": 1.0, "rawEEG": rng.normal(size=(N_CHANNELS, 40))} for w in its_words]
            if len(read) == 2:
                # the words of this sentence have a text and nothing else
                table = [{"content": w} for w in its_words]
            else:
                table[1] |= {"nFixations": np.zeros((0, 0)), "rawEEG": np.zeros((0, 0))}
            row |= {"rawData": read[k].T, "omissionRate": 0.1, "word": table}
        rows.append(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        table = Table(file)
        table.struct(file.create_group("sentenceData"), rows)
    head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 .".ljust(124) + b"\x00\x02IM"
    with path.open("r+b") as file:
        file.write(head)
    return read


def write_v2(root: Path) -> Tree:
    rng = np.random.default_rng(18)
    files = [
        ("task1 - NR/Matlab files", "YAC", "NR", 1, 3), ("task1 - NR/Matlab files", "YAG", "NR", 0, 2),
        ("task2 - TSR/Matlab files", "YAC", "TSR", 2, 1),
    ]  # fmt: skip
    recordings = []
    for folder, subject, task, missing, empty in files:
        path = root / folder / f"results{subject}_{task}.mat"
        recordings.append(expected(subject, task, put_v73(path, rng, task=task, missing=missing, empty=empty)))
    return Tree(source="zuco", choices={"root": root}, recordings=recordings)
