"""Finding the decoders that `neurofm finetune` left behind, and letting them answer a protocol's questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neurofm.adapt.new_subject import CALIBRATION
from neurofm.benchmarks.guards.audit import Finding, audit
from neurofm.data.corpus import Corpus
from neurofm.data.dataset import Dataset
from neurofm.data.splits.spans import Span
from neurofm.hub.load import LoadedModel, load_model
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.hashing import read_json
from neurofm.training.reopen import corpus_of

# windows per forward pass
CHUNK = 64
# of the gap that a split promises between parts
ROUNDING_S = 1e-6


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """One adapted model and the data it is to be scored on.

    Attributes
    ----------
    loaded : LoadedModel
        In evaluation mode.
    corpus : Corpus
        Its data through its own fitted transforms.
    subject, strategy, budget : str
        Whose ("10 people" where the test part is of several), how it was adapted, and on which calibration part.
    seed : int
        Of the adaptation.
    """

    loaded: LoadedModel
    corpus: Corpus
    subject: str
    strategy: str
    budget: str
    seed: int

    @property
    def test(self) -> list[Span]:
        """The test part; only evaluation asks for it."""
        return self.corpus.split["test"]

    @property
    def trained_on(self) -> list[Span] | None:
        """What its pretraining saw; empty for one from scratch, None when its card does not say."""
        if "pretrained" not in self.loaded.card["provenance"]:
            return None
        return [s for before in self._before() for s in _spans(before)]

    @property
    def calibrated_on(self) -> list[Span]:
        """What its adaptation and its transforms saw."""
        return _spans(self.loaded.card["provenance"])

    @property
    def volumes(self) -> int:
        """Length of its calibration in samples of the recording, whatever the budget is called."""
        rate_hz = self.corpus.dataset.rate_hz
        return sum(round((s.stop_s - s.start_s) * rate_hz(s.recording_id)) for s in self.calibrated_on)

    def _before(self) -> list[Mapping[str, Any]]:
        """What its card says of the model it was adapted from, then of the one that came from, and so on."""
        return list(lineage(self.loaded.card["provenance"]))[1:]


def lineage(provenance: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield what a card says of the model itself, then of the one it was adapted from, and so on."""
    known: Mapping[str, Any] | None = provenance
    while known:
        yield known
        known = known.get("pretrained")


def contents(dataset: Dataset, provenance: Mapping[str, Any]) -> dict[str, str]:
    """Recording → fingerprint of its values, of a dataset and of all that a card and those before it name."""
    found: dict[str, str] = {}
    for card in lineage(provenance):
        found = {**card.get("content", {}), **found}
    return found | {r: h for r in dataset.recordings if (h := dataset.content(r))}


def audit_decoder(decoder: Decoder, **promises: Any) -> list[Finding]:
    """Check a decoder's test part against all that it and its pretraining have seen.

    Recordings are compared by their values as well, so that a copy under another name is found. `promises` are those of
    `audit.audit`: new_subject, new_stimulus, chronological. The gap is the one that its split promises.
    """
    own = decoder.loaded.card["provenance"]
    return _audited(decoder.corpus, own, decoder._before(), train=decoder.trained_on, calibration=decoder.calibrated_on,
                    **promises)  # fmt: skip


def audit_start(checkpoint: LoadedModel, corpus: Corpus) -> list[Finding]:
    """Find what `audit_decoder` will find in any decoder adapted from `checkpoint` on a corpus, before one is.

    The tested people must be new where the split calibrates on them (parts "calibration-…"); tested time always.
    """
    own, parts = checkpoint.card["provenance"], corpus.split.parts
    if not parts.get("test") or "split" not in own:
        return []
    before = list(lineage(own))
    return _audited(
        corpus, own, before, train=[s for card in before for s in _spans(card)],
        new_subject=any(p.startswith(CALIBRATION) for p in parts),
    )  # fmt: skip


def _audited(
    corpus: Corpus,
    own: Mapping[str, Any],
    before: Sequence[Mapping[str, Any]],
    *,
    train: list[Span] | None,
    **choices: Any,
) -> list[Finding]:
    """Audit a corpus's test part against what the cards `before` saw; contents are those that the card `own` leads to."""
    dataset = corpus.dataset
    named = (str(s).rpartition("/") for card in before for s in card["subjects"])
    return audit(
        train=train, test=corpus.split["test"], content_of=contents(dataset, own),
        train_subjects=sorted({subject for whose, _, subject in named if whose == dataset.id}),
        subject_of={r: dataset.subject(r) for r in dataset.recordings}, gap_s=max(0.0, corpus.split.gap_s - ROUNDING_S),
        **choices,
    )  # fmt: skip


