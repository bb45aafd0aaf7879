"""Less memory for more work, the largest batch that fits, and how much a step needs."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.training.parallel import blocks_of
from neurofm.training.seeds import torch_generator


def checkpoint_blocks(model: nn.Module) -> int:
    """Keep no activations inside the model's blocks; the backward pass computes them again. Return how many blocks.

    Dropout draws the same numbers in both passes. Names of parameters do not change.

    Raises
    ------
    ConfigError
        When the model has no list of blocks or layers.
    """
    blocks = blocks_of(model)
    if not blocks:
        raise ConfigError(
            f"trainer.activation_checkpointing: model '{type(model).__name__}' has no list of blocks; switch it off"
        )
    for block in blocks:
        block.forward = _recomputed(block, block.forward)
    return len(blocks)


def _recomputed(block: nn.Module, forward: Callable) -> Callable:
    @functools.wraps(forward)
    def run(*arguments: Any, **keywords: Any) -> Any:
        if not (block.training and torch.is_grad_enabled()):
            return forward(*arguments, **keywords)
        return checkpoint(forward, *arguments, use_reentrant=False, **keywords)

    return run


def largest_that_fits(fits: Callable[[int], bool], *, limit: int, step: int = 1) -> int:
    """Return the largest multiple of `step` up to `limit` for which `fits` holds: doubling, then bisection.

    Parameters
    ----------
    fits : callable
        Monotone: what fits, fits smaller too.
    limit : int
        Not tried beyond.
    step : int
        The number of ranks, so that they get equal slices.

    Raises
    ------
    ConfigError
        When not even `step` fits.
    """
    if limit < step or not fits(step):
        raise ConfigError(f"not even a batch of {step} windows fits; use a smaller model or shorter windows")
    low, high = 1, 1
    most = limit // step
    while high < most:
        high = min(2 * high, most)
        if not fits(high * step):
            break
        low = high
    else:
        return low * step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle * step) else (low, middle)
    return low * step


def step_fits(
    module: nn.Module, batch: NeuralBatch, *, device: torch.device | str, precision: str = "32-true", share: float = 0.9
) -> bool:
    """Whether one training step on `batch` leaves a tenth of the GPU's memory free.

    The step is forward, backward and AdamW's two moments, which come to as much again as twice the weights.
    """
    device = torch.device(device)
    free, total = torch.cuda.mem_get_info(device)
    budget = share * (free + torch.cuda.memory_reserved(device))
    torch.cuda.reset_peak_memory_stats(device)
    moments: list[torch.Tensor] = []
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision.startswith("bf16")):
            loss = module.loss(batch.to(device), torch_generator("fits"))  # type: ignore[operator]
        loss.total.backward()
        moments = [torch.empty_like(p) for p in module.parameters() if p.requires_grad for _ in range(2)]
        return torch.cuda.max_memory_allocated(device) <= min(budget, share * total)
    except torch.OutOfMemoryError:
        return False
    finally:
        del moments
        for p in module.parameters():
            p.grad = None
        torch.cuda.empty_cache()


def find_batch_size(
    module: nn.Module,
    batch_of: Callable[[int], NeuralBatch],
    *,
    limit: int,
    world_size: int = 1,
    precision: str = "32-true",
) -> int:
    """Return the largest number of windows per step, over all ranks, that fits into the GPUs' memory.

    Parameters
    ----------
    module : nn.Module
        The `NeuroModule`; a copy of it is tried.
    batch_of : callable
        Number of windows → a batch of one rank.
    limit : int
        Windows per rank, at most.
    world_size, precision
        As the training will have them.

    Raises
    ------
    ConfigError
        Without a GPU: a CPU's memory is shared, and filling it would stop the machine.
    """
    if not torch.cuda.is_available():
        raise ConfigError("batch_size=auto measures a GPU's memory, and there is none here; give a number")
    device = torch.device("cuda", torch.cuda.current_device())
    module = copy.deepcopy(module).to(device).train()
    found = largest_that_fits(lambda n: step_fits(module, batch_of(n), device=device, precision=precision), limit=limit)
    return found * world_size


def step_bytes(module: nn.Module, batch: NeuralBatch) -> dict[str, int]:
    """Estimate the memory of one training step in float32: weights, gradients, AdamW's moments, kept activations.

    Activations are those that one forward pass keeps for the backward pass, each storage counted once.
    """
    parameters = list(module.parameters())
    own = {p.untyped_storage().data_ptr() for p in parameters}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        loss = module.loss(batch, torch_generator("bytes"))  # type: ignore[operator]
    activations = sum(kept.values())
    del loss
    weights = sum(p.numel() * p.element_size() for p in parameters)
    trained = sum(p.numel() * p.element_size() for p in parameters if p.requires_grad)
    return {"weights": weights, "gradients": trained, "moments": 2 * trained, "activations": activations}
