"""The retrieval benchmark: every contrastive model found, beside ridge and an encoding model, its controls, the ceiling and the oracle."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from neurofm.benchmarks.adapted.decoders import contents, lineage
from neurofm.benchmarks.guards.audit import Finding, audit, refuse_on_leak
from neurofm.benchmarks.results import append_results, record_look, span_hash
from neurofm.benchmarks.retrieval.curves import Tops, curve_over_repetitions, examples, parts_of_signal
from neurofm.benchmarks.retrieval.folds import kinds_of, labels_of, plain_name, pooled
from neurofm.benchmarks.retrieval.gallery import Gallery, build_gallery, lonely_concepts, words_of
from neurofm.benchmarks.retrieval.line import (
    BARS,
    ENCODING,
    RIDGE,
    Line,
    curve_rows,
    line_of,
    rows_of,
    sentence_of,
    shown_as,
)
from neurofm.benchmarks.retrieval.trials import (
    Decoder,
    Trials,
    about_the_mean,
    encoding_decoder,
    model_decoder,
    reconstructing,
    ridge_decoder,
    segments_of,
    teach_new_people,
    trials_of_part,
)
from neurofm.data.corpus import Corpus
from neurofm.data.splits.spans import Span
from neurofm.data.stimuli import Stimuli
from neurofm.data.storage.catalogue import channel_name
from neurofm.hub.load import LoadedModel, load_model
from neurofm.schema.conditions import write_conditions
from neurofm.schema.errors import ConfigError, nearest
from neurofm.schema.hashing import hash_of, read_json
from neurofm.schema.recording import slug
from neurofm.training.reopen import corpus_of

# an encoding model inverts their covariance
MOST_CHANNELS = 4000
NO_ORACLE = (float("nan"), float("nan"))


@dataclass
class RetrievalScores:
    """What an evaluation found; `curves` [model, subject] → repetitions → (top-1, top-5), `resolved` [model] → (kind, part) → top-1,
    `panels` [kind] → (shown, retrieved …) of some queries; `kinds` [model] → what models of its recipe are called together.
    """  # noqa: D205

    task: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    curves: dict[tuple[str, str], dict[int, Tops]] = field(default_factory=dict)
    oracle: dict[str, dict[int, Tops]] = field(default_factory=dict)
    resolved: dict[str, dict[tuple[str, str], float]] = field(default_factory=dict)
    panels: dict[str, list[tuple[str, list[str]]]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    looks: int = 0
    kinds: dict[str, str] = field(default_factory=dict)

    def kind(self, model: str) -> str:
        """What a model and those of its recipe are called together."""
        return self.kinds.get(model, model)


def find_retrievers(runs: str | Path, *, task: str, dataset: str | None = None) -> list[Path]:
    """Model folders under `runs` that were trained to answer with embeddings of stimuli, sorted.

    Raises
    ------
    ConfigError
        When there are none.
    """
    found = []
    for path in sorted(Path(runs).glob("**/card.json")):
        card = read_json(path)
        origin = card.get("provenance", {})
        if origin.get("task", {}).get("name") != task or not (origin.get("data") or {}).get("embedding"):
            continue
        if dataset is None or any(d["id"] == dataset for d in origin.get("datasets", [])):
            found.append(path.parent)
    if not found:
        raise ConfigError(
            f"{runs}: holds no model trained on embeddings of stimuli for task '{task}'; make some with "
            "`neurofm train objective=alignment data.embedding=…`"
        )
    return found


def score_retrieval(
    *, name: str, runs: str, results: str, run_id: str, task: str, dataset: str | None = None, encoder: str | None = None,
    galleries: Sequence[str] = ("stimulus",), averages: Sequence[str] = ("trial", "subject"), centred: bool = False,
    candidates: str = "test", ways: Sequence[int] = (), curve: bool = True, resolved: bool = True, width_s: float = 0.1, step_s: float = 0.05,
    n_panels: int = 4, bars: Sequence[str] = BARS, decoded: str | None = None, decoded_as: str = "clip_image_768", seed: int = 0, allow_leak: str = "", allow_import: bool = False, versions: str = "",
) -> Iterator[tuple[str, RetrievalScores]]:  # fmt: skip
    """Score every retriever of `task` under `runs`; yield a line of progress each.

    Parameters
    ----------
    name, runs, results, run_id, dataset, allow_leak, allow_import, versions
        As in `adapted.trials.score_trials`.
    task : str
        Only models of this task.
    encoder : str, optional
        Embedding that is searched; default the first that the model was trained on.
    galleries : sequence of str
        "stimulus", "class_centre", "other_exemplars"; of what unfolds in time the gallery is always its segments.
    averages : sequence of str
        What is averaged before decoding: "trial" (nothing), "subject".
    centred : bool
        Whether before the cosine the training stimuli's mean is taken off the gallery and ridge's answers, and a model's mean answer
        to them off its answers.
    candidates : str
        Of segments: "test", or "all": those of every recording, so that all folds are searched in one gallery.
    ways : sequence of int
        Also score k-way retrieval among so many random candidates, 30 draws (300 for NSD).
    curve, resolved : bool
        Whether accuracy is also given over averaged repetitions, and over time, channels and frequencies.
    width_s, step_s : float
        Of the parts of time.
    n_panels : int
        Queries shown with what was found.
    bars : sequence of str
        Classical decoders to score beside, of "ridge" and "encoding model" (for stimuli of one vector).
    decoded : str, optional
        Folder for the decoded embeddings of the averaged test trials, one file per model and person, in the format
        `decoded_as` that an image decoder takes (`schema.conditions.FORMATS`).
    seed : int
        Of draws of repetitions and controls.
    """
    if unknown := [b for b in bars if b not in BARS]:
        raise ConfigError(f"bars names '{unknown[0]}': {nearest(unknown[0], BARS)}")
    if candidates not in ("test", "all"):
        raise ConfigError(f"candidates='{candidates}': {nearest(candidates, ('test', 'all'))}")
    out = RetrievalScores(task=task)
    # split → the model beside which its ridge was taught, and through which transforms
    ridges: dict[str, tuple[str, str]] = {}
    found = find_retrievers(runs, task=task, dataset=dataset)
    names = labels_of(found)
    out.kinds = kinds_of(names)
    folds: dict[tuple[str, ...], dict[str, Line]] = defaultdict(dict)
    for folder in found:
        loaded = load_model(folder, allow_import=allow_import)
        corpus = corpus_of(loaded)
        origin = loaded.card["provenance"]
        if corpus.split.hash != origin["split"]["hash"]:
            raise ConfigError(
                f"{folder}: was trained under another split than its data now give; prepare them as they were"
            )
        findings = audit_retriever(loaded, corpus)
        refuse_on_leak(findings, allow_leak=allow_leak)
        out.findings += [f for f in findings if f not in out.findings]
        people = sorted({s.rpartition("/")[2] for card in lineage(origin) for s in card["subjects"]})
        new = teach_new_people(corpus, people)
        if new:
            out.notes.append(f"transforms learned {', '.join(new)} from their own training recordings, without labels")
        embedding = origin["data"]["embedding"]
        chosen = encoder or (embedding if isinstance(embedding, str) else embedding[0])
        stimuli = corpus.stimuli
        assert stimuli is not None
        common = {
            "run_id": run_id, "benchmark": name, "dataset": corpus.dataset.id, "task": task, "part": "test",
            "versions": versions, "leak_reason": allow_leak, "split_hash": corpus.split.hash,
            "test_hash": span_hash([s._asdict() for s in corpus.split["test"]]),
        }  # fmt: skip
        out.looks = record_look(results, **common)
        test = trials_of_part(corpus, "test", loaded.facts, chosen)
        kinds = _kinds(out, stimuli, chosen, galleries, test)
        train = trials_of_part(corpus, "train" if "train" in corpus.split.parts else "pretrain", loaded.facts, chosen)
        label = names[folder]
        ridge = partial(_ridge, rate_hz=_frames(corpus, chosen), centred=centred)
        own_answers = model_decoder(loaded, corpus)
        decoders = {label: about_the_mean(own_answers, train, estimates=False) if centred else own_answers}
        through = hash_of([[t["name"], t["choices"]] for t in loaded.transforms])
        if corpus.split.hash not in ridges:
            ridges[corpus.split.hash] = label, through
            if RIDGE in bars:
                decoders[RIDGE] = ridge(train)
            if ENCODING in bars and kinds != ("segment",):
                if train.values.shape[2] <= MOST_CHANNELS:
                    decoders[ENCODING] = encoding_decoder(train)
                else:
                    out.notes.append(
                        f"no encoding model beside it: the noise of {train.values.shape[2]} channels is too much to invert "
                        f"(at most {MOST_CHANNELS})"
                    )
        elif ridges[corpus.split.hash][1] != through:
            beside = ridges[corpus.split.hash][0]
            out.notes.append(
                f"{label} has transforms of its own; ridge of this split was taught through those of {beside}"
            )
        out.oracle |= {s: by for s, by in _oracle(corpus).items() if s in set(test.subject)}
        for model, decoder in decoders.items():
            decode, place, compared, _ = decoder
            asked, taught = test.placed(place), train.placed(place)
            for subject in sorted(set(test.subject)):
                rule = "new person" if subject in new or subject not in people else "trained on"
                out.kinds[shown_as(model, rule)] = shown_as(out.kind(model), rule)
                own = asked.of(subject)
                for kind in kinds:
                    gallery, answer = _gallery(corpus, chosen, kind, test, everything=candidates == "all")
                    gallery = gallery.placed(place, compared)
                    for mode in averages if kind != "segment" else ("trial",):
                        line = line_of(
                            decoder, own.averaged(mode), gallery, answer, model=model, subject=subject, rule=rule, mode=mode,
                            train=taught, seed=seed,
                        )  # fmt: skip
                        out.lines.append(line)
                        if kind == "segment" and candidates == "all":
                            whose = model if model in BARS else plain_name(loaded.card)
                            folds[whose, subject, rule, gallery.hash, mode].setdefault(corpus.split.hash, line)
                        best = out.oracle.get(subject, {}).get(_repetitions(own, mode), NO_ORACLE)
                        out.rows += append_results(results, rows_of(common, line, centred, loaded, ways, best))
                        yield sentence_of(line), out
                gallery, answer = _gallery(corpus, chosen, kinds[0], test)
                gallery = gallery.placed(place, compared)
                if curve and kinds[0] != "segment":
                    points = curve_over_repetitions(decode, own, gallery, answer, seed=seed)
                    out.curves[shown_as(model, rule), subject] = points
                    mine = [
                        x for x in out.lines if (x.model, x.subject, x.gallery.source) == (model, subject, kinds[0])
                    ]
                    best_of = out.oracle.get(subject, {}) if kinds[0] == "stimulus" else {}
                    append_results(results, curve_rows(common, mine[-1], points, best_of, centred, loaded))
                if decoded is not None and model not in BARS:
                    mean = own.averaged("subject")
                    write_conditions(
                        Path(decoded) / f"{slug(model)}_sub-{slug(subject)}.safetensors", mean.stimulus,
                        reconstructing(loaded, corpus)(mean.values, mean.recording), format=decoded_as,
                        reference=stimuli.files[chosen], source=str(folder.name),
                    )  # fmt: skip
                shown = shown_as(out.kind(model), rule)
                if n_panels > 0 and shown not in out.panels:
                    mean = own.averaged("subject")
                    out.panels[shown] = examples(decode, mean, gallery, answer, n=n_panels)
            # an encoding model would have to be taught anew on each part, and its space with it
            if resolved and model != ENCODING:
                out.resolved[shown_as(model, rule)] = parts_of_signal(
                    decode, asked, gallery, answer, rate_hz=loaded.facts.rate_hz, width_s=width_s,
                    step_s=step_s, names=[channel_name(c) for c in corpus.dataset.channels(test.recording[0])],
                    taught=train, teach=ridge if model == RIDGE else None,
                )  # fmt: skip
    for (whose, *_), by_split in folds.items():
        if len(by_split) > 1:
            line = pooled(whose, list(by_split.values()))
            # one line stands for its folds; theirs stay in the results
            out.lines = [*(x for x in out.lines if all(x is not y for y in by_split.values())), line]
            out.rows += append_results(results, rows_of(common, line, centred, loaded, ways))
            yield sentence_of(line), out


def _ridge(taught: Trials, *, rate_hz: float | None, centred: bool) -> Decoder:
    decoder = ridge_decoder(taught, rate_hz=rate_hz)
    return about_the_mean(decoder, taught, estimates=True) if centred else decoder


def _frames(corpus: Corpus, encoder: str) -> float | None:
    """Rate of an embedding that unfolds in time at the signal's own rate."""
    assert corpus.stimuli is not None
    rate = corpus.stimuli.files[encoder].rate_hz
    own = corpus.dataset.rate_hz(next(iter(corpus.dataset.recordings)))
    return rate if rate is not None and abs(rate - own) < 1e-6 * own else None


