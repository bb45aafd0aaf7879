"""The retrieval benchmark: every contrastive model found, beside ridge, its controls, the ceiling and the oracle."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurofm.benchmarks.audit import Finding, audit, refuse_on_leak
from neurofm.benchmarks.decoders import contents
from neurofm.benchmarks.results import append_results, record_look, span_hash
from neurofm.benchmarks.retrieval import Retrieval, cosine, ranks_of, retrieve, subsets_of_k, summarise, two_way
from neurofm.benchmarks.retrieval_average import WORDS, counts_up_to, draw_repetitions
from neurofm.benchmarks.retrieval_controls import Control, controls_of, verdict
from neurofm.benchmarks.retrieval_gallery import Gallery, build_gallery, feature_ceiling, words_of
from neurofm.benchmarks.retrieval_resolved import views
from neurofm.benchmarks.retrieval_trials import (
    Decode,
    Trials,
    model_decoder,
    ridge_decoder,
    segments_of,
    teach_new_people,
    trials_of_part,
)
from neurofm.data.collate import channel_name
from neurofm.data.corpus import Corpus
from neurofm.data.spans import Span
from neurofm.hub.load import LoadedModel, load_model
from neurofm.schema.conditions import write_conditions
from neurofm.schema.errors import ConfigError, nearest
from neurofm.schema.hashing import hash_of, read_json
from neurofm.schema.recording import slug
from neurofm.training.reopen import corpus_of

RIDGE = "ridge"
FINEST_DRAWS = 3


@dataclass(frozen=True, kw_only=True)
class Line:
    """One decoder on one person, gallery and averaging.

    Attributes
    ----------
    model, subject, rule : str
        `rule` says whether the person was trained on.
    gallery : Gallery
    mode : str
        "trial" or "subject": what was averaged before decoding.
    scores : Retrieval
    two_way : float
        Mean two-way identification of embeddings.
    controls : dict of str to Control
    verdict : str
        "" or which control it does not beat.
    ceiling : float
        Top-1 with the stimuli's own embeddings.
    """

    model: str
    subject: str
    rule: str
    gallery: Gallery
    mode: str
    scores: Retrieval
    two_way: float
    controls: dict[str, Control]
    verdict: str
    ceiling: float


@dataclass
class RetrievalScores:
    """What an evaluation found; `curves` [model, subject] → repetitions → top-1, `resolved` [model] → (kind, part) → top-1,
    `panels` [model] → (shown, retrieved …) of some queries.
    """  # noqa: D205

    task: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    curves: dict[tuple[str, str], dict[int, float]] = field(default_factory=dict)
    oracle: dict[str, dict[int, float]] = field(default_factory=dict)
    resolved: dict[str, dict[tuple[str, str], float]] = field(default_factory=dict)
    panels: dict[str, list[tuple[str, list[str]]]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    looks: int = 0


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
    n_panels: int = 4, decoded: str | None = None, decoded_as: str = "clip_image_768", seed: int = 0, allow_leak: str = "", allow_import: bool = False, versions: str = "",
) -> Iterator[tuple[str, RetrievalScores]]:  # fmt: skip
    """Score every retriever of `task` under `runs`; yield a line of progress each.

    Parameters
    ----------
    name, runs, results, run_id, dataset, allow_leak, allow_import, versions
        As in `trials.score_trials`.
    task : str
        Only models of this task.
    encoder : str, optional
        Embedding that is searched; default the first that the model was trained on.
    galleries : sequence of str
        "stimulus", "class_centre", "other_exemplars"; of what unfolds in time the gallery is always its segments.
    averages : sequence of str
        What is averaged before decoding: "trial" (nothing), "subject".
    centred : bool
        Whether the training stimuli's mean is subtracted from gallery and answers before the cosine.
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
    decoded : str, optional
        Folder for the decoded embeddings of the averaged test trials, one file per model and person, in the format
        `decoded_as` that an image decoder takes (`schema.conditions.FORMATS`).
    seed : int
        Of draws of repetitions and controls.
    """
    if candidates not in ("test", "all"):
        raise ConfigError(f"candidates='{candidates}': {nearest(candidates, ('test', 'all'))}")
    out = RetrievalScores(task=task)
    ridges: dict[str, Decode] = {}
    found = find_retrievers(runs, task=task, dataset=dataset)
    names = labels_of(found)
    folds: dict[tuple[str, ...], dict[str, Line]] = defaultdict(dict)
    for folder in found:
        loaded = load_model(folder, allow_import=allow_import)
        corpus = corpus_of(loaded)
        origin = loaded.card["provenance"]
        if corpus.split.hash != origin["split"]["hash"]:
            raise ConfigError(
                f"{folder}: was trained under another split than its data now give; prepare them as they were"
            )
        _audit(out, loaded, corpus, allow_leak)
        people = [s.rpartition("/")[2] for s in origin["subjects"]]
        new = teach_new_people(corpus, people)
        if new:
            out.notes.append(f"transforms learned {', '.join(new)} from their own training recordings, without labels")
        embedding = origin["data"]["embedding"]
        chosen = encoder or (embedding if isinstance(embedding, str) else embedding[0])
        common = {
            "run_id": run_id, "benchmark": name, "dataset": corpus.dataset.id, "task": task, "part": "test",
            "versions": versions, "leak_reason": allow_leak, "split_hash": corpus.split.hash,
            "test_hash": span_hash([s._asdict() for s in corpus.split["test"]]),
        }  # fmt: skip
        out.looks = record_look(results, **common)
        test = trials_of_part(corpus, "test", loaded.facts, chosen)
        train = trials_of_part(corpus, "train" if "train" in corpus.split.parts else "pretrain", loaded.facts, chosen)
        centre = train.own.mean(axis=0) if centred else 0.0
        label = names[folder]
        decoders = {label: model_decoder(loaded, corpus)}
        if corpus.split.hash not in ridges:
            ridges[corpus.split.hash] = decoders[RIDGE] = ridge_decoder(train, rate_hz=_frames(corpus, chosen))
        out.oracle |= {s: by for s, by in _oracle(corpus).items() if s in set(test.subject)}
        for model, decode in decoders.items():
            for subject in sorted(set(test.subject)):
                rule = "new person" if subject in new or subject not in people else "trained on"
                own = test.of(subject)
                for kind in (
                    galleries if corpus.stimuli and corpus.stimuli.files[chosen].rate_hz is None else ("segment",)
                ):
                    gallery, answer = _gallery(corpus, chosen, kind, test, everything=candidates == "all")
                    for mode in averages if kind != "segment" else ("trial",):
                        line = _line(
                            model, subject, rule, decode, own.averaged(mode), gallery, answer, mode, centre, train, seed
                        )
                        line = _with_ceiling(line, corpus, test)
                        out.lines.append(line)
                        if kind == "segment" and candidates == "all":
                            whose = RIDGE if model == RIDGE else _plain_label(loaded)
                            folds[whose, subject, rule, gallery.hash, mode].setdefault(corpus.split.hash, line)
                        best = out.oracle.get(subject, {}).get(_repetitions(own, mode), float("nan"))
                        out.rows += append_results(results, _rows(common, line, centred, loaded, model, ways, best))
                        yield _sentence(line), out
                gallery, answer = _gallery(corpus, chosen, "segment" if "@" in own.stimulus[0] else galleries[0], test)
                if curve and "@" not in own.stimulus[0]:
                    out.curves[shown_as(model, rule), subject] = _curve(decode, own, gallery, answer, centre, seed)
                if decoded is not None and model != RIDGE:
                    mean = own.averaged("subject")
                    write_conditions(
                        Path(decoded) / f"{slug(model)}_sub-{slug(subject)}.safetensors", mean.stimulus,
                        decode(mean.values, mean.recording), format=decoded_as,
                        reference=corpus.stimuli.files[chosen] if corpus.stimuli else None, source=str(folder.name),
                    )  # fmt: skip
                _show(out, shown_as(model, rule), decode, own.averaged("subject"), gallery, answer, centre, n_panels)
            if resolved:
                out.resolved[shown_as(model, rule)] = _resolved(
                    model, decode, test, train, gallery, answer, centre, corpus, loaded, chosen, width_s, step_s
                )
    for (whose, *_), by_split in folds.items():
        if len(by_split) > 1:
            line = pooled(whose, list(by_split.values()))
            # one line stands for its folds; theirs stay in the results
            out.lines = [*(x for x in out.lines if all(x is not y for y in by_split.values())), line]
            out.rows += append_results(results, _rows(common, line, centred, loaded, whose, ways))
            yield _sentence(line), out


def labels_of(folders: Sequence[Path]) -> dict[Path, str]:
    """What each model is called: kind and seed, and its run where these are not enough."""
    plain = {f: _plain_name(read_json(f / "card.json")) for f in folders}
    several = {n for n in plain.values() if list(plain.values()).count(n) > 1}
    return {f: f"{n}, {f.parent.name}" if n in several else n for f, n in plain.items()}


def pooled(model: str, folds: Sequence[Line]) -> Line:
    """One line of several folds that were searched in the same gallery: their queries together.

    Hub skewness and the controls are means over folds, the upper ends of controls their largest.
    """
    ranks = np.concatenate([x.scores.ranks for x in folds])
    size = np.array([len(x.scores.ranks) for x in folds]) / len(ranks)
    scores = summarise(ranks, folds[0].scores.n_candidates)
    controls = {
        name: Control(
            float(sum(w * x.controls[name].top1 for w, x in zip(size, folds, strict=True))),
            max(x.controls[name].high for x in folds),
        )
        for name in folds[0].controls
    }
    return replace(
        folds[0], model=model, rule=f"{len(folds)} folds", scores=replace(scores, hubness=float(size @ [x.scores.hubness for x in folds])),
        two_way=float(size @ [x.two_way for x in folds]), ceiling=float(size @ [x.ceiling for x in folds]), controls=controls,
        verdict=verdict(scores.top[1].low, controls),
    )  # fmt: skip


def _plain_label(loaded: LoadedModel) -> str:
    return _plain_name(loaded.card)


def _plain_name(card: Mapping[str, Any]) -> str:
    return f"{card['model']['name']}, seed {card['provenance'].get('seed', 0)}"


def shown_as(model: str, rule: str) -> str:
    """Name in figures: within people and for new ones are two stories."""
    return f"{model}, new person" if rule == "new person" else model


def _frames(corpus: Corpus, encoder: str) -> float | None:
    """Rate of an embedding that unfolds in time at the signal's own rate."""
    assert corpus.stimuli is not None
    rate = corpus.stimuli.files[encoder].rate_hz
    own = corpus.dataset.rate_hz(next(iter(corpus.dataset.recordings)))
    return rate if rate is not None and abs(rate - own) < 1e-6 * own else None


