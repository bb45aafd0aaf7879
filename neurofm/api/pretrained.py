"""`neurofm.load("runs/…/model").embed(raw)`: a trained model applied to whatever a user holds."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from neurofm.api.calibration import calibrate, knows
from neurofm.api.channels import match_channels
from neurofm.api.results import Embedding, Prediction
from neurofm.data.in_memory import InMemory
from neurofm.data.loading.loader import WindowLoader
from neurofm.data.splits.parts import whole
from neurofm.data.transforms.base import Compose, transform_from_json
from neurofm.data.windows import sliding
from neurofm.hub.load import LoadedModel, load_model
from neurofm.schema.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    from data_prep.given import Prepared
    from neurofm.api.decode import Decoded
    from neurofm.data.dataset import Dataset
    from neurofm.schema.batch import NeuralBatch
    from neurofm.schema.recording import Channel, Recording

POLICIES = ("error", "drop", "keep")


def load(path: str | Path, *, device: str = "cpu", allow_import: bool = False) -> Pretrained:
    """Load a trained model.

    Parameters
    ----------
    path : str or Path
        ``runs/<name>`` or ``runs/<name>/model``.
    device : str
        Where it computes.
    allow_import : bool
        Whether its card may name classes by import path; only for models of your own.
    """
    return Pretrained(load_model(path, device=device, allow_import=allow_import), device, allow_import)


class Pretrained:
    """A trained model with the preprocessing and transforms that belong to it; made by `load`.

    Attributes
    ----------
    loaded : LoadedModel
        Networks, facts, transforms, card.
    """

    def __init__(self, loaded: LoadedModel, device: str = "cpu", allow_import: bool = False) -> None:
        self.loaded, self.device, self.allow_import = loaded, device, allow_import

    def __repr__(self) -> str:
        facts, name = self.loaded.facts, self.loaded.card["model"]["name"]
        return (
            f"<{name}: windows of {facts.window_s:g} s at {facts.rate_hz:g} Hz, {len(facts.channels)} known channels"
            + (f", {len(facts.classes)} classes>" if facts.classes else ">")
        )

    def embed(
        self,
        raw: Any,
        *,
        rate_hz: float | None = None,
        channel_names: Sequence[str] | None = None,
        unit: str | None = None,
        modality: str | None = None,
        atlas: Any = None,
        labels: Mapping[int, str] | Sequence[str] | None = None,
        stride_s: float | None = None,
        calibration_s: float | None = None,
        channel_policy: str = "error",
        recording_id: str | None = None,
        batch_size: int = 64,
    ) -> Embedding:
        """Return one vector per window of a recording.

        Parameters
        ----------
        raw
            An mne Raw or Epochs, an array [channel, time] or [trial, channel, time], a path to a file that mne opens,
            a NIfTI path or image, or a `Recording`.
        rate_hz, channel_names, unit, modality
            Of an array: samples per second, a name per row, V | mV | uV | T | fT | au (default uV, or fT or au by the
            modality). `modality` also says what EDF channels of unknown kind are.
        atlas, labels
            Of a NIfTI image: label image, and the name of each label.
        stride_s : float, optional
            Step between windows; default their length.
        calibration_s : float, optional
            Transforms learn from the first so many seconds of the recording; default: from all of it, which makes the
            result transductive. Not used where the transforms know the recording already.
        channel_policy : str
            Channels that the model does not know: "error", "drop" them, or "keep" them as channels without a name.
        recording_id : str, optional
            Of a recording that the transforms know from training, to use what they learned then.
        batch_size : int
            Windows per pass.

        Raises
        ------
        ConfigError, DataError
            One sentence on what is missing or does not fit.
        """
        batches, about = self._windows(
            raw, rate_hz=rate_hz, channel_names=channel_names, unit=unit, modality=modality, atlas=atlas, labels=labels,
            stride_s=stride_s, calibration_s=calibration_s, channel_policy=channel_policy, recording_id=recording_id,
            batch_size=batch_size,
        )  # fmt: skip
        return Embedding(vectors=embed_batches(self.loaded, batches, self.device), **about)

    def predict(self, raw: Any, **how: Any) -> Prediction:
        """Return the probability of each class per window; arguments as of `embed`.

        Raises
        ------
        ConfigError
            When the model is not a classifier.
        """
        classes = require_classifier(self.loaded, "predict")
        batches, about = self._windows(raw, **how)
        objective: Any = self.loaded.objective
        logits = _run(lambda b: objective.predict(self.loaded.model, b), batches, self.device)
        keep = {k: about[k] for k in ("start_s", "interval", "transductive", "notes")}
        return Prediction(probabilities=torch.softmax(torch.from_numpy(logits), 1).numpy(), classes=classes, **keep)

    def recording_of(self, raw: Any, *, modality: str | None = None, **given: Any) -> Recording:
        """Return what a user holds as a recording, before any stage; arguments as of `embed`."""
        from data_prep.given import recording_of

        facts = self.loaded.facts
        wanted = f"; the model knows {len(facts.channels)} regions: {', '.join(facts.channels[:3])} …"
        modality = modality or self.loaded.card["prep"].get("source", {}).get("modality")
        return recording_of(raw, modality=modality, wanted=wanted, **given)

    def export(self, folder: str | Path, raw: Any, *, formats: Sequence[str] = ("torch_export",), **how: Any) -> None:
        """Write a decoder for programs without neurofm, for the channels of `raw`; see `neurofm.hub.export`.

        Parameters
        ----------
        folder : path
            Gets ``decoder.pt2`` or ``decoder.onnx``, and ``decoder.json``.
        raw, **how
            A recording of the subject, as for `embed`: its channels are fixed in what is written.
        formats : sequence of str
            "torch_export" and "onnx" (extra `export`).
        """
        from neurofm.hub.export import export_decoder

        batches, about = self._windows(raw, **how)
        export_decoder(
            self.loaded, folder, batch=next(iter(batches)), formats=formats, channel_names=about["channel_names_used"]
        )

    def decode(self, source: Any, **how: Any) -> Decoded:
        """Decode window by window, as in real time; see `neurofm.api.decode.decode`."""
        from neurofm.api.decode import decode

        return decode(self, source, **how)

    def _windows(
        self,
        raw: Any,
        *,
        stride_s: float | None = None,
        calibration_s: float | None = None,
        channel_policy: str = "error",
        recording_id: str | None = None,
        batch_size: int = 64,
        modality: str | None = None,
        **given: Any,
    ) -> tuple[Iterable[NeuralBatch], dict[str, Any]]:
        """Prepare, transform and cut a recording; return its batches and all of an `Embedding` but the vectors."""
        from data_prep.given import prepare_like

        facts, card = self.loaded.facts, self.loaded.card
        if channel_policy not in POLICIES:
            raise ConfigError(f"channel_policy '{channel_policy}' is unknown: {nearest(channel_policy, POLICIES)}")
        recording = self.recording_of(raw, modality=modality, **given)
        stages = stages_of(card)
        prepared = prepare_like(recording, stages=stages, rate_hz=facts.rate_hz, allow_import=self.allow_import)
        transform = Compose(transforms=[transform_from_json(t) for t in self.loaded.transforms])
        key = recording_id or recording.recording_id
        known = knows(transform, key)
        if recording_id is not None and not known:
            raise ConfigError(f"recording_id '{recording_id}' is not one that the model's transforms know")
        held, notes = self._held(
            prepared, key, recording.subject, recording.modality, channel_policy, reorder=not known
        )
        windows = sliding(held, _long_enough(held, key, facts.window_s), window_s=facts.window_s, stride_s=stride_s)
        valid = held.valid(key)
        if card["provenance"].get("task", {}).get("windows") == "trial" and len(valid) > 1:
            # as in training: the first window of each trial
            firsts = {a for a, _ in valid}
            windows = [w for w in windows if w.start_s in firsts]
        transductive, said = calibrate(transform, held, [key], calibration_s=calibration_s)
        starts = np.array([w.start_s for w in windows])
        about = {
            "start_s": starts,
            "interval": np.searchsorted([a for a, _ in valid], starts + 0.5 / facts.rate_hz) - 1,
            "window_s": facts.window_s,
            "rate_hz": facts.rate_hz,
            "channel_names_used": tuple(c["canonical"] or c["name"] for c in held.channels(key)),
            "transductive": transductive,
            "notes": (*prepared.notes, *notes, *said),
        }
        loader = WindowLoader(
            held, windows, batch_size=min(batch_size, len(windows)), transforms=transform, facts=facts,
            shuffle=False,
        )  # fmt: skip
        return loader, about

    def _held(
        self, prepared: Prepared, key: str, subject: str, modality: str, policy: str, *, reorder: bool
    ) -> tuple[InMemory, list[str]]:
        """Match channels to the model's vocabulary; the columns come in its order, unknown ones behind."""
        order, channels, notes = columns_for(self.loaded.facts.channels, prepared.channels, policy, reorder=reorder)
        held = InMemory(
            arrays=[a[:, order] for a in prepared.arrays], rate_hz=self.loaded.facts.rate_hz,
            interval_start_s=prepared.interval_start_s, channels=channels, recording_id=key, subject=subject,
            modality=modality,
        )  # fmt: skip
        return held, notes


