"""Splits by trial: every class shared out over the parts, the same way each time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from neurofm.data.dataset import Dataset
from neurofm.data.keyed import keyed_generator
from neurofm.data.splits.parts import whole
from neurofm.data.splits.spans import Span, Split
from neurofm.schema.errors import ConfigError


def by_trial(
    dataset: Dataset,
    *,
    fractions: Mapping[str, float],
    kind: str = "word",
    subject: str | None = None,
    pretrain: str | None = "train",
    seed: int = 0,
) -> Split:
    """Share out the trials of each class over the parts; one span per trial.

    For sets without official parts (Du-IN: 80, 10 and 10 % of the trials of each word). The draw depends on the seed, the
    person and the class alone, so the parts are the same on every machine; which trials they are is written with every
    model that is trained on them.

    Parameters
    ----------
    dataset : Dataset
        With one valid interval per trial.
    fractions : mapping of part to share
        Dealt from the largest to the smallest, of equal ones by name, whatever order they are written in (a card keeps
        them by name); of each class, shares are rounded and the last part takes the rest.
    kind : str
        Kind of the event whose label is the class.
    subject : str, optional
        Only this person's trials; the default is everybody's.
    pretrain : str, optional
        The part that is also called "pretrain", which is what `neurofm train` reads.
    seed : int
        Of the draw.

    Raises
    ------
    ConfigError
        When the fractions are no shares, a class has fewer trials than there are parts, or two trials follow without a gap
        in one interval.
    """
    if not fractions or min(fractions.values()) <= 0 or abs(sum(fractions.values()) - 1) > 1e-9:
        raise ConfigError(f"split rule 'by_trial': fractions {dict(fractions)} must be above 0 and sum to 1")
    if pretrain is not None and pretrain not in fractions:
        raise ConfigError(f"split rule 'by_trial': pretrain is '{pretrain}', which is none of {list(fractions)}")
    recordings = sorted(dataset.recordings) if subject is None else sorted(dataset.select(subject=str(subject)))
    strata: dict[tuple[str, str], list[Span]] = defaultdict(list)
    for span in whole(dataset, recordings):
        inside = [
            e for e in dataset.events(span.recording_id)
            if e["kind"] == kind and span.start_s - 1e-6 <= e["onset_s"] < span.stop_s
        ]  # fmt: skip
        if len(inside) > 1:
            raise ConfigError(
                f"{dataset.path}: recording '{span.recording_id}' has {len(inside)} events of kind '{kind}' in one interval; "
                "prepare it in epochs"
            )
        if inside:
            strata[dataset.subject(span.recording_id), str(inside[0]["label"])].append(span)
    if not strata:
        raise ConfigError(f"{dataset.path}: no trial has an event of kind '{kind}'")
    dealt = sorted(fractions.items(), key=lambda part: (-part[1], part[0]))
    parts: dict[str, list[Span]] = {name: [] for name, _ in dealt}
    for (person, label), trials in sorted(strata.items()):
        if len(trials) < len(fractions):
            raise ConfigError(
                f"{dataset.path}: subject '{person}' has {len(trials)} trials of '{label}', fewer than the "
                f"{len(fractions)} parts"
            )
        order = keyed_generator(seed, "by_trial", person, label).permutation(len(trials))
        at = 0
        for i, (name, share) in enumerate(dealt):
            left = len(fractions) - 1 - i
            # every part gets one at least
            n = len(trials) - at if not left else min(max(round(share * len(trials)), 1), len(trials) - at - left)
            parts[name] += [trials[k] for k in order[at : at + n]]
            at += n
    made = {name: sorted(spans) for name, spans in parts.items()}
    if pretrain is not None:
        made["pretrain"] = made[pretrain]
    about = "everybody" if subject is None else subject
    return Split(
        parts=made, rule=f"by_trial {dict(sorted(fractions.items()))} of {kind}, {about} of {dataset.id}", seed=seed
    )
