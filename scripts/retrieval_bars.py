"""Print the bars of the retrieval datasets: what is known, and what ridge reaches, before any model is scored.

neurofm prep dataset=sim_image_eeg && neurofm prep dataset=naplib_speech && neurofm prep dataset=grasshopper
python scripts/retrieval_bars.py [sim_image_eeg] [naplib_speech] [grasshopper] [sim_meg] [sim_fmri] [sim_fmri_native]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from data_prep.sources.sim_image_model import person_of, world_of
from data_prep.sources.sim_image_oracle import ranks_by_cosine
from neurofm.benchmarks.baselines.ridge_embedding import EmbeddingRidge, LaggedEmbeddingRidge
from neurofm.benchmarks.results import record_script
from neurofm.benchmarks.retrieval.average import counts_up_to, draw_repetitions
from neurofm.benchmarks.retrieval.ranks import retrieve
from neurofm.benchmarks.retrieval.trials import Trials, teach_new_people, trials_of_part
from neurofm.data.corpus import Corpus
from neurofm.data.dataset import Dataset
from neurofm.data.task import Task
from neurofm.schema.embeddings import EmbeddingFile, embedding_path


def sim_image_eeg(path: str = "shards/sim_image_eeg") -> Iterator[str]:
    """Oracle and ridge, trained on the means of a training image's repetitions, within each subject and held out."""
    with open(f"{path}/stimuli/oracle.json", encoding="utf-8") as f:
        oracle = json.load(f)["by_subject"]
    subjects = Dataset(path).subjects
    with open(f"{path}/dataset.json", encoding="utf-8") as f:
        choices = json.load(f)["prep"]["source"]
    world = world_of(choices)
    prior = np.cov(world.features["train"].T)
    for subject in subjects:
        said = []
        for n in (1, 2, 5, 10):
            rng = np.random.default_rng([1, int(subject), n])
            ranks = ranks_by_cosine(person_of(choices, int(subject)), world.features["test"], n, rng, prior)
            said.append(f"n={n}: {(ranks < 1).mean():.3f}/{(ranks < 5).mean():.3f}")
        yield f"sim_image_eeg sub-{subject} true features as well as they can be estimated, by cosine  " + "  ".join(
            said
        )
    everybody = {s: _trials(path, s) for s in subjects}
    for held_out in (False, True):
        for subject in subjects:
            sources = [s for s in subjects if s != subject] if held_out else [subject]
            if not sources:
                continue
            taught = [everybody[s][0].averaged("subject") for s in sources]
            ridge = EmbeddingRidge().fit(*(np.concatenate([getattr(t, k) for t in taught]) for k in ("values", "own")))
            test = everybody[subject][1]
            said = []
            for n in counts_up_to(test.stimulus, test.subject):
                rows = draw_repetitions(test.stimulus, test.subject, n, np.random.default_rng([0, n]))
                mean = test.only(rows).averaged("subject")
                r = retrieve(ridge.predict(mean.values), mean.own, np.arange(len(mean.own)))
                best = oracle[subject].get(str(n), {"top1": float("nan"), "top5": float("nan")})
                said.append(
                    f"n={n}: {r.top[1].value:.3f}/{r.top[5].value:.3f} (best {best['top1']:.3f}/{best['top5']:.3f})"
                )
            rule = "held out" if held_out else "within"
            yield f"sim_image_eeg sub-{subject} {rule:<8} penalty {ridge.penalty:g}  " + "  ".join(said)


def _trials(path: str, subject: str) -> tuple[Trials, Trials]:
    """Training and test trials of a person."""
    split = {"rule": "zero_shot", "subject": subject, "validation_fraction": 0.0}
    corpus = Corpus(
        path=path,
        split=split,
        embedding="truth",
        transforms=[{"name": "mvnn"}],
        task=Task(window_s=0.6, windows="trial"),
    )
    corpus.fit_transforms("train")
    record_script(RESULTS, script="retrieval_bars.py", dataset=corpus.dataset.id, spans=corpus.split["test"])
    train, test = (trials_of_part(corpus, part, corpus.facts(part), "truth") for part in ("train", "test"))
    return train, test


def naplib_speech(path: str = "shards/naplib_speech") -> Iterator[str]:
    """Ridge with 250 ms of lags; each passage is held out in turn; every segment of all passages is a candidate."""
    dataset, file = Dataset(path), EmbeddingFile(embedding_path(path, "auditory128"))
    ids = sorted(dataset.recordings)
    signals = [dataset.read_interval(r, 0) for r in ids]
    heard = [file.read(dataset.events(r)[0]["stimulus_id"])[: len(x)] for r, x in zip(ids, signals, strict=True)]
    for penalty in (1.0, 100.0):
        said = []
        for i in range(len(ids)):
            rest = [j for j in range(len(ids)) if j != i]
            ridge = LaggedEmbeddingRidge(penalty=penalty)
            ridge.fit([signals[j] for j in rest], [heard[j] for j in rest], 100.0)
            said.append((ridge.predict(signals[i]), ridge.y_mean))
        for length in (50, 100, 300):
            for how in ("raw", "bands centred"):
                segments, answers = [], []
                for (p, mean), y in zip(said, heard, strict=True):
                    # the centre is that of the training passages
                    shift = mean if how == "bands centred" else 0.0
                    n = len(y) // length
                    segments.append((p - shift)[: n * length].reshape(n, -1))
                    answers.append((y - shift)[: n * length].reshape(n, -1))
                gallery = np.concatenate(answers)
                r = retrieve(np.concatenate(segments), gallery, np.arange(len(gallery)))
                yield (
                    f"naplib_speech {length / 100:g} s, cosine {how:<13} penalty {penalty:g}: top-1 {r.top[1].value:.3f}, "
                    f"top-5 {r.top[5].value:.3f}, median rank {r.median_rank:g} of {len(gallery)}"
                )


