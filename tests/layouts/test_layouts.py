"""Every public layout: a small tree written with the real libraries is read back as its writer says.

A module of `trees/` holds `write(root) -> Tree` or several functions of that signature whose names begin with "write".
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.sources import SOURCES
from neurofm.schema.errors import DataError
from neurofm.schema.recording import Recording, Stream

from .expected import Expected, Tree
from .pieces import check_piece, check_stimuli, electrode, electrodes, label_fits, place

TREES = Path(__file__).parent / "trees"
# a day, with and without hyphens and the like: 20131130, 2015_12_30
DAY = re.compile(r"(?<!\d)(19|20)\d\d([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?!\d)")


def writers() -> Iterator[tuple[str, Callable[[Path], Tree]]]:
    for path in sorted(TREES.glob("[a-z]*.py")):
        module = importlib.import_module(f".trees.{path.stem}", __package__)
        for name in sorted(vars(module)):
            if name.startswith("write") and getattr(module, name).__module__ == module.__name__:
                yield f"{path.stem}:{name}", getattr(module, name)


WRITERS = dict(writers())


@pytest.mark.parametrize("name", WRITERS)
def test_tree_is_read_as_written(name, tmp_path):
    tree = WRITERS[name](tmp_path)
    source = SOURCES.build(tree.source, **tree.choices)
    read, refused = [], []
    for item in source.list():
        assert not any(DAY.search(text) for text in (item.key, item.source_file, item.subject, item.session)), item
        try:
            recording = item.load()
            touch(recording)
            assert not any(DAY.search(text) for text in (recording.recording_id, recording.source_file)), recording
            assert (item.subject or recording.subject) == recording.subject
            read.append(recording)
        except DataError as error:
            refused.append((item.source_file, str(error)))
    assert len({r.recording_id for r in read}) == len(read) == len(tree.recordings), [r.recording_id for r in read]
    stimuli: list[tuple[str, str]] = []
    for expected in tree.recordings:
        fitting = [r for r in read if fits(r, expected)]
        if len(fitting) > 1 and expected.pieces:
            fitting = [r for r in fitting if place(r, expected.pieces[0]) is not None]
        assert len(fitting) == 1, (expected.subject, expected.session, expected.file, [r.recording_id for r in read])
        check(fitting[0], expected)
        for piece in expected.pieces:
            stimuli += check_piece(fitting[0], piece)
    check_stimuli(stimuli)
    if tree.also is not None:
        tree.also(read)
    assert len(refused) == len(tree.rejected), refused
    for asked in tree.rejected:
        file, piece = ("", asked) if isinstance(asked, str) else asked
        assert any(name.endswith(file) and piece in sentence for name, sentence in refused), (asked, refused)


def touch(recording: Recording) -> None:
    """Read something of every interval: reading is lazy, and what is in a file may be found out only then."""
    if isinstance(recording.first, Stream):
        for i, n in enumerate(recording.signal.n_samples):
            recording.signal.read(i, 0, min(n, 1))


def fits(recording: Recording, expected: Expected) -> bool:
    names = ("session", "task", "run", "part")
    if expected.subject is not None and not label_fits(recording.subject, expected.subject):
        return False
    if expected.file is not None and Path(recording.source_file).name != Path(expected.file).name:
        return False
    return all(getattr(expected, n) in (None, getattr(recording, n)) for n in names)


def check(recording: Recording, expected: Expected) -> None:
    first = recording.first
    good = [i for i, c in enumerate(first.channels) if not (expected.only_good and c.bad)]
    channels = [first.channels[i] for i in good]
    found: dict[str, Any] = {
        "part": recording.part, "modality": recording.modality,
        "channels": [c.name for c in channels], "kinds": [c.kind for c in channels],
        "units": [c.unit for c in channels], "regions": [c.region for c in channels],
    }  # fmt: skip
    if isinstance(first, Stream):
        found |= {"rate_hz": first.rate_hz, "n_samples": list(first.n_samples)}
    else:
        # what has no samples is not asked for them
        assert expected.rate_hz is None
        assert expected.n_samples is None
        assert not expected.values
        assert not expected.pieces
    if expected.duration_s is not None:
        np.testing.assert_allclose(first.duration_s, expected.duration_s, rtol=0, atol=1e-6)
    for name, value in found.items():
        asked = getattr(expected, name)
        if asked is not None:
            assert value == (pytest.approx(asked) if name == "rate_hz" else asked), name
    if expected.electrodes is not None:
        assert electrodes(recording) == [electrode(e) for e in expected.electrodes]
    for interval, values in expected.values.items():
        signal = recording.signal
        given = signal.read(interval, 0, signal.n_samples[interval])
        np.testing.assert_allclose(given[:, good], values, rtol=0, atol=expected.atol)
        # a span from the middle is the same span of the whole
        a, b = len(values) // 3, len(values) // 2
        np.testing.assert_array_equal(signal.read(interval, a, b), given[a:b])
    if expected.events is not None:
        kind = expected.events_of_kind
        events = sorted((e for e in recording.events if kind in (None, e.kind)), key=lambda e: e.onset_s)
        events = [e for e in events if expected.events_of is None or re.search(expected.events_of, e.label)]
        labels = [e.label for e in events]
        assert len(labels) == len(expected.events), (labels, expected.events)
        assert all(label_fits(a, b) for a, (_, b) in zip(labels, expected.events, strict=True)), labels
        np.testing.assert_allclose([e.onset_s for e in events], [t for t, _ in expected.events], atol=2e-3)
        if expected.stimulus_ids is not None:
            assert [e.stimulus_id for e in events] == expected.stimulus_ids