def _audit(out: RetrievalScores, loaded: LoadedModel, corpus: Corpus, allow_leak: str) -> None:
    subject_of = {r: corpus.dataset.subject(r) for r in corpus.dataset.recordings}
    # spans of the card are joined over trials, so the split says which stimuli were trained on
    trained = [s for part, spans in corpus.split.parts.items() if part in ("pretrain", "train") for s in spans]
    stated = [Span(*s) for s in loaded.card["provenance"]["split"]["spans"]]
    findings = audit(
        train=[*stated, *trained], test=corpus.split["test"], calibration=[], subject_of=subject_of, new_stimulus=True,
        content_of=contents(corpus.dataset, loaded.card["provenance"]),
    )  # fmt: skip
    refuse_on_leak(findings, allow_leak=allow_leak)
    out.findings += [f for f in findings if f not in out.findings]


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


def _line(
    model: str, subject: str, rule: str, decode: Decode, trials: Trials, gallery: Gallery, answer: dict[str, int], mode: str,
    centre: NDArray | float, train: Trials, seed: int,
) -> Line:  # fmt: skip
    target = np.array([answer[s] for s in trials.stimulus])
    said, candidates = decode(trials.values, trials.recording) - centre, gallery.vectors - centre
    scores = retrieve(said, candidates, target, unit=np.array(trials.stimulus))
    controls = controls_of(decode, trials, candidates, target, centre=centre, train=train, seed=seed)
    # with many trials of one stimulus the distractors would be the same item
    mean = trials.averaged("everybody")
    pairs = (
        two_way(decode(mean.values, mean.recording) - centre, mean.own - centre)
        if len(set(mean.stimulus)) > 1
        else [0.5]
    )
    return Line(
        model=model, subject=subject, rule=rule, gallery=gallery, mode=mode, scores=scores, controls=controls,
        two_way=float(np.mean(pairs)), verdict=verdict(scores.top[1].low, controls), ceiling=float("nan"),
    )  # fmt: skip