def grasshopper(path: str = "shards/grasshopper") -> Iterator[str]:
    """Ridge from spikes in 1 ms bins to the modulation; consecutive fifths in turn, segments of the run as candidates."""
    dataset, file = Dataset(path, bin_s=0.001), EmbeddingFile(embedding_path(path, "envelope"))
    for r in sorted(dataset.recordings):
        spikes, heard = dataset.read_interval(r, 0), file.read(dataset.events(r)[0]["stimulus_id"])
        edges = np.linspace(0, len(spikes), 6).astype(int)
        said = np.zeros_like(heard)
        for a, b in pairwise(edges):
            pieces = [slice(0, max(0, a - 100)), slice(b + 100, len(spikes))]
            pieces = [p for p in pieces if p.stop - p.start > 200]
            ridge = LaggedEmbeddingRidge(lags_s=(-0.01, 0.05), penalty=10.0)
            ridge.fit([spikes[p] for p in pieces], [heard[p] for p in pieces], 1000.0)
            said[a:b] = ridge.predict(spikes[a:b]) - ridge.y_mean
        correlation = float(np.corrcoef(said[:, 0], heard[:, 0])[0, 1])
        line = []
        for length in (100, 250, 500, 1000):
            n = len(heard) // length
            x, y = (v[: n * length].reshape(n, length) for v in (said[:, 0], heard[:, 0]))
            s = retrieve(x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True), np.arange(n))
            line.append(f"{length} ms: top-1 {s.top[1].value:.3f}, top-5 {s.top[5].value:.3f} of {n}")
        yield f"grasshopper {r}: r {correlation:.3f}  " + "; ".join(line)


def sim_meg(path: str = "shards/sim_meg") -> Iterator[str]:
    """Oracle and ridge of single trials within each person, with and without the clamp."""
    for clamp in (20.0, None):
        for subject in Dataset(path).subjects:
            split = {"rule": "zero_shot", "subject": subject, "validation_fraction": 0.0}
            yield _ridge_line(path, split, "train", subject, window_s=0.6, clamp=clamp)


def sim_fmri(path: str = "shards/sim_fmri") -> Iterator[str]:
    """Oracle and ridge for a new person from their first trials alone, and from everybody else where channels agree."""
    split = {"rule": "zero_shot", "held_out": "06", "validation_fraction": 0.0, "budgets": [20, 60, 200, 1500]}
    parts = [f"calibration-{n}" for n in split["budgets"]]
    for part in [*parts, *([] if "native" in path else ["train"])]:
        yield _ridge_line(path, split, part, "06", window_s=1.0)


def sim_fmri_native(path: str = "shards/sim_fmri_native") -> Iterator[str]:
    """As `sim_fmri`, voxels of each person's own."""
    yield from sim_fmri(path)


def _ridge_line(path: str, split: dict, part: str, subject: str, *, window_s: float, clamp: float | None = 20.0) -> str:
    """Single-trial retrieval of a person's test images by ridge taught with a part of the split."""
    scale = {"name": "robust_scale", "per": "subject", "clamp": clamp}
    corpus = Corpus(
        path=path, split=split, embedding="truth", transforms=[scale], task=Task(window_s=window_s, windows="trial")
    )
    corpus.fit_transforms(part)
    record_script(RESULTS, script="retrieval_bars.py", dataset=corpus.dataset.id, spans=corpus.split["test"])
    teach_new_people(corpus, sorted({corpus.dataset.subject(s.recording_id) for s in corpus.split[part]}))
    train, test = (trials_of_part(corpus, p, corpus.facts(p), "truth") for p in (part, "test"))
    ridge = EmbeddingRidge().fit(train.values, train.own)
    r = retrieve(ridge.predict(test.values), test.own, np.arange(len(test.own)))
    with open(f"{path}/stimuli/oracle.json", encoding="utf-8") as f:
        best = json.load(f)["by_subject"][subject]["1"]
    return (
        f"{path.rsplit('/', 1)[-1]} sub-{subject} ridge of {part} ({len(train.own)} trials), clamp {clamp}, penalty "
        f"{ridge.penalty:g}: top-1 {r.top[1].value:.3f}, top-5 {r.top[5].value:.3f} of {len(test.own)} "
        f"(best {best['top1']:.3f}/{best['top5']:.3f} without outliers)"
    )


RESULTS = "runs"  # where looks at a test part are counted
ALL = ("sim_image_eeg", "naplib_speech", "grasshopper", "sim_meg", "sim_fmri", "sim_fmri_native")

if __name__ == "__main__":
    for name in sys.argv[1:] or ALL:
        for text in globals()[name]():
            print(text, flush=True)
