"""Splits for retrieval: what is tested was never shown in training, nor anything of its concept."""

from __future__ import annotations

from collections.abc import Sequence

from neurofm.data.dataset import Dataset
from neurofm.data.keyed import keyed_generator
from neurofm.data.splits.parts import check_lengths, cut, length_s, whole
from neurofm.data.splits.spans import Span, Split
from neurofm.schema.errors import ConfigError, DataError, nearest


def zero_shot(
    dataset: Dataset,
    *,
    subject: str | None = None,
    held_out: str | None = None,
    validation_fraction: float = 0.05,
    validation_by: str = "concept",
    budgets: Sequence[int] = (),
    tested_concepts: str = "refuse",
    seed: int = 0,
) -> Split:
    """Official training trials to learn from, official test trials to be scored on, concepts apart.

    Parameters
    ----------
    dataset : Dataset
        Epoched, with official parts "train" and "test"; the label of a trial's event is its concept.
    subject : str, optional
        Only this person, in training and test; default everybody.
    held_out : str, optional
        Leave-one-subject-out: this person is tested, everybody else is trained on.
    validation_fraction : float
        Share of the training stimuli that are kept for stopping early.
    validation_by : str
        "concept": whole concepts are kept; "stimulus": single stimuli (as NICE does, whose validation therefore
        shares its concepts with training).
    budgets : sequence of int
        With `held_out`: their first so many training trials become the parts ``calibration-<n>`` to adapt with.
    tested_concepts : str
        What to do with training trials of a concept that is tested: "refuse", or "drop" them (THINGS-MEG, whose 200
        tested images are of concepts that are trained on too).
    seed : int
        Of the draw.

    Returns
    -------
    Split
        "pretrain" and "train" (the same trials), "validation", "test", and the calibrations.

    Raises
    ------
    DataError
        When a tested concept or stimulus is among those trained on.
    """
    if subject is not None and held_out is not None:
        raise ConfigError("split zero_shot: give subject (trained and tested on one person) or held_out, not both")
    if validation_by not in ("concept", "stimulus"):
        raise ConfigError(f"validation_by is '{validation_by}': {nearest(validation_by, ('concept', 'stimulus'))}")
    if not 0 <= validation_fraction < 1:
        raise ConfigError(f"validation_fraction is {validation_fraction}; expected from 0 to below 1")
    for who in (subject, held_out):
        if who is not None:
            dataset.select(subject=str(who))
    trained = [s for s in dataset.subjects if (subject is None or s == str(subject)) and s != held_out]
    tested = [str(held_out)] if held_out is not None else trained
    if not trained:
        raise ConfigError(f"{dataset.path}: nobody is left to train on")
    train = _with_concept(dataset, dataset.select(part="train", subject=trained))
    test = _with_concept(dataset, dataset.select(part="test", subject=tested))
    if tested_concepts not in ("refuse", "drop"):
        raise ConfigError(f"tested_concepts is '{tested_concepts}': {nearest(tested_concepts, ('refuse', 'drop'))}")
    tested_of, n_dropped = {k[1] for k, _ in test}, 0
    if tested_concepts == "drop":
        apart = [(k, s) for k, s in train if k[1] not in tested_of]
        train, n_dropped = apart, len(train) - len(apart)
        if not train:
            raise DataError(f"{dataset.path}: every training trial is of a concept that is tested; nothing is left")
    for what, index in (("stimulus", 0), ("concept", 1)):
        both = {k[index] for k, _ in train} & {k[index] for k, _ in test} - {""}
        if both:
            raise DataError(
                f"{dataset.path}: {len(both)} tested {what}s are trained on, first '{min(both)}'; this is no zero-shot "
                "split, choose another rule"
            )
    groups = sorted({k[validation_by == "concept"] for k, _ in train})
    n = round(validation_fraction * len(groups))
    held = {groups[i] for i in keyed_generator(seed, "zero_shot").permutation(len(groups))[:n]}
    kept = [s for k, s in train if k[validation_by == "concept"] not in held]
    validation = [s for k, s in train if k[validation_by == "concept"] in held]
    who = f"held out {held_out}" if held_out is not None else (f"subject {subject}" if subject else "everybody")
    parts = {"pretrain": kept, "train": kept, "validation": validation, "test": [s for _, s in test]}
    if budgets:
        if held_out is None:
            raise ConfigError("split zero_shot: budgets are trials of a held-out person; give held_out")
        mine = _with_concept(dataset, dataset.select(part="train", subject=tested))
        own = sorted((s for k, s in mine if tested_concepts == "refuse" or k[1] not in tested_of), key=_in_time)
        if not 0 < min(budgets) <= max(budgets) <= len(own):
            raise ConfigError(f"budgets are {list(budgets)}; subject '{held_out}' has {len(own)} training trials")
        parts |= {f"calibration-{n}": own[:n] for n in budgets}
    return Split(
        parts=parts,
        rule=f"zero_shot of {dataset.id}, {who}, validation by {validation_by}"
        + (f", {n_dropped} training trials of tested concepts dropped" if n_dropped else ""),
        seed=seed,
    )


