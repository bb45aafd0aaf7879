"""Splits by person: who is trained on, who is tested, and what a tested person may be calibrated on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neurofm.data.dataset import Dataset
from neurofm.data.keyed import keyed_generator
from neurofm.data.splits.parts import by_label, check_lengths, cut, length_s, whole
from neurofm.data.splits.spans import Span, Split
from neurofm.schema.errors import ConfigError, nearest


def by_subject(
    dataset: Dataset,
    *,
    test: int | Sequence[str],
    validation: int | Sequence[str] = 0,
    seed: int = 0,
    subject: str | None = None,
    budgets_s: Sequence[float] | Mapping[str, float] | None = None,
    test_s: float | None = None,
    gap_s: float = 0.0,
) -> Split:
    """Give each person to one part; no person is in two.

    Parameters
    ----------
    dataset : Dataset
        All people.
    test, validation : int or sequence of str
        How many, drawn by the seed, or who. Everybody else is trained on.
    seed : int
        Of the draw; neither the order of files nor `subject` changes it.
    subject : str, optional
        One of the tested people, to be calibrated on: the first seconds of valid data, by budget, then a gap, and the
        test at the end. Those trained on stay the same, so one pretrained model serves every tested person.
    budgets_s : sequence or mapping of label to seconds
        Calibration budgets; used with `subject`.
    test_s, gap_s : float
        Length of the test at the end of the person's data (default: all after the longest budget and the gap), and
        least time before it.

    Returns
    -------
    Split
        Parts "pretrain" and "train", which are the same spans, "validation", and "test"; with `subject`, "pretrain",
        "validation", "calibration-<label>" for each budget, and "test".

    Raises
    ------
    ConfigError
        When somebody is unknown or in two parts, nobody is left to train on, or a person has too little data.
    """
    people = dataset.subjects
    order = [people[i] for i in keyed_generator(seed, "by_subject").permutation(len(people))]
    tested = _chosen(order, test, "test", people)
    rest = [p for p in order if p not in tested]
    held = _chosen(rest, validation, "validation", people)
    trained = [p for p in people if p not in tested and p not in held]
    if not tested or not trained:
        raise ConfigError(
            f"{dataset.path}: {len(tested)} of {len(people)} people are tested and {len(trained)} are left to train on; "
            "both need at least one"
        )
    parts = {"pretrain": _whole(dataset, trained), "validation": _whole(dataset, held) if held else []}
    rule = f"by_subject of {dataset.id}, {len(trained)} trained on, {len(tested)} tested"
    if subject is None:
        parts = {**parts, "train": parts["pretrain"], "test": _whole(dataset, tested)}
        return Split(parts=parts, rule=rule, seed=seed)
    subject = str(subject)
    if subject not in tested:
        raise ConfigError(f"{dataset.path}: subject '{subject}' is not one of the tested: {nearest(subject, tested)}")
    budgets = by_label(budgets_s)
    check_lengths(gap_s=gap_s, test_s=test_s, budgets_s=budgets)
    parts |= _calibrated(dataset, subject, budgets, test_s, gap_s)
    return Split(parts=parts, gap_s=gap_s, rule=f"{rule}, calibrated on {subject}", seed=seed)


def within_subject(
    dataset: Dataset,
    *,
    test_s: float,
    gap_s: float,
    subject: str | None = None,
    budgets_s: Sequence[float] | Mapping[str, float] | None = None,
) -> Split:
    """Pretrain on everybody's early time, unlabelled; label the first seconds of one person and test on what came later.

    The end of nobody's recordings is pretrained on, so one pretrained model serves every person.

    Parameters
    ----------
    dataset : Dataset
        All people.
    test_s, gap_s : float
        Length of the test at the end of each person's valid time, and least time before it.
    subject : str, optional
        Whose labels are there, and who is tested; None: everybody is tested and nobody has labels.
    budgets_s : sequence or mapping of label to seconds
        The first so many seconds, which pretraining has met as well, without labels; used with `subject`.

    Returns
    -------
    Split
        Parts "pretrain", "calibration-<label>" for each budget and "test".

    Raises
    ------
    ConfigError
        When a person is unknown or has too little data, the gap is below 0, or the test or a budget holds nothing.
    """
    people = dataset.subjects
    if subject is not None and str(subject) not in people:
        raise ConfigError(f"{dataset.path}: there is no subject '{subject}': {nearest(str(subject), people)}")
    budgets = by_label(budgets_s) if subject is not None else {}
    if subject is not None and not budgets:
        raise ConfigError(f"subject '{subject}' is to be calibrated on, but budgets_s is empty; give seconds")
    check_lengths(gap_s=gap_s, test_s=test_s, budgets_s=budgets)
    parts: dict[str, list[Span]] = {"pretrain": [], **{f"calibration-{label}": [] for label in budgets}, "test": []}
    for person in people:
        ids = dataset.select(subject=person)
        total = length_s(dataset, ids)
        early = total - gap_s - test_s
        if early <= max(budgets.values() if person == str(subject) else (), default=0.0) - 1e-9:
            raise ConfigError(
                f"subject '{person}' has {total:g} s, less than gap {gap_s:g} + test {test_s:g} s and what comes before them"
            )
        parts["pretrain"] += cut(dataset, ids, 0.0, early)
        if subject is None or person == str(subject):
            parts["test"] += cut(dataset, ids, total - test_s, total)
            for label, seconds in budgets.items():
                parts[f"calibration-{label}"] = cut(dataset, ids, 0.0, seconds)
    rule = f"within_subject of {dataset.id}"
    return Split(parts=parts, gap_s=gap_s, rule=rule if subject is None else f"{rule}, calibrated on {subject}")


def _calibrated(
    dataset: Dataset, subject: str, budgets: dict[str, float], test_s: float | None, gap_s: float
) -> dict[str, list[Span]]:
    ids = dataset.select(subject=subject)
    total, longest = length_s(dataset, ids), max(budgets.values(), default=0.0)
    if not budgets:
        raise ConfigError(f"subject '{subject}' is to be calibrated on, but budgets_s is empty; give seconds")
    left = total - longest - gap_s
    length = left if test_s is None else float(test_s)
    if not 0 < length <= left * (1 + 1e-9):
        raise ConfigError(
            f"subject '{subject}' has {total:g} s, less than budget {longest:g} + gap {gap_s:g} + test {length:g} s"
        )
    parts = {f"calibration-{label}": cut(dataset, ids, 0.0, seconds) for label, seconds in budgets.items()}
    return {**parts, "test": cut(dataset, ids, total - length, total)}


def _whole(dataset: Dataset, people: Sequence[str]) -> list[Span]:
    return whole(dataset, sorted(dataset.select(subject=list(people))))


def _chosen(order: Sequence[str], wanted: int | Sequence[str], part: str, known: Sequence[str]) -> list[str]:
    if isinstance(wanted, int):
        if not 0 <= wanted <= len(order):
            raise ConfigError(f"{part} is {wanted}; there are {len(order)} people to choose from")
        return sorted(order[:wanted])
    names = [str(w) for w in wanted]
    for name in names:
        if name not in known:
            raise ConfigError(f"{part}: there is no subject '{name}': {nearest(name, known)}")
        if name not in order:
            raise ConfigError(f"{part}: subject '{name}' is in the test part too; a person belongs to one part")
    return sorted(set(names))