def _spans(card: Mapping[str, Any]) -> list[Span]:
    return [Span(*s) for s in card["split"]["spans"]]


def find_decoders(runs: str | Path, *, task: str, dataset: str | None = None) -> list[Path]:
    """Model folders under `runs` that were adapted to `task`, sorted.

    Raises
    ------
    ConfigError
        When there are none.
    """
    found = []
    for card_path in sorted(Path(runs).glob("**/card.json")):
        origin = read_json(card_path).get("provenance", {})
        if origin.get("role") != "adaptation" or origin.get("task", {}).get("name") != task:
            continue
        if dataset is None or any(d["id"] == dataset for d in origin["datasets"]):
            found.append(card_path.parent)
    if not found:
        raise ConfigError(f"{runs}: holds no decoder for task '{task}'; make some with `neurofm finetune checkpoint=…`")
    return found


def people_of(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """Whose decoders they are → their folders; "" where one is of several people."""
    found: dict[str, list[Path]] = {}
    for folder in folders:
        whose = read_json(folder / "card.json")["provenance"]["subjects"]
        found.setdefault(str(whose[0]).rpartition("/")[2] if len(whose) == 1 else "", []).append(folder)
    return dict(sorted(found.items()))


def strategy_of(folder: Path) -> str:
    """How the decoder in a folder was adapted."""
    return str(read_json(folder / "card.json")["provenance"]["strategy"])


def by_strategy(runs: str | Path, *, task: str, dataset: str | None = None) -> dict[str, list[Path]]:
    """Folders of all decoders of a task under `runs`, by their strategy."""
    folders = find_decoders(runs, task=task, dataset=dataset)
    refuse_mixtures(folders)
    return {s: [f for f in folders if strategy_of(f) == s] for s in sorted(set(map(strategy_of, folders)))}


def arms_of(
    name: str, arms: Mapping[str, Mapping[str, str]], *, task: str, dataset: str | None = None
) -> dict[str, list[Path]]:
    """Folders of decoders of every arm of a benchmark, ``{name: {"runs": folder, "strategy": name}}``.

    Raises
    ------
    ConfigError
        When an arm is written otherwise, or holds no decoder of its strategy.
    """
    found = {}
    for arm, where in arms.items():
        if set(where) != {"runs", "strategy"}:
            raise ConfigError(f"benchmark '{name}': arm '{arm}' has {sorted(where)}; expected runs and strategy")
        folders = find_decoders(where["runs"], task=task, dataset=dataset)
        found[arm] = [f for f in folders if strategy_of(f) == where["strategy"]]
        if not found[arm]:
            raise ConfigError(f"{where['runs']}: holds no decoder of strategy '{where['strategy']}' for arm '{arm}'")
        refuse_mixtures(found[arm])
    return found


def refuse_mixtures(folders: Sequence[Path]) -> None:
    """Refuse decoders that must not be averaged.

    Two of the same subject, strategy, budget and seed would pass for one; two recipes under one strategy for one model.

    Raises
    ------
    ConfigError
        The message names both folders.
    """
    seen: dict[tuple[Any, ...], Path] = {}
    recipes: dict[str, tuple[Any, Path]] = {}
    for folder in folders:
        card = read_json(folder / "card.json")
        origin = card["provenance"]
        recipe, first = recipes.setdefault(origin["strategy"], ((card["model"], card["objective"]), folder))
        if recipe != (card["model"], card["objective"]):
            raise ConfigError(
                f"{first} and {folder} are of the same strategy '{origin['strategy']}' but differ in model or objective; "
                "give the benchmark a folder of one recipe with runs=…"
            )
        key = (tuple(origin["subjects"]), origin["strategy"], str(origin["budget"]), origin["seed"])
        if key in seen:
            raise ConfigError(
                f"{seen[key]} and {folder} are decoders of the same subject, strategy, budget and seed; remove one, or "
                "give the benchmark a narrower folder with runs=…"
            )
        seen[key] = folder


def open_decoder(folder: Path, *, allow_import: bool = False) -> Decoder:
    """Load one decoder; the split it was made with is made again and must have the same hash."""
    loaded = load_model(folder, allow_import=allow_import)
    origin = loaded.card["provenance"]
    corpus = corpus_of(loaded)
    if corpus.split.hash != origin["split"]["hash"]:
        raise ConfigError(
            f"{folder}: was adapted under split {origin['split']['hash']}, the data now give {corpus.split.hash}; "
            "prepare the dataset it was made from, or adapt again"
        )
    people = sorted({corpus.dataset.subject(s.recording_id) for s in corpus.split["test"]})
    subject = people[0] if len(people) == 1 else f"{len(people)} people"
    return Decoder(
        loaded=loaded, corpus=corpus, subject=subject, strategy=origin["strategy"], budget=str(origin["budget"]),
        seed=int(origin["seed"]),
    )  # fmt: skip


class RegionPredictor:
    """A decoder of hidden regions or next volumes as the callables that `adapted.protocols` asks."""

    def __init__(self, decoder: Decoder, recording_id: str) -> None:
        self.decoder, self.recording_id = decoder, recording_id
        self.model, self.objective = decoder.loaded.model, decoder.loaded.objective

    def batches(self, values: NDArray[np.float64]) -> Sequence[NeuralBatch]:
        """Cut windows (window, time, region) into batches."""
        corpus, facts = self.decoder.corpus, self.decoder.loaded.facts
        return [
            corpus.as_batch(values[i : i + CHUNK].astype(np.float32), self.recording_id, facts)
            for i in range(0, len(values), CHUNK)
        ]

    @torch.inference_mode()
    def masked(self, values: NDArray[np.float64], hidden: int) -> NDArray[np.float64]:
        """Estimate the hidden region, (window, time)."""
        said = []
        for batch in self.batches(np.nan_to_num(values)):
            mask = torch.zeros_like(batch.channel_mask)
            mask[:, hidden] = True
            said.append(self.objective.predict(self.model, batch, mask)[:, hidden].numpy())  # type: ignore[call-arg]
        return np.concatenate(said)

    @torch.inference_mode()
    def masked_by_skip(self, values: NDArray[np.float64], hidden: int) -> NDArray[np.float64]:
        """Answer as `masked` does, with the closed-form part of the objective alone."""
        said = []
        for batch in self.batches(np.nan_to_num(values)):
            visible = batch.channel_mask.clone()
            visible[:, hidden] = False
            said.append(self.objective.skip(batch.signal, visible, batch)[:, hidden].numpy())  # type: ignore[operator]
        return np.concatenate(said)

    @torch.inference_mode()
    def next(self, history: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predict the volume after each history (window, context, region) → (window, region)."""
        # the volume to be predicted has to be there for its shape; a causal model cannot see it
        longer = np.concatenate([history, np.zeros_like(history[:, :1])], axis=1)
        said = [self.objective.predict(self.model, b)[..., -1].numpy() for b in self.batches(longer)]
        return np.concatenate(said)

    @torch.inference_mode()
    def roll_out(self, history: NDArray[np.float64], n_steps: int) -> NDArray[np.float64]:
        """Continue each history (window, context, region) by (window, n_steps, region), feeding volumes back."""
        said = [self.objective.rollout(self.model, b, n_steps).mT.numpy() for b in self.batches(history)]
        return np.concatenate(said)

    @torch.inference_mode()
    def next_by_skip(self, history: NDArray[np.float64]) -> NDArray[np.float64]:
        """Answer as `next` does, with the closed-form part of the objective alone."""
        batches = self.batches(history)
        said = [self.objective.skip(b.signal, b.channel_mask, b)[..., -1].numpy() for b in batches]  # type: ignore[operator]
        return np.concatenate(said)


@torch.inference_mode()
def said_of(decoder: Decoder, part: str) -> tuple[torch.Tensor, NDArray[np.int64]]:
    """What the head says of the windows of a part and their targets, (W, class) and (W,), in the order of `Corpus.cut`."""
    facts = decoder.loaded.facts
    loader = decoder.corpus.loader(part, facts, batch_size=CHUNK, seed=0, training=False)
    logits = torch.full((len(loader.reader), len(facts.classes)), torch.nan)
    target = np.full(len(logits), -1)
    for batch in loader:
        assert batch.sample_id is not None
        assert batch.target is not None
        # windows of different channel counts come in groups
        logits[batch.sample_id] = decoder.loaded.objective.predict(decoder.loaded.model, batch)
        target[batch.sample_id.numpy()] = batch.target.numpy()
    if loader.skipped:
        raise DataError(f"part '{part}' cannot be scored whole: {loader.skipped[0]}")
    return logits, target


def logits_of(decoder: Decoder, part: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Log-probabilities of the windows of a part, (trial, class), and their targets in the same order."""
    logits, target = said_of(decoder, part)
    return logits.log_softmax(-1).double().numpy(), target
