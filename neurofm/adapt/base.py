"""What every strategy starts from and returns."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from neurofm.hub.load import LoadedModel
from neurofm.models import MODELS
from neurofm.models.base import Backbone, offers
from neurofm.objectives import OBJECTIVES
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts
from neurofm.training.schedule import parameter_groups

# strategies whose network has seen nothing but the calibration
FROM_NOTHING = ("scratch", "cnn")


def _nothing(model: nn.Module) -> None:
    """Nothing to fold into the weights."""


@dataclass
class Adapted:
    """A model ready to be trained on a new subject.

    Attributes
    ----------
    strategy : str
        Its short name.
    loaded : LoadedModel
        Copies of model and objective, `requires_grad` set; its card names the objective it now has.
    layer_decay : float
        Factor on the learning rate per layer below the output.
    frozen_backbone : bool
        Whether the whole model stays in evaluation mode (no dropout).
    merge : callable
        Folds what the strategy added into the model's own weights, in place.
    solve : callable, optional
        Sets what is trained from the calibration windows in closed form; no step is then taken.
    """

    strategy: str
    loaded: LoadedModel
    layer_decay: float = 1.0
    frozen_backbone: bool = False
    merge: Callable[[nn.Module], None] = _nothing
    solve: Callable[[NeuralBatch], None] | None = None

    def groups(self, *, lr_peak: float, weight_decay: float) -> list[dict[str, Any]]:
        """Return optimiser groups of the trainable parameters; see `training.schedule.parameter_groups`."""
        both = nn.ModuleDict({"model": self.loaded.model, "objective": self.loaded.objective})
        return parameter_groups(both, lr_peak=lr_peak, weight_decay=weight_decay, layer_decay=self.layer_decay)

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return the parameters that will move, by name."""
        parts = (("model", self.loaded.model), ("objective", self.loaded.objective))
        return {f"{p}.{n}": w for p, m in parts for n, w in m.named_parameters() if w.requires_grad}

    def merged(self) -> LoadedModel:
        """Return the adapted model in the form it is saved in: no trace of the strategy in its tensors."""
        result = self.loaded.copy()
        self.merge(result.model)
        for part in (result.model, result.objective):
            part.requires_grad_(True)
            part.cpu().eval()
        return result


def begin(
    loaded: LoadedModel, facts: Facts | None, objective: Mapping[str, Any] | None, *, seed: int = 0
) -> LoadedModel:
    """Copy the pretrained model and give it the new task's objective.

    Parameters
    ----------
    loaded : LoadedModel
        Left as it is.
    facts : Facts, optional
        Of the new data; default: those of the pretraining.
    objective : mapping, optional
        ``{"name": …, **choices}``. None, or the one it was pretrained with: its trained heads are kept, unless the new
        facts (its classes, its embedding) ask for others.
    seed : int
        Of a new objective's weights.

    Raises
    ------
    ConfigError
        When the new data do not fit the model.
    """
    facts = facts or loaded.facts
    grows = offers(loaded.model, Backbone.grow)
    _check(loaded.facts, facts, grows=grows)
    result = loaded.copy()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in (result.model, result.objective):
            part.grow(facts)
    result.facts = facts
    result.card = {**result.card, "facts": facts.to_json()}
    if facts.window_samples != loaded.facts.window_samples:
        result.card["model"] = _for_window(loaded, facts)
    if objective is None:
        if (facts.embedding_shape, facts.embedding_s) == (loaded.facts.embedding_shape, loaded.facts.embedding_s):
            return result
        objective = {"name": loaded.card["objective"]["name"], **loaded.card["objective"]["choices"]}
    choices = dict(objective)
    entry = {"name": choices.pop("name", ""), "choices": choices}
    if entry == loaded.card["objective"] and facts == loaded.facts:
        return result
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # its name comes from the user's own choices, or from a card that was allowed to name it
        fresh = OBJECTIVES.build(entry["name"], result.model, facts, allow_import=True, **choices)
    same_task = entry == loaded.card["objective"] and facts.classes == loaded.facts.classes
    if same_task and _same_shapes(fresh, result.objective):
        # only facts that its parameters do not depend on have changed, such as the window
        fresh.load_state_dict(result.objective.state_dict())
    result.objective = fresh
    result.card["objective"] = copy.deepcopy(entry)
    return result