def _with_ceiling(line: Line, corpus: Corpus, test: Trials) -> Line:
    assert corpus.stimuli is not None
    if line.gallery.source == "segment":
        # the answer is in the gallery; only equal segments could be confused
        own = dict(zip(test.stimulus, test.own, strict=True))
        rows = line.gallery.index(list(own))
        return replace(line, ceiling=retrieve(np.stack(list(own.values())), line.gallery.vectors, rows).top[1].value)
    return replace(line, ceiling=feature_ceiling(line.gallery, corpus.stimuli, test.stimulus).top[1].value)


def _repetitions(own: Trials, mode: str) -> int:
    """How many trials of a stimulus stand behind an answer; 0 where stimuli differ in that."""
    counts = set(np.unique(own.stimulus, return_counts=True)[1].tolist())
    return 1 if mode == "trial" else counts.pop() if len(counts) == 1 else 0


def _curve(
    decode: Decode, own: Trials, gallery: Gallery, answer: dict[str, int], centre: NDArray | float, seed: int
) -> dict[int, float]:
    found = {}
    for n in counts_up_to(own.stimulus, own.subject):
        scores = []
        for draw in range(FINEST_DRAWS):
            rows = draw_repetitions(own.stimulus, own.subject, n, np.random.default_rng([seed, n, draw]))
            mean = own.only(rows).averaged("subject")
            said = decode(mean.values, mean.recording) - centre
            target = np.array([answer[s] for s in mean.stimulus])
            scores.append(retrieve(said, gallery.vectors - centre, target).top[1].value)
        found[n] = float(np.mean(scores))
    return found