def audit_retriever(loaded: LoadedModel, corpus: Corpus) -> list[Finding]:
    """Check the tested trials and stimuli against all that the model, and those it was adapted from, were trained on."""
    origin = loaded.card["provenance"]
    own, *earlier = ([Span(*s) for s in card["split"]["spans"]] for card in lineage(origin))
    adapted = origin.get("role") == "adaptation"
    # spans of a card are joined over trials without a stimulus, so the split says which were trained on
    trained = [s for part, spans in corpus.split.parts.items() if part in ("pretrain", "train") for s in spans]
    return audit(
        train=[*(s for spans in earlier for s in spans), *([] if adapted else [*own, *trained])], test=corpus.split["test"],
        calibration=own if adapted else [], new_stimulus=True, content_of=contents(corpus.dataset, origin),
        subject_of={r: corpus.dataset.subject(r) for r in corpus.dataset.recordings},
    )  # fmt: skip


def _kinds(
    out: RetrievalScores, stimuli: Stimuli, encoder: str, galleries: Sequence[str], test: Trials
) -> tuple[str, ...]:
    """Galleries that can be built; of several, one that lacks its stimuli is left out with a note."""
    if stimuli.files[encoder].rate_hz is not None:
        return ("segment",)
    lonely = lonely_concepts(stimuli, encoder, test.stimulus)
    if len(galleries) == 1 or not lonely:
        return tuple(galleries)
    left = [k for k in galleries if k not in ("class_centre", "other_exemplars")]
    note = (
        f"gallery {', '.join(k for k in galleries if k not in left)} left out: {len(lonely)} tested concepts have no "
        "embedded stimulus but the tested one"
    )
    out.notes += [note] if note not in out.notes else []
    return tuple(left)


