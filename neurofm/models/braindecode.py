"""Any model of braindecode as an encoder: one token per window, imported only when this model is named.

braindecode (BSD-3-Clause, Schirrmeister et al. 2017) builds models from channels, samples and rate and gives one output per
class; here the outputs are the numbers of the token, and the objective's own head tells classes apart. The package is an
optional extra: ``pip install 'neurofm[braindecode]'``.

Shape legend: B batch, C channel, S sample, D width.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from neurofm.models.base import Backbone, Encoded
from neurofm.models.layout import one_token
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, nearest
from neurofm.schema.facts import Facts

# released under terms that forbid commercial use
NON_COMMERCIAL = ("BrainModule", "EEGMiner", "EMG2Qwerty", "VEMG2Pose", "MetaNeuromotor", "NeuroRVQ")


def braindecode_models() -> Any:
    """Import ``braindecode.models``.

    Raises
    ------
    ConfigError
        When it is not installed, or cannot be imported; the message says what to do.
    """
    try:
        return importlib.import_module("braindecode.models")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "braindecode":
            raise ConfigError(
                "model 'braindecode' needs the package braindecode: pip install 'neurofm[braindecode]'"
            ) from error
        raise ConfigError(
            f"model 'braindecode': braindecode.models needs the package {missing}, which is not installed{_advice(missing)}"
        ) from error
    # a shared library of another build of torch fails to load with OSError
    except (ImportError, OSError) as error:
        about = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"model 'braindecode': braindecode.models cannot be imported ({about}){_advice(str(error))}"
        ) from error


def _advice(about: str) -> str:
    """What helps where torchaudio is the cause, as it usually is."""
    if not any(word in about for word in ("torchaudio", "libtorch", "libc10")):
        return ""
    return (
        f"; braindecode imports torchaudio, which must be the build that belongs to torch {torch.__version__}: install that "
        "build (the CPU build on a machine without CUDA)"
    )


class Braindecode(Backbone):
    """A model of braindecode over a fixed set of channels.

    Parameters
    ----------
    facts : Facts
        Rate, window, largest number of channels; recordings with fewer get zeros in their place.
    model : str
        Name of the class in ``braindecode.models``, such as ``EEGNetv4`` or ``ShallowFBCSPNet``.
    dim : int
        Outputs of the model, which are the numbers of the token.
    model_choices : mapping, optional
        Further arguments of the class.
    allow_noncommercial : bool
        Some classes are under terms that forbid commercial use and are refused without this.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        model: str,
        dim: int = 64,
        model_choices: Mapping[str, Any] | None = None,
        allow_noncommercial: bool = False,
    ) -> None:
        super().__init__()
        if model in NON_COMMERCIAL and not allow_noncommercial:
            raise ConfigError(
                f"model 'braindecode': {model} is under terms that forbid commercial use; set allow_noncommercial=true if yours "
                "is none"
            )
        models = braindecode_models()
        known = [
            n for n, v in vars(models).items() if inspect.isclass(v) and issubclass(v, nn.Module) and n[:1].isupper()
        ]
        if model not in known:
            raise ConfigError(f"braindecode has no model '{model}': {nearest(model, known)}")
        self.dim, self.n_channels, self.window_samples = dim, facts.max_channels, facts.window_samples
        given = {
            "n_chans": facts.max_channels, "n_times": facts.window_samples, "sfreq": facts.rate_hz, "n_outputs": dim,
            **(model_choices or {}),
        }  # fmt: skip
        try:
            self.encoder = getattr(models, model)(**given)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"braindecode's {model} cannot be built for {facts.max_channels} channels, {facts.window_samples} samples at "
                f"{facts.rate_hz:g} Hz: {error}"
            ) from error

    def encode(self, batch: NeuralBatch) -> Encoded:
        """Encode a batch: one token per window, of no channel."""
        _, C, S = batch.signal.shape
        if bool(batch.channel_mask[:, self.n_channels :].any()) or self.window_samples != S:
            raise ConfigError(
                f"this braindecode model was built for {self.n_channels} channels and {self.window_samples} samples, got {C} "
                f"and {S}; use the channels and window of training"
            )
        signal = batch.signal.masked_fill(~batch.channel_mask[..., None], 0.0)[:, : self.n_channels]
        x = self.encoder(F.pad(signal, (0, 0, 0, self.n_channels - signal.shape[1])))
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ConfigError(
                f"braindecode's {type(self.encoder).__name__} gives outputs of shape {tuple(x.shape)}, not one vector of {self.dim} "
                "per window; choose a model that classifies windows"
            )
        return one_token(x, batch)