def _for_window(loaded: LoadedModel, facts: Facts) -> dict[str, Any]:
    """The card's entry of the model, with the positions that it has written out where they came from its window.

    Raises
    ------
    ConfigError
        When the model's weights are of its window's length and it cannot be told so.
    """
    entry = copy.deepcopy(loaded.card["model"])
    own = {n: t.shape for n, t in loaded.model.state_dict().items()}
    for _ in range(2):
        with torch.random.fork_rng(devices=[]):
            made = MODELS.build(
                entry["name"], replace(loaded.facts, window_s=facts.window_s), allow_import=True, **entry["choices"]
            )
        other = next((n for n, t in made.state_dict().items() if n in own and t.shape != own[n]), None)
        if other is None:
            return entry
        if "n_positions" not in inspect.signature(type(made)).parameters or entry["choices"].get("n_positions"):
            break
        entry["choices"]["n_positions"] = own[other][0]
    raise ConfigError(
        f"the task has windows of {facts.window_s:g} s, the model was trained on {loaded.facts.window_s:g} s and its "
        f"weights '{other}' have that length; take task.window_s={loaded.facts.window_s:g}, or pretrain on the task's window"
    )


def _same_shapes(one: nn.Module, other: nn.Module) -> bool:
    return {n: t.shape for n, t in one.state_dict().items()} == {n: t.shape for n, t in other.state_dict().items()}


def freeze_all_but(module: nn.Module, names: Iterable[str]) -> None:
    """Let only the parameters in `names` be trained."""
    keep = set(names)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in keep)


def new_rows(before: LoadedModel, now: LoadedModel) -> list[str]:
    """Names of the tables that `begin` gave rows for units or sessions not met before; random until they are trained."""
    old = {name: weight.shape for name, weight in before.model.named_parameters()}
    own = dict(now.model.named_parameters())
    return [name for name in now.model.subject_parameters() if name in old and own[name].shape != old[name]]


def refuse_new_rows(before: LoadedModel, now: LoadedModel, how: str) -> None:
    """Refuse what takes no step of gradient where rows are new: a decoder would be saved with random ones."""
    if not new_rows(before, now):
        return
    news = [("units", now.facts.channels[len(before.facts.channels) :])]
    news += [("sessions", now.facts.sessions[len(before.facts.sessions) :])]
    what, names = next((what, names) for what, names in news if names)
    raise ConfigError(
        f"{how} trains no embeddings, and {len(names)} {what} of the new data (the first is '{names[0]}') are not in the "
        "model's vocabulary; use adapt=unit_embedding or adapt=full"
    )


def require_head(loaded: LoadedModel, strategy: str) -> None:
    """Refuse a strategy that relies on the objective's own parameters where there are none."""
    if not any(True for _ in loaded.objective.parameters()):
        name = loaded.card["objective"]["name"]
        raise ConfigError(f"adapt={strategy} trains a head, but objective '{name}' has none; use adapt=full")


def _check(old: Facts, new: Facts, *, grows: bool) -> None:
    if abs(old.rate_hz - new.rate_hz) > 1e-6 * old.rate_hz:
        raise ConfigError(
            f"the new data have rate_hz={new.rate_hz:g}, the model was trained at {old.rate_hz:g}: "
            "prepare them with the model's own stages"
        )
    known = new.channels[: len(old.channels)] if grows else new.channels
    if known != old.channels or (grows and new.sessions[: len(old.sessions)] != old.sessions):
        raise ConfigError(
            "the new data number their channels by another vocabulary than the model: "
            "read them with the vocabulary in the model's card (facts.channels)"
        )
    if new.max_channels > old.max_channels and not grows:
        raise ConfigError(
            f"the new data have up to {new.max_channels} channels, the model was built for {old.max_channels}: "
            "choose channels, or pretrain with larger n_channels"
        )
