"""A decoder that takes a signal block by block, as a device sends it, and answers window by window."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from neurofm.api.calibration import knows
from neurofm.api.pretrained import POLICIES, Pretrained, columns_for, require_classifier, stages_of
from neurofm.data.in_memory import InMemory
from neurofm.data.loading.loader import WindowLoader
from neurofm.data.splits.parts import whole
from neurofm.data.transforms.base import Compose, transform_from_json
from neurofm.data.windows import Window
from neurofm.schema.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    from data_prep.live import Block, Chain
    from data_prep.stages.base import SignalInfo
    from neurofm.schema.batch import NeuralBatch


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was decoded from one window.

    Attributes
    ----------
    start_s : float
        Start of the window on the source's clock.
    interval : int
        Of the source that it lies in.
    behind_s : float
        Signal that had arrived after the window's last sample when it was decoded: blocks and filters that wait.
    compute_s : float
        From the arrival of the block to the answer.
    probabilities : ndarray, shape (class,)
    """

    start_s: float
    interval: int
    behind_s: float
    compute_s: float
    probabilities: np.ndarray = field(repr=False)


class LiveDecoder:
    """Stages in their causal form, transforms, and a classifier over the last window, every `stride_s`.

    Parameters
    ----------
    pretrained : Pretrained
        A classifier.
    info : SignalInfo
        Rate and channels of what will be pushed.
    stride_s : float, optional
        Between two answers; default the window's length.
    calibration_s : float, optional
        Transforms that must learn a new recording learn from its first so many seconds, during which nothing is
        decoded; needed unless they know it.
    channel_policy, recording_id
        As in `Pretrained.embed`.
    subject, modality : str
        Of the recording.

    Attributes
    ----------
    notes : list of str
        What was done, in sentences.
    delay_s : float
        How long the stages wait for later samples, all together.

    Raises
    ------
    ConfigError
        When the model is no classifier, a stage has no causal form, or transforms could never learn.
    """

    def __init__(
        self,
        pretrained: Pretrained,
        info: SignalInfo,
        *,
        stride_s: float | None = None,
        calibration_s: float | None = None,
        channel_policy: str = "error",
        recording_id: str | None = None,
        subject: str = "given",
        modality: str = "eeg",
    ) -> None:
        if channel_policy not in POLICIES:
            raise ConfigError(f"channel_policy '{channel_policy}' is unknown: {nearest(channel_policy, POLICIES)}")
        self._model = pretrained.loaded
        self._device = pretrained.device
        self.classes = require_classifier(self._model, "decode")
        facts = self._model.facts
        self._key, self._about = recording_id or "given", {"subject": subject, "modality": modality}
        self._transform = Compose(transforms=[transform_from_json(t) for t in self._model.transforms])
        self._known = knows(self._transform, self._key) or not any(t.learns for t in self._transform.transforms)
        if recording_id is not None and not self._known:
            raise ConfigError(f"recording_id '{recording_id}' is not one that the model's transforms know")
        if not self._known and not (calibration_s and calibration_s > 0):
            raise ConfigError(
                "decode: the model's transforms have to learn this recording first; pass calibration_s=…, the seconds at its "
                "start that they learn from, or the recording_id of one that they know"
            )
        self._chain, self.notes = causal_chain(
            stages_of(self._model.card), facts.rate_hz, info.rate_hz, pretrained.allow_import
        )
        self._source = info
        out = self._chain.start(info)
        self.delay_s = self._chain.delay_s
        self._order, self._rows, notes = columns_for(
            facts.channels, out.channels, channel_policy, reorder=recording_id is None
        )
        self.notes += notes
        self._rate = facts.rate_hz
        self._n = facts.window_samples
        self._step = self._n if stride_s is None else round(stride_s * self._rate)
        if not 1 <= self._step <= self._n:
            raise ConfigError(
                f"stride_s={stride_s} must be between one sample at {self._rate:g} Hz and the window of {facts.window_s:g} s"
            )
        self._calibration_n = 0 if self._known else round(float(calibration_s or 0) * self._rate)
        self._calibration: list[np.ndarray] = []
        self._template = self._batch_of_nothing()
        self._begin(0, 0.0)
        self._answer(np.zeros((self._n, len(self._order)), np.float32), warm_up=True)

    def push(self, block: Block) -> list[Answer]:
        """Take a block; return the answers to the windows that it completes."""
        arrived = time.perf_counter()
        if block.begins:
            if not self._known and len(self._held):
                # a short interval: all of it is learned from
                self._calibration.append(self._held)
            self._chain.start(self._source)
            self._begin(block.interval, block.interval_start_s)
        self._arrived_n += len(block.values)
        return self._take(self._chain.push(block.values), arrived)

    def finish(self) -> list[Answer]:
        """Answer what the stages still held back; at the end of an interval."""
        return self._take(self._chain.flush(), time.perf_counter())

    def _begin(self, interval: int, start_s: float) -> None:
        self._interval, self._start_s = interval, start_s
        self._held = np.empty((0, len(self._order)), np.float32)
        # samples of the interval before `_held`, and those that came in
        self._gone, self._arrived_n, self._skip = 0, 0, 0

    def _take(self, ready: np.ndarray, arrived: float) -> list[Answer]:
        if len(ready):
            self._held = np.concatenate([self._held, ready[:, self._order].astype(np.float32)])
        if not self._known:
            self._learn()
            if not self._known:
                return []
        answers: list[Answer] = []
        drop = min(self._skip, len(self._held))
        self._held, self._gone, self._skip = self._held[drop:], self._gone + drop, self._skip - drop
        while not self._skip and len(self._held) >= self._n:
            window = self._held[: self._n]
            if not np.isfinite(window).all():
                raise DataError(
                    f"decode: values at {self._start_s + self._gone / self._rate:.3f} s are not finite; cut them out or mark "
                    "the channel bad"
                )
            said = self._answer(window)
            now = self._arrived_n / self._source.rate_hz
            answers.append(
                Answer(
                    start_s=self._start_s + self._gone / self._rate, interval=self._interval,
                    behind_s=now - (self._gone + self._n) / self._rate, compute_s=time.perf_counter() - arrived,
                    probabilities=said,
                )
            )  # fmt: skip
            self._held = self._held[self._step :]
            self._gone += self._step
        return answers

    def _learn(self) -> None:
        """Fit the transforms once enough has come; what they learned from is not decoded."""
        have = sum(len(a) for a in self._calibration)
        if have + len(self._held) < self._calibration_n:
            return
        n = self._calibration_n - have
        self._calibration.append(self._held[:n])
        self._held, self._gone = self._held[n:], self._gone + n
        # windows lie where they would without a calibration, on multiples of the stride
        self._skip = -self._gone % self._step
        self._fit()

    def _fit(self) -> None:
        taught = InMemory(
            arrays=self._calibration, rate_hz=self._rate, channels=self._rows, recording_id=self._key,
            interval_start_s=[10.0 * i * self._calibration_n / self._rate for i in range(len(self._calibration))],
            **self._about,
        )  # fmt: skip
        spans = whole(taught, [self._key])
        self._transform.fit(taught, spans, allowed=spans)
        self._known, self._calibration = True, []

    def _batch_of_nothing(self) -> NeuralBatch:
        """A batch of one window with everything but the signal."""
        empty = InMemory(
            arrays=[np.zeros((self._n, len(self._order)), np.float32)], rate_hz=self._rate, interval_start_s=[0.0],
            channels=self._rows, recording_id=self._key, **self._about,
        )  # fmt: skip
        loader = WindowLoader(
            empty, [Window(self._key, 0.0, self._n)], batch_size=1, transforms=Compose(transforms=[]),
            facts=self._model.facts, shuffle=False,
        )  # fmt: skip
        return next(iter(loader)).to(self._device)

    @torch.inference_mode()
    def _answer(self, window: np.ndarray, *, warm_up: bool = False) -> np.ndarray:
        values = window if warm_up else self._transform.apply(window, self._key)
        signal = torch.from_numpy(np.ascontiguousarray(values.T, dtype=np.float32))[None].to(self._device)
        objective: Any = self._model.objective
        logits = objective.predict(self._model.model, self._template.with_signal(signal))
        return torch.softmax(logits[0], 0).float().cpu().numpy()


def causal_chain(
    stages: Sequence[Any], rate_hz: float, source_hz: float, allow_import: bool = False
) -> tuple[Chain, list[str]]:
    """Return a card's stages in their causal form as one, resampling to the model's rate at the end, and notes."""
    from data_prep.flow import build_stages
    from data_prep.live import Chain, causal_form
    from data_prep.stages import STAGES
    from data_prep.stages.resample import Resample

    for stage in stages:
        STAGES.get(str(stage.get("name", "")), allow_import=allow_import)
    made, notes = causal_form(build_stages(stages))
    if not any(isinstance(s, Resample) for s in made) and abs(source_hz / rate_hz - 1) > 1e-6:
        made.append(Resample(rate_hz=rate_hz))
        notes.append(f"resampled from {source_hz:g} to {rate_hz:g} Hz")
    return Chain(made), notes