def _gallery(
    corpus: Corpus, encoder: str, kind: str, test: Trials, *, everything: bool = False
) -> tuple[Gallery, dict[str, int]]:
    """Gallery, and stimulus (or segment) → its right row."""
    assert corpus.stimuli is not None
    if kind == "segment":
        found = dict(zip(test.stimulus, test.own, strict=True))
        if everything:
            found |= segments_of(corpus, encoder)
        keys = tuple(sorted(found))
        file = corpus.stimuli.files[encoder]
        gallery = Gallery(
            source="segment", keys=keys, vectors=np.stack([found[k] for k in keys]), encoder=encoder,
            embedding_hash=file.hash, embedding=words_of(corpus.stimuli, encoder),
            scope=f"{corpus.stimuli.window_s:g} s each, of the {'whole dataset' if everything else 'test part'}",
        )  # fmt: skip
        return gallery, {k: i for i, k in enumerate(keys)}
    gallery = build_gallery(corpus.stimuli, encoder, test.stimulus, source=kind)
    names = {s: s if kind == "stimulus" else corpus.stimuli.concept_of[s] for s in set(test.stimulus)}
    row = {k: i for i, k in enumerate(gallery.keys)}
    return gallery, {s: row[k] for s, k in names.items()}


def _repetitions(own: Trials, mode: str) -> int:
    """How many trials of a stimulus stand behind an answer; 0 where stimuli differ in that."""
    counts = set(np.unique(own.stimulus, return_counts=True)[1].tolist())
    return 1 if mode == "trial" else counts.pop() if len(counts) == 1 else 0


def _oracle(corpus: Corpus) -> dict[str, dict[int, Tops]]:
    """Top-1 and top-5 of the best decoder by person and repetitions, where a simulator says so."""
    path = Path(corpus.dataset.path) / "stimuli" / "oracle.json"
    if not path.exists():
        return {}
    by_subject = read_json(path)["by_subject"]
    return {s: {int(n): (v["top1"], v["top5"]) for n, v in by.items()} for s, by in by_subject.items()}
