"""The released checkpoints of MVPFormer (arXiv:2506.20354) as model folders of ours.

Their tensors are renamed, nothing is computed, except that low-rank changes (LoRA) are added to their weights. What the
released code holds but never uses is left out by name; anything else without a place, or missing, is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neurofm.hub.load import build
from neurofm.hub.save import save_model
from neurofm.hub.state_dict import read_state_dict
from neurofm.schema.errors import DataError
from neurofm.schema.facts import Facts
from neurofm.schema.hashing import sha256_file

# released name → ours
_WHOLE = {
    "encoder.ln.weight": "model.tokenizer.norm.weight",
    "encoder.proj.weight": "model.tokenizer.embed.weight",
    "mvpformer.positional_embedding.weight": "model.time_table.weight",
    "mvpformer.channel_embedding.weight": "model.channel_table.weight",
    "mvpformer.ln_f.weight": "model.norm.weight",
    "head.head.weight": "objective.head.weight",
}
# the same of layer i: mvpformer.h.i. → model.blocks.i.
_LAYER = {
    "ln_1.weight": "norm.weight",
    "attn.q_attn.weight": "attention.query.weight",
    "attn.c_attn.weight": "attention.key_value.weight",
    "attn.position_net.weight": "attention.time_key.weight",
    "attn.channel_net.weight": "attention.channel_key.weight",
    "attn.c_proj.weight": "attention.out.weight",
    "attn.attn_bias": "attention.bias",
    "mlp.gate_proj.weight": "feedforward.gate.weight",
    "mlp.up_proj.weight": "feedforward.up.weight",
    "mlp.down_proj.weight": "feedforward.down.weight",
}
# a second norm that no path reads, and constant masks
_UNUSED_IN_LAYER = ("ln_2.weight", "attn.time_bias", "attn.masked_bias")
# raw-length vectors that no training path reads, and the weights of the classes in the loss
_UNUSED = ("seizure_embeddings", "class_loss.weight")
_LOW_RANK = re.compile(r"(mvpformer\.h\.\d+\.attn\.(?:q_attn|c_attn))\.lora_([AB])")
_IN_LAYER = re.compile(r"mvpformer\.h\.(\d+)\.(.+)")


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A released checkpoint under our names.

    Attributes
    ----------
    tensors : dict of str to Tensor
        ``model.…`` and ``objective.…``, float32.
    facts : Facts
        Of the published input.
    objective : str
        ``next_state`` (pretrained) or ``supervised`` (classifier), as the shape of the head says.
    unused : dict of str to int
        Released tensors left out by name, and how many numbers each holds.
    """

    tensors: dict[str, Tensor]
    facts: Facts
    objective: str
    unused: dict[str, int]


def convert(
    released: Mapping[str, Tensor],
    *,
    choices: Mapping[str, Any],
    rate_hz: float = 512.0,
    window_s: float = 125.0,
    classes: Sequence[str] = ("background", "seizure"),
    lora_alpha: float = 16.0,
) -> Converted:
    """Rename the tensors and check that they fill a model of these choices.

    Parameters
    ----------
    released : mapping of str to Tensor
        State dict under the released names; names of the system's first version, which begin with ``genie.``, will do.
        On the meta device only names and shapes are converted.
    choices : mapping
        Of our `MVPFormer`, as conf/model/mvpformer_s.yaml has them, without the name. Heads must be right: no shape
        tells their number.
    rate_hz, window_s : float
        Of the published input: 25 segments of 5 s at 512 Hz.
    classes : sequence of str
        Names of a classifier's outputs, in order.
    lora_alpha : float
        Low-rank changes, if there are any, are scaled by this over their rank, as in the released configuration.

    Raises
    ------
    DataError
        When a tensor is missing, unexpected or of another shape; it is named as in the file.
    """
    tensors, unused, theirs = _rename(_merge_low_rank(_modern(released), lora_alpha))
    head = tensors.get("objective.head.weight")
    if head is None:
        raise DataError("tensor 'head.head.weight' is missing: the file holds no whole checkpoint")
    pretrained = head.shape[0] == head.shape[1]
    if not pretrained and head.shape[0] != len(classes):
        raise DataError(f"tensor 'head.head.weight' has {head.shape[0]} outputs for {len(classes)} names of classes")
    objective = "next_state" if pretrained else "supervised"
    facts = Facts(
        rate_hz=rate_hz,
        window_s=window_s,
        max_channels=int(choices["n_channels"]),
        classes=() if pretrained else tuple(classes),
    )
    with torch.device("meta"):
        parts = build(_card(choices, objective), facts)
    wanted = {f"{p}.{n}": t for p, x in zip(("model", "objective"), parts, strict=True) for n, t in _state(x).items()}
    if not pretrained:
        # the released head has no bias
        wanted.pop("objective.head.bias")
    for name in sorted(set(wanted) - set(tensors)):
        raise DataError(f"tensor '{_released_name(name)}' is missing from the checkpoint; is it of another size?")
    for name in sorted(set(tensors) - set(wanted)):
        raise DataError(f"tensor '{theirs[name]}' has no place in a model of {len(parts[0].blocks)} layers")  # type: ignore[arg-type]
    for name, there in wanted.items():
        if name.endswith("attention.bias") and tensors[name].numel() == there.numel():
            # one vector there: content, time, channel, each head by head
            tensors[name] = tensors[name].view(there.shape)
        if tensors[name].shape != there.shape:
            raise DataError(
                f"tensor '{theirs[name]}' has shape {tuple(tensors[name].shape)}, the model needs {tuple(there.shape)}"
            )
    if not pretrained:
        tensors["objective.head.bias"] = head.new_zeros(len(classes))
    return Converted(
        tensors={n: t.float() for n, t in tensors.items()}, facts=facts, objective=objective, unused=unused
    )


