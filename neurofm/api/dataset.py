"""Vectors of a whole prepared dataset, or of one part of its split."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from neurofm.adapt.new_subject import CALIBRATION
from neurofm.api.calibration import calibrate, knows
from neurofm.api.codes import code_windows
from neurofm.api.pretrained import embed_batches
from neurofm.data.corpus import Corpus
from neurofm.data.splits.spans import Span, overlap
from neurofm.data.storage.catalogue import channel_name
from neurofm.data.windows import Window
from neurofm.hub.load import LoadedModel
from neurofm.models.base import CodebookModel
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.hashing import write_json
from neurofm.schema.tables import write_table
from neurofm.training.reopen import corpus_of

VECTORS, TABLE, ABOUT = "embeddings.safetensors", "windows.parquet", "embeddings.json"
TEST = "test"


def embed_dataset(
    loaded: LoadedModel,
    *,
    out: str | Path,
    data: Mapping[str, Any] | None = None,
    task: Mapping[str, Any] | None = None,
    part: str | None = None,
    calibration_s: float | None = None,
    batch_size: int = 64,
    device: str = "cpu",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write one vector per window, and which window it is of.

    Parameters
    ----------
    loaded : LoadedModel
        The model, on `device`.
    out : path
        Folder; gets ``embeddings.safetensors`` ("vectors", [window, dim] float32, and of a tokenizer "codes",
        [window, segment, channel, codebook] int32, −1 where there is no data), ``windows.parquet`` (one row per
        vector) and ``embeddings.json`` (where they come from).
    data, task : mapping, optional
        As in `conf/data` and `conf/task`; default those of the training.
    part : str, optional
        Part of the split; default all of them but the test part, which is then not opened.
    calibration_s : float, optional
        Transforms learn a new recording from its first so many seconds; default from the split's longest calibration
        part, and where that holds nothing of the recording, from the embedded windows themselves (transductive).
    batch_size : int
        Windows per pass.
    device : str
        Where the model is.
    overwrite : bool
        Replace what stands in `out`.

    Returns
    -------
    dict
        What is in ``embeddings.json``.
    """
    folder = Path(out)
    _check_free(folder, overwrite=overwrite)
    corpus = corpus_of(loaded, data=data, task=task)
    spans = asked_spans(corpus, part)
    _check_fits(loaded, corpus, spans)
    corpus.split = replace(corpus.split, parts={**corpus.split.parts, "embedded": spans})
    transductive, notes = _calibrate(corpus, spans, part, calibration_s)
    facts = replace(loaded.facts, classes=())
    windows = corpus.cut("embedded", facts)
    loader = corpus.loader("embedded", facts, batch_size=batch_size, seed=0, training=False)
    arrays = {"vectors": embed_batches(loaded, loader, device)}
    vectors = arrays["vectors"]
    codebooks = {}
    if isinstance(loaded.model, CodebookModel):
        arrays["codes"] = code_windows(loaded.model, loader, device)
        codebooks = {
            "codes": list(arrays["codes"].shape),
            "n_codes": list(loaded.model.n_codes),
            "patch_s": loaded.model.patch_samples / loaded.facts.rate_hz,
        }
    about = {
        "model": loaded.card["weights"]["sha256"],
        "dataset": {"id": corpus.dataset.id, "content_hash": corpus.dataset.manifest.content_hash},
        "split": corpus.split.rule,
        "part": part or "all but test",
        "window_s": corpus.task.window_s,
        "n_windows": len(vectors),
        "dim": int(vectors.shape[1]),
        **codebooks,
        "transductive": transductive,
        "notes": notes,
    }
    _write(folder, arrays, _rows(corpus, windows), about)
    return about


def asked_spans(corpus: Corpus, part: str | None) -> list[Span]:
    """Spans of one part, or of all but the test part; one that lies inside another counts once."""
    if part is not None:
        return corpus.split[part]
    spans = {s for name, members in corpus.split.parts.items() if name != TEST for s in members}
    kept: list[Span] = []
    for s in sorted(spans, key=lambda s: (s.recording_id, s.start_s, -s.stop_s)):
        last = kept[-1] if kept else None
        if last is None or s.recording_id != last.recording_id or s.stop_s > last.stop_s + 1e-9:
            kept.append(s)
    met = overlap(kept, corpus.split.parts.get(TEST, [])).spans
    if met:
        raise ConfigError(
            f"part: the split's other parts meet its test part in '{met[0][0].recording_id}'; name one part"
        )
    return kept