def folds_of_recordings(dataset: Dataset, *, n_folds: int, fold: int, subject: str | None = None) -> Split:
    """Leave recordings out in turn: number `fold` of `n_folds`, in order, are tested, the others trained on.

    For speech, where a recording is a passage that is heard nowhere else.
    """
    ids = sorted(dataset.select(subject=str(subject)) if subject is not None else dataset.recordings)
    if not 2 <= n_folds <= len(ids) or not 0 <= fold < n_folds:
        raise ConfigError(f"fold {fold} of {n_folds}: there are {len(ids)} recordings; folds count from 0")
    test = [r for i, r in enumerate(ids) if i % n_folds == fold]
    kept = whole(dataset, [r for r in ids if r not in test])
    stimuli = {e["stimulus_id"] for r in test for e in dataset.events(r)} - {""}
    again = {e["stimulus_id"] for s in kept for e in dataset.events(s.recording_id)} & stimuli
    if again:
        raise DataError(f"{dataset.path}: the stimulus '{min(again)}' of fold {fold} is heard in training as well")
    return Split(
        parts={"pretrain": kept, "train": kept, "test": whole(dataset, test)},
        rule=f"folds_of_recordings {fold + 1} of {n_folds} of {dataset.id}",
    )


def folds_in_time(
    dataset: Dataset, *, n_folds: int, fold: int, gap_s: float, validation_after: int | None = None
) -> Split:
    """Cut every recording into `n_folds` equal stretches in time, of which number `fold` is tested.

    For one long stimulus: the answer to a piece of it is predicted from how other pieces were answered. Within `gap_s`
    of the tested stretch nothing is trained on. With `validation_after` the stretch so many after the tested one, round
    the end, is for validation: models ("pretrain") leave it out with the same gap, baselines ("train") do not.
    """
    check_lengths(gap_s=gap_s)
    if n_folds < 2 or not 0 <= fold < n_folds:
        raise ConfigError(f"fold {fold} of {n_folds}: expected two folds or more, and a fold counted from 0")
    if validation_after is not None and not (n_folds > 2 and 1 <= validation_after < n_folds):
        raise ConfigError(f"validation_after={validation_after}: expected 1 to {n_folds - 1}, and three folds or more")
    out = {"test": fold} | ({} if validation_after is None else {"validation": (fold + validation_after) % n_folds})
    parts: dict[str, list[Span]] = {"pretrain": [], "train": [], **{p: [] for p in out}}
    for r in sorted(dataset.recordings):
        total = length_s(dataset, [r])
        places = {p: (total * k / n_folds, total * (k + 1) / n_folds) for p, k in out.items()}
        for part, (a, b) in places.items():
            parts[part] += cut(dataset, [r], a, b)
        for part, left_out in (("train", [places["test"]]), ("pretrain", sorted(places.values()))):
            edges = [0.0, *(t for a, b in left_out for t in (a - gap_s, b + gap_s)), total]
            for start, stop in zip(edges[::2], edges[1::2], strict=True):
                if stop > start:
                    parts[part] += cut(dataset, [r], start, stop)
    return Split(
        parts=parts,
        gap_s=gap_s,
        rule=f"folds_in_time {fold + 1} of {n_folds} of {dataset.id}"
        + ("" if validation_after is None else f", validation {out['validation'] + 1}"),
    )


def _in_time(span: Span) -> tuple[str, float]:
    return span.recording_id, span.start_s


def _with_concept(dataset: Dataset, ids: Sequence[str]) -> list[tuple[tuple[str, str], Span]]:
    """(stimulus, concept) and span of every trial that shows something."""
    made = []
    for r in sorted(ids):
        label = {e["stimulus_id"]: e["label"] for e in dataset.events(r) if e["stimulus_id"]}
        made += [((s.stimulus_id, label[s.stimulus_id]), s) for s in whole(dataset, [r]) if s.stimulus_id]
    if not made:
        raise DataError(
            f"{dataset.path}: no trial of {len(ids)} recordings shows one stimulus; cut trials (stage 'epoch')"
        )
    return made
