"""A decoder as one file for programs that know nothing of neurofm: signal in, logits out.

What a batch says beside the signal (who, which channels, where they are) is fixed to one montage and becomes constants, so
the exported program takes one array, ``signal`` (1, channel, time), as the model's transforms leave it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from neurofm.hub.load import LoadedModel
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError, NeurofmError, nearest
from neurofm.schema.hashing import write_json

FORMATS = ("torch_export", "onnx")
FILES = {"torch_export": "decoder.pt2", "onnx": "decoder.onnx"}
ABOUT = "decoder.json"
# largest difference to the model itself, relative to its largest output
TOLERANCE = 1e-4


def export_decoder(
    loaded: LoadedModel,
    folder: str | Path,
    *,
    batch: NeuralBatch,
    formats: Sequence[str],
    channel_names: Sequence[str] = (),
) -> dict[str, Path]:
    """Write a decoder in other formats, each read back and compared with the model before it is kept.

    Parameters
    ----------
    loaded : LoadedModel
        A decoder whose objective has `predict`, on the CPU.
    folder : path
        Gets ``decoder.pt2`` (a `torch.export` program) or ``decoder.onnx``, and ``decoder.json``: what goes in, in which
        order of channels, what comes out, the fitted transforms, and the largest difference found.
    batch : NeuralBatch
        Windows of the subject it is for; the first one's channels, names, positions and subject are fixed. Padded
        channels are left out.
    formats : sequence of str
        Of `FORMATS`.
    channel_names : sequence of str
        Of the channels, for ``decoder.json``.

    Raises
    ------
    ConfigError
        When a format is unknown, the onnx packages are missing, or the model's computation depends on the values of
        the signal and so cannot be written down once.
    DataError
        When what was written answers otherwise than the model.
    """
    for name in formats:
        if name not in FORMATS:
            raise ConfigError(f"export: unknown format '{name}': {nearest(name, FORMATS)}")
    if "onnx" in formats:
        _need_onnx()
    one = _one(batch)
    # further signals, so that a constant that should have been a variable shows
    noise = torch.randn(one.signal.shape, generator=torch.Generator().manual_seed(0))
    examples = [one.signal, -one.signal, one.signal.std() * noise]
    predict: Any = loaded.objective.predict
    name = loaded.card["model"]["name"]
    try:
        with torch.no_grad():
            expected = [predict(loaded.model, one.with_signal(x)) for x in examples]
    except (AssertionError, AttributeError, KeyError, TypeError, NeurofmError) as error:
        raise ConfigError(
            f"export: model '{name}' reads more than a signal (spikes, further streams or a context), so it has no program of "
            f"one input ({str(error)[:120]})"
        ) from error
    program = _program(loaded, one, examples)
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    written: dict[str, Path] = {}
    errors: dict[str, float] = {}
    for name in formats:
        path = out / FILES[name]
        part = path.with_name(f".{path.name}.part{path.suffix}")
        try:
            ask = _WRITERS[name](program, part)
            errors[name] = max(_difference(ask(x), y) for x, y in zip(examples, expected, strict=True))
            if not errors[name] <= TOLERANCE:
                raise DataError(
                    f"export: {FILES[name]} differs from the model by {errors[name]:.1e} of its largest output, more than "
                    f"{TOLERANCE:g}; it was not kept"
                )
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        written[name] = path
    facts = loaded.facts
    write_json(
        out / ABOUT,
        {
            "input": {"name": "signal", "shape": list(one.signal.shape), "dtype": "float32", "rate_hz": facts.rate_hz},
            "channels": list(channel_names), "output": {"name": "output", "shape": list(expected[0].shape)},
            "classes": list(facts.classes), "transforms": loaded.transforms, "largest_difference": errors,
            "files": {name: path.name for name, path in written.items()},
            "weights_sha256": loaded.card.get("weights", {}).get("sha256", ""),
        },
    )  # fmt: skip
    return written


class _Answers(TorchDispatchMode):
    """What a model asks of its masks and names while it computes: heard in a plain pass, given again while tracing.

    ``if mask.all():`` and ``rows.unique()`` have one answer for one montage. A tracer cannot know that and would refuse.
    """

    _asked = (
        torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default, torch.ops.aten._unique2.default,
        torch.ops.aten.unique_consecutive.default, torch.ops.aten.unique_dim.default,
    )  # fmt: skip

    def __init__(self, heard: list[Any] | None = None) -> None:
        super().__init__()
        self.heard: list[Any] = [] if heard is None else heard
        self._given = None if heard is None else iter(heard)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in self._asked:
            return func(*args, **(kwargs or {}))
        if self._given is not None:
            return next(self._given)
        self.heard.append(func(*args, **(kwargs or {})))
        return self.heard[-1]


class _Decoder(nn.Module):
    """Signal → output, everything else fixed."""

    def __init__(self, loaded: LoadedModel, batch: NeuralBatch) -> None:
        super().__init__()
        self.model, self.objective, self.batch = loaded.model, loaded.objective, batch
        self.heard: list[Any] | None = None

    def forward(self, signal: Tensor) -> Tensor:
        predict: Any = self.objective.predict
        with _Answers(self.heard):
            return predict(self.model, self.batch.with_signal(signal))

    @torch.no_grad()
    def listen(self, examples: Sequence[Tensor]) -> None:
        """Keep the answers, which must be the same for every signal."""
        found = []
        for x in examples:
            answers = _Answers()
            with answers:
                predict: Any = self.objective.predict
                predict(self.model, self.batch.with_signal(x))
            found.append(answers.heard)
        if any(not _same(found[0], other) for other in found[1:]):
            raise ValueError("what it computes depends on the values of the signal")
        self.heard = found[0]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _one(batch: NeuralBatch) -> NeuralBatch:
    """The first window, without padded channels and without what is only for training or audit."""
    there = batch.channel_mask[0].nonzero().flatten()

    def first(x: Tensor | None) -> Tensor | None:
        return None if x is None else x[:1].clone()

    def of_channels(x: Tensor | None) -> Tensor | None:
        return None if x is None else x[:1, there].clone()

    return replace(
        batch, signal=batch.signal[:1, there].contiguous().float(), channel_mask=batch.channel_mask[:1, there],
        time_mask=batch.time_mask[:1], positions=of_channels(batch.positions), channel_ids=of_channels(batch.channel_ids),
        subject=first(batch.subject), session=first(batch.session), modality=first(batch.modality), trial=None,
        stimulus=None, concept=None, events=None, target=None, target_mask=None, recording_id=None, start_s=None, sample_id=None,
        streams={}, stimulus_embedding={},
    )  # fmt: skip


def _program(loaded: LoadedModel, one: NeuralBatch, examples: Sequence[Tensor]) -> torch.export.ExportedProgram:
    """Trace with the montage as constants, so that questions about masks and names are answered once and for all."""
    name = loaded.card["model"]["name"]
    copy = loaded.copy()
    for part in (copy.model, copy.objective):
        part.eval().requires_grad_(False)
    decoder = _Decoder(copy, one).eval()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            decoder.listen(examples)
            # attention as its plain formula: a fused kernel is a choice of the machine that runs it
            with nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH):
                traced = make_fx(decoder, tracing_mode="real", _allow_non_fake_inputs=True)(one.signal)
            return torch.export.export(traced, (one.signal,), strict=False)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ConfigError(
            f"export: model '{name}' cannot be written as one program ({reason}); its safetensors folder and neurofm.load "
            "remain"
        ) from error


def _write_torch(program: torch.export.ExportedProgram, path: Path) -> Callable[[Tensor], Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path)
        module = torch.export.load(path).module()
    return lambda x: module(x)


def _need_onnx() -> None:
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "export: onnx needs onnx, onnxscript and onnxruntime; install them with: pip install 'neurofm[export]'"
        ) from error


def _write_onnx(program: torch.export.ExportedProgram, path: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            made = torch.onnx.export(
                program, dynamo=True, input_names=["signal"], output_names=["output"], verbose=False
            )  # fmt: skip
        except torch.onnx.OnnxExporterError as error:
            reason = " ".join(str(error).split())[:160]
            raise ConfigError(
                f"export: this model has an operation that ONNX lacks ({reason}); use torch_export"
            ) from error
        assert made is not None
        made.save(str(path), external_data=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"signal": x.numpy()})[0])


_WRITERS: dict[str, Callable[[torch.export.ExportedProgram, Path], Callable[[Tensor], Tensor]]] = {
    "torch_export": _write_torch,
    "onnx": _write_onnx,
}


@torch.no_grad()
def _difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max().clamp(min=1e-12))