def _calibrate(
    corpus: Corpus, spans: Sequence[Span], part: str | None, calibration_s: float | None
) -> tuple[bool, list[str]]:
    """Fit the transforms on recordings that they do not know, on as little of the test part as is asked for."""
    transform, dataset = corpus.transform, corpus.dataset
    new = sorted({s.recording_id for s in spans if not knows(transform, s.recording_id)})
    if not new or not any(t.learns for t in transform.transforms):
        return transform.is_transductive, []
    if calibration_s is not None:
        test = [] if part == TEST else corpus.split.parts.get(TEST, [])
        reach = [Span(r, dataset.valid(r)[0][0], dataset.valid(r)[0][0] + calibration_s) for r in new]
        met = overlap(reach, test).spans
        if met:
            raise ConfigError(
                f"calibration_s={calibration_s:g} reaches into the test part of '{met[0][0].recording_id}'; choose less"
            )
        return calibrate(transform, dataset, new, calibration_s=calibration_s)
    taught: dict[str, list[Span]] = defaultdict(list)
    parts = corpus.split.parts
    sources = [p for p in parts if p.startswith(CALIBRATION) or p == "train"]
    for name in sorted(sources, key=lambda p: -sum(s.stop_s - s.start_s for s in parts[p])):
        for r in new:
            taught[r] = taught[r] or [s for s in parts[name] if s.recording_id == r]
    own = [r for r in new if not taught[r]]
    for r in own:
        taught[r] = [s for s in spans if s.recording_id == r]
    learned = [s for r in new for s in taught[r]]
    transform.fit(dataset, learned, allowed=learned)
    notes = []
    if len(new) > len(own):
        notes.append(f"transforms learned {len(new) - len(own)} new recordings from the split's calibration parts")
    if own:
        notes.append(
            f"transforms learned {len(own)} new recordings from the embedded windows themselves (transductive)"
        )
    return bool(own) or transform.is_transductive, notes


def _check_fits(loaded: LoadedModel, corpus: Corpus, spans: Sequence[Span]) -> None:
    facts, dataset = loaded.facts, corpus.dataset
    known = set(facts.channels)
    named = bool(loaded.model.subject_parameters())
    for r in sorted({s.recording_id for s in spans}):
        rate, names = dataset.rate_hz(r), [channel_name(c) for c in dataset.channels(r)]
        if abs(rate / facts.rate_hz - 1) > 1e-6:
            raise DataError(
                f"{dataset.path}: '{r}' has {rate:g} Hz, the model reads {facts.rate_hz:g}; prepare the data with "
                f"{{name: resample, rate_hz: {facts.rate_hz:g}}}"
            )
        if named and not known & set(names):
            raise DataError(
                f"{dataset.path}: the model knows none of the channels of '{r}' ({', '.join(names[:3])} …), only "
                f"{', '.join(facts.channels[:3])} …; prepare the data with canonical names, or choose another model"
            )


def _rows(corpus: Corpus, windows: Sequence[Window]) -> list[dict[str, Any]]:
    label: dict[tuple[str, int], str] = {}
    for r in {w.recording_id for w in windows}:
        label |= {(r, e["trial"]): e["label"] for e in corpus.dataset.events(r) if e["label"] and e["trial"] >= 0}
    return [
        {
            "recording_id": w.recording_id,
            "subject": corpus.dataset.subject(w.recording_id),
            "start_s": w.start_s,
            "duration_s": w.n_samples / corpus.dataset.rate_hz(w.recording_id),
            "trial": w.trial,
            "label": label.get((w.recording_id, w.trial), ""),
        }
        for w in windows
    ]


def _check_free(folder: Path, *, overwrite: bool) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; choose another folder with out=…")
    present = {p.name for p in folder.iterdir()}
    foreign = sorted(present - {VECTORS, TABLE, ABOUT})
    if foreign:
        raise ConfigError(f"{folder}: holds '{foreign[0]}', which is not of `neurofm embed`; choose another out=…")
    if present and not overwrite:
        raise ConfigError(
            f"{folder}: holds embeddings already; choose another out=…, or overwrite=true to replace them"
        )


def _write(
    folder: Path, arrays: Mapping[str, np.ndarray], rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]
) -> None:
    """Write all three files, or none."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, part / VECTORS)
        write_table(part, "windows", rows)
        write_json(part / ABOUT, dict(about))
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(part, folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror}); choose another folder with out=…") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
