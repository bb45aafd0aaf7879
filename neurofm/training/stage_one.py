"""The frozen tokenizer of masked code prediction, from its exported folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neurofm.data.corpus import Corpus
from neurofm.hub.load import LoadedModel, load_model
from neurofm.models.base import Backbone, CodebookModel
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts


def load_stage_one(path: str | Path, *, model: Backbone, facts: Facts, corpus: Corpus) -> LoadedModel:
    """Load a tokenizer and check that it reads what the model reads.

    Parameters
    ----------
    path : str or Path
        Run or model folder.
    model : Backbone
        The model of stage 2.
    facts, corpus
        Of its data.

    Raises
    ------
    ConfigError
        When it is no tokenizer, or its rate, length of a patch, or transforms are others.
    """
    loaded = load_model(path)
    tokenizer, name = loaded.model, loaded.card["model"]["name"]
    if not isinstance(tokenizer, CodebookModel):
        raise ConfigError(
            f"objective.tokenizer={path}: '{name}' has no codebooks; give a run of `neurofm train objective=tokenizer`"
        )
    if abs(tokenizer.rate_hz / facts.rate_hz - 1) > 1e-6:
        raise ConfigError(
            f"objective.tokenizer={path}: reads {tokenizer.rate_hz:g} Hz, these data have {facts.rate_hz:g} Hz; prepare them "
            f"with {{name: resample, rate_hz: {tokenizer.rate_hz:g}}}, or train a tokenizer on them"
        )
    if model.patch_samples != tokenizer.patch_samples:
        raise ConfigError(
            f"objective.tokenizer={path}: its patches have {tokenizer.patch_samples} samples, the model's {model.patch_samples}; "
            f"give model.patch_samples={tokenizer.patch_samples}"
        )
    theirs, ours = ([t["name"] for t in ts] for ts in (loaded.transforms, _transforms(corpus)))
    if theirs != ours:
        raise ConfigError(
            f"objective.tokenizer={path}: was trained on signals after {theirs or 'no transforms'}, these data come after "
            f"{ours or 'none'}; its codes would mean something else: give data.transforms as in its card"
        )
    return loaded


def choices_from(loaded: LoadedModel) -> dict[str, Any]:
    """What the objective has to know of its tokenizer, and what is saved with it."""
    tokenizer = loaded.model
    assert isinstance(tokenizer, CodebookModel)
    return {"n_codes": list(tokenizer.n_codes), "tokenizer_channels": list(loaded.facts.channels)}


def seen_by(loaded: LoadedModel) -> dict[str, Any]:
    """What the tokenizer was trained on, for the card of stage 2."""
    card, own = loaded.card, loaded.card["provenance"]
    return {
        "role": "tokenizer",
        "name": card["model"]["name"],
        "weights_sha256": card["weights"]["sha256"],
        "model": str(loaded.folder),
        **{k: own[k] for k in ("datasets", "split", "subjects", "seed", "pretrained") if own.get(k) is not None},
    }


def _transforms(corpus: Corpus) -> list[dict[str, Any]]:
    return [t.to_json() for t in corpus.transform.transforms]