def _resolved(
    model: str, decode: Decode, test: Trials, train: Trials, gallery: Gallery, answer: dict[str, int],
    centre: NDArray | float, corpus: Corpus, loaded: LoadedModel, chosen: str, width_s: float, step_s: float,
) -> dict[tuple[str, str], float]:  # fmt: skip
    """Top-1 on parts of the signal: a model sees zeros elsewhere, ridge is fitted anew on the part."""
    names = [channel_name(c) for c in corpus.dataset.channels(test.recording[0])]
    mean = test.averaged("subject")
    target = np.array([answer[s] for s in mean.stimulus])
    rate = loaded.facts.rate_hz
    seen = views(mean.values, rate, names, width_s=width_s, step_s=step_s)
    taught = train.averaged("subject")
    learned = views(taught.values, rate, names, width_s=width_s, step_s=step_s) if model == RIDGE else {}
    found = {}
    for part, values in seen.items():
        answerer = decode
        if model == RIDGE:
            answerer = ridge_decoder(replace(taught, values=learned[part]), rate_hz=_frames(corpus, chosen))
        said = answerer(values, mean.recording) - centre
        found[part] = retrieve(said, gallery.vectors - centre, target).top[1].value
    return found


def _show(
    out: RetrievalScores, model: str, decode: Decode, mean: Trials, gallery: Gallery, answer: dict[str, int],
    centre: NDArray | float, n: int,
) -> None:  # fmt: skip
    """Keep some queries and the first five found: evenly over ranks, so that failures are shown as well."""
    if model in out.panels or n < 1:
        return
    similarity = cosine(decode(mean.values, mean.recording) - centre, gallery.vectors - centre)
    ranks = ranks_of(similarity, np.array([answer[s] for s in mean.stimulus]))
    order = np.argsort(ranks, kind="stable")[np.linspace(0, len(ranks) - 1, min(n, len(ranks))).round().astype(int)]
    out.panels[model] = [
        (mean.stimulus[i], [gallery.keys[k] for k in np.argsort(-similarity[i], kind="stable")[:5]])
        for i in order.tolist()
    ]


def _oracle(corpus: Corpus) -> dict[str, dict[int, float]]:
    """What the best decoder reaches, where a simulator says so."""
    path = Path(corpus.dataset.path) / "stimuli" / "oracle.json"
    if not path.exists():
        return {}
    return {s: {int(n): v["top1"] for n, v in by.items()} for s, by in read_json(path)["by_subject"].items()}


def _rows(
    common: dict[str, Any],
    line: Line,
    centred: bool,
    loaded: LoadedModel,
    model: str,
    ways: Sequence[int],
    best: float = float("nan"),
) -> list[dict[str, Any]]:
    about = {
        **common, "subject": line.subject, "model": line.model, "strategy": line.rule, "baseline": model == RIDGE,
        "seed": -1 if model == RIDGE else int(loaded.card["provenance"].get("seed", 0)), "n": len(line.scores.ranks), "checkpoint_hash": "" if model == RIDGE else loaded.card["weights"]["sha256"],
        "protocol_hash": hash_of([line.gallery.hash, line.mode, centred]),
        "note": f"{line.gallery.sentence()}; {WORDS[line.mode]}{'; about the training mean' if centred else ''}",
    }  # fmt: skip
    rows = [
        {
            **about,
            "metric": f"top{k}",
            "value": i.value,
            "low": i.low,
            "high": i.high,
            "ceiling": best if k == 1 and line.gallery.source == "stimulus" else float("nan"),
        }
        for k, i in line.scores.top.items()
    ]
    for k in ways:
        draws = subsets_of_k(line.scores.ranks, line.scores.n_candidates, k=k)
        low, high = np.quantile(draws, [0.025, 0.975])
        rows.append({**about, "metric": f"top1_of_{k}", "value": float(draws.mean()), "low": low, "high": high})
    for metric, value in (
        ("median_rank", line.scores.median_rank), ("mrr", line.scores.mrr), ("two_way", line.two_way),
        ("hubness", line.scores.hubness), ("feature_ceiling", line.ceiling),
        *((f"control: {k}", c.top1) for k, c in line.controls.items()),
    ):  # fmt: skip
        rows.append({**about, "metric": metric, "value": value})
    return rows


def _sentence(line: Line) -> str:
    top = "  ".join(f"top-{k} {i.value:.3f}" for k, i in line.scores.top.items())
    lost = f"  [{line.verdict}]" if line.verdict else ""
    return (
        f"sub-{line.subject:<6} {line.rule:<10} {line.model:<24} {line.gallery.source}, {len(line.gallery.keys)} candidates, "
        f"{line.mode:<8} {top}  median rank {line.scores.median_rank:g}{lost}"
    )