def stages_of(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the stages that the model's data were prepared with.

    Raises
    ------
    ConfigError
        When it was trained on several datasets that were prepared differently.
    """
    prep = card["prep"]
    if "stages" not in prep and prep.get("members"):
        raise ConfigError(
            f"the model was trained on datasets prepared by different stages ({', '.join(prep['members'])}), so there is no "
            "one way to prepare a recording for it: run `neurofm prep` with the stages of one of them, then `neurofm embed "
            "checkpoint=… data=…` on the shards"
        )
    return list(prep.get("stages") or [])


def require_classifier(loaded: LoadedModel, what: str) -> tuple[str, ...]:
    """Return the classes that a decoder tells apart; a model without any is refused."""
    classes, name = loaded.facts.classes, loaded.card["objective"]["name"]
    if not loaded.objective.is_classifier or not classes:
        raise ConfigError(f"{what}: this model was trained by '{name}' and knows no classes; fine-tune it on a task")
    return classes


def columns_for(
    vocabulary: Sequence[str], given: Sequence[Channel], policy: str, *, reorder: bool
) -> tuple[list[int], list[dict[str, Any]], list[str]]:
    """Which columns of a recording a model reads, their rows of the channel table, and what was done, in sentences.

    Parameters
    ----------
    vocabulary : sequence of str
        Names that the model knows; empty for converted weights, which read all channels without a name.
    given : sequence of Channel
        The recording's good channels.
    policy : str
        One of `POLICIES`, for channels that the model does not know.
    reorder : bool
        Whether columns come in the order of the vocabulary, unknown ones behind.
    """
    matched = match_channels(given, vocabulary)
    unknown = [c.name for c, m in zip(given, matched, strict=True) if m is None]
    if not vocabulary:
        # converted weights know no channel by name, and read them all
        unknown, policy = [], "keep"
    notes = []
    if unknown:
        listed = ", ".join(unknown[:10]) + (" …" if len(unknown) > 10 else "")
        sentence = f"the model does not know {len(unknown)} of {len(matched)} channels: {listed}"
        if policy == "error" or (policy == "drop" and len(unknown) == len(matched)):
            raise DataError(
                f"{sentence}; {nearest(unknown[0], vocabulary)}; rename them, or pass channel_policy='drop' or 'keep'"
            )
        sentence += "; they were left out" if policy == "drop" else "; they count as channels without a name"
        warnings.warn(sentence, UserWarning, stacklevel=6)
        notes.append(sentence)
    absent = len(vocabulary) - (len(matched) - len(unknown))
    if absent:
        notes.append(f"{absent} of the {len(vocabulary)} channels that the model knows are not in this recording")
    row = {name: i for i, name in enumerate(vocabulary)}
    order = [i for i, m in enumerate(matched) if m is not None or policy == "keep"]
    if reorder:
        order.sort(key=lambda i: row.get(matched[i] or "", len(row)))
    channels = [asdict(replace(given[i], canonical=matched[i] or "")) for i in order]
    for channel in channels:
        if not channel["canonical"] and channel["name"] in row:
            raise DataError(f"two channels are '{channel['name']}' to the model; rename or drop one")
    return order, channels, notes


def embed_batches(loaded: LoadedModel, batches: Iterable[NeuralBatch], device: str = "cpu") -> np.ndarray:
    """Return the pooled tokens of every window, shape (window, dim), float32."""
    model: Any = loaded.model
    return _run(lambda b: model.pool(model(b)), batches, device)


def _run(f: Any, batches: Iterable[NeuralBatch], device: str) -> np.ndarray:
    def outputs() -> Iterator[np.ndarray]:
        with torch.inference_mode():
            for batch in batches:
                yield f(batch.to(device)).float().cpu().numpy()

    return np.concatenate(list(outputs()))


def _long_enough(dataset: Dataset, recording_id: str, window_s: float) -> list[Any]:
    spans = whole(dataset, [recording_id])
    kept = [s for s in spans if s.stop_s - s.start_s >= window_s - 0.5 / dataset.rate_hz(recording_id)]
    if not kept:
        longest = max((s.stop_s - s.start_s for s in spans), default=0.0)
        raise DataError(
            f"the recording's longest valid stretch is {longest:g} s, the model reads windows of {window_s:g} s; "
            "pass a longer one"
        )
    return kept