def import_released(
    file: str | Path,
    folder: str | Path,
    *,
    choices: Mapping[str, Any],
    head_file: str | Path | None = None,
    **facts: Any,
) -> Path:
    """Convert a released checkpoint into a model folder.

    Parameters
    ----------
    file : str or Path
        The checkpoint; for a classifier the base it was made from.
    folder : str or Path
        Where the model goes.
    choices : mapping
        See `convert`.
    head_file : str or Path, optional
        Of a released classifier: its head and low-rank changes, which take the place of the base's head.
    **facts
        Further arguments of `convert`.

    Returns
    -------
    Path
        The folder.
    """
    files = [Path(f) for f in (file, head_file) if f is not None]
    released = {n: t for f in files for n, t in _modern(read_state_dict(f)).items()}
    converted = convert(released, choices=choices, **facts)
    card = _card(choices, converted.objective)
    model, objective = build(card, converted.facts)
    for prefix, part in (("model", model), ("objective", objective)):
        part.load_state_dict({n: converted.tensors[f"{prefix}.{n}"] for n in part.state_dict()})
    return save_model(
        folder,
        model=model,
        objective=objective,
        model_name="mvpformer",
        model_choices=card["model"]["choices"],
        objective_name=converted.objective,
        objective_choices={},
        facts=converted.facts,
        # the published loader only brings recordings to this rate; the wavelet norm takes the place of scaling
        prep={"source": {"modality": "ieeg"}, "stages": [{"name": "resample", "rate_hz": converted.facts.rate_hz}]},
        provenance={
            "datasets": [
                {
                    "id": "swec-ieeg (published training)",
                    "licence": "CDLA-Permissive-2.0",
                    "citation": "Carzaniga et al., arXiv:2506.20354",
                }
            ],
            "released_files": [{"name": f.name, "sha256": sha256_file(f)} for f in files],
        },
        description="Released weights of MVPFormer (arXiv:2506.20354), for research only; converted, not trained here.",
    )


def _modern(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of the first version, when the system was called GeNIE, as of today."""
    return {re.sub(r"^genie\.", "mvpformer.", name): tensor for name, tensor in released.items()}


def _merge_low_rank(released: dict[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """Add every low-rank change, of all queries or of the values, which are the last rows, to its weight."""
    merged = {n: t for n, t in released.items() if not _LOW_RANK.fullmatch(n)}
    for stem in sorted({m[1] for n in released if (m := _LOW_RANK.fullmatch(n))}):
        for name in (f"{stem}.lora_A", f"{stem}.lora_B", f"{stem}.weight"):
            if name not in released:
                raise DataError(f"tensor '{name}' is missing, which belongs to a low-rank change")
        down, up, weight = (released[f"{stem}.{x}"].float() for x in ("lora_A", "lora_B", "weight"))
        if down.shape[0] != up.shape[1] or up.shape[0] > weight.shape[0] or down.shape[1] != weight.shape[1]:
            raise DataError(
                f"tensors '{stem}.lora_A' and '{stem}.lora_B' have shapes {tuple(down.shape)} and {tuple(up.shape)}, "
                f"which do not fit a weight of {tuple(weight.shape)}"
            )
        weight = weight.clone()
        weight[weight.shape[0] - up.shape[0] :] += (alpha / down.shape[0]) * (up @ down)
        merged[f"{stem}.weight"] = weight
    return merged


def _rename(released: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, int], dict[str, str]]:
    """Return tensors by our names, the size of what is left out, and our name → theirs."""
    tensors, unused, theirs = {}, {}, {}
    for name, tensor in released.items():
        layer = _IN_LAYER.fullmatch(name)
        if name in _UNUSED or (layer and layer[2] in _UNUSED_IN_LAYER):
            unused[name] = tensor.numel()
            continue
        ours = _WHOLE.get(name)
        if layer and layer[2] in _LAYER:
            ours = f"model.blocks.{layer[1]}.{_LAYER[layer[2]]}"
        if ours is None:
            raise DataError(f"tensor '{name}' is not of a released MVPFormer; nothing was converted")
        tensors[ours], theirs[ours] = tensor, name
    return tensors, unused, theirs


def _released_name(ours: str) -> str:
    """Inverse of the renaming, for messages."""
    for there, here in _WHOLE.items():
        if here == ours:
            return there
    _, _, layer, rest = ours.split(".", 3)
    return f"mvpformer.h.{layer}." + next(there for there, here in _LAYER.items() if here == rest)


def _card(choices: Mapping[str, Any], objective: str) -> dict[str, Any]:
    """What the registries build the model from."""
    return {"model": {"name": "mvpformer", "choices": dict(choices)}, "objective": {"name": objective, "choices": {}}}


def _state(part: torch.nn.Module) -> dict[str, Tensor]:
    return dict(part.state_dict())
