"""Du-IN word reading: pickled lists of clips, ``<subject>/word-recitation/<run>/dataset.bipolar.default.*/{data,info}``.

As released (Hugging Face liulab-repository/Du-IN) an entry has a word and one array, (channel, 3000) float64 at
1 kHz; the second signal is withheld. The containers are pickled as the repository's own class ``utils.DotDict``, a
dict, so an unpickler that knows numpy and plain containers only cannot open the published files: it must take that
one name for a dict. Where in the clip the word starts, and the unit, the release does not say.
"""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

from ..expected import Expected, Tree

RATE_HZ, N_SAMPLES = 1000.0, 3000
WORDS = ["嘴巴", "菠萝", "帮助", "朋友"]
FOLDER = "data/seeg.he2023xuanwu/{}/word-recitation/{}/dataset.bipolar.default.unaligned"


class DotDict(dict):
    """Stands for the class of that name in the published pickles."""


DotDict.__module__, DotDict.__qualname__ = "utils", "DotDict"


def _dump(path: Path, content: Any) -> None:
    """Pickle with `DotDict` under the module it has in the published files."""
    module = types.ModuleType("utils")
    module.DotDict = DotDict  # type: ignore[attr-defined]
    kept = sys.modules.get("utils")
    sys.modules["utils"] = module
    try:
        path.write_bytes(pickle.dumps(content, protocol=4))
    finally:
        if kept is None:
            del sys.modules["utils"]
        else:
            sys.modules["utils"] = kept


def _clips(n: int, channels: list[str], *, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(scale=3e-5, size=(len(channels), N_SAMPLES)) for _ in range(n)]


def _run(root: Path, subject: str, run: str, *, channels: list[str], words: list[str], seed: int, plain: bool) -> None:
    folder = root / FOLDER.format(subject, run)
    folder.mkdir(parents=True)
    box = dict if plain else DotDict
    clips = _clips(len(words), channels, seed=seed)
    _dump(folder / "data", [box(name=w, data_s=c) for w, c in zip(words, clips, strict=True)])
    _dump(folder / "info", box(ch_names=list(channels)))


def _expected(subject: str, run: str, channels: list[str], n: int) -> Expected:
    return Expected(
        subject=subject,
        session=None,
        run=run,
        modality="ieeg",
        rate_hz=RATE_HZ,
        channels=channels,
        kinds=["seeg"] * len(channels),
        n_samples=[N_SAMPLES] * n,
    )


def write(root: Path) -> Tree:
    """Two subjects with other channels; a run number is missing; names with a quote mark in them."""
    first, second = ["SM8", "SM9", "P4"], ["TI'2", "TI'3"]
    _run(root, "001", "run1", channels=first, words=[*WORDS, *WORDS], seed=1, plain=False)
    _run(root, "001", "run3", channels=first, words=WORDS[:2], seed=3, plain=False)
    _run(root, "002", "run1", channels=second, words=WORDS[::-1], seed=2, plain=False)
    return Tree(
        source="du_in",
        choices={"root": root},
        recordings=[
            _expected("001", "1", first, 8),
            _expected("001", "3", first, 2),
            _expected("002", "1", second, 4),
        ],
    )


def make_words(root: Path) -> Tree:
    """Two people read each of four words eight times, in two runs."""
    for subject, channels in (("001", ["SM8", "SM9", "P4"]), ("002", ["TI'2", "TI'3"])):
        for run in ("run1", "run2"):
            _run(root, subject, run, channels=channels, words=WORDS * 4, seed=int(subject), plain=False)
    return Tree(source="du_in", choices={"root": root}, recordings=[])


def write_plain_dicts(root: Path) -> Tree:
    """The same with plain dicts."""
    _run(root, "003", "run2", channels=["A1", "A2"], words=WORDS, seed=5, plain=True)
    return Tree(source="du_in", choices={"root": root}, recordings=[_expected("003", "2", ["A1", "A2"], 4)])


class _Command:
    """Pickles as a call of a shell command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        import os

        return os.system, (self.command,)


def write_command_in_pickle(root: Path) -> Tree:
    """A pickle that runs a command when opened: refused, and the command not run (`test_other_layouts` looks)."""
    _run(root, "004", "run1", channels=["A1"], words=WORDS, seed=6, plain=False)
    data = root / FOLDER.format("004", "run1") / "data"
    data.write_bytes(pickle.dumps([_Command(f"touch '{root / 'executed'}'")]))
    return Tree(source="du_in", choices={"root": root}, recordings=[], rejected=["data"])


def clips(root: Path) -> tuple[Tree, list[str], list[np.ndarray]]:
    """One run: the words and the clips as stored, (channel, time), in order."""
    words = [WORDS[0], WORDS[2], WORDS[0], WORDS[3]]
    _run(root, "006", "run1", channels=["A1", "A2"], words=words, seed=9, plain=False)
    return Tree(source="du_in", choices={"root": root}, recordings=[]), words, _clips(4, ["A1", "A2"], seed=9)
