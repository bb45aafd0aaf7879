"""Drawing spikes one after another from a trained Neuroformer.

Shape legend: B batch, C channel (unit), S tokens so far.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from neurofm.models.spike_tokens import SpikeTokens
from neurofm.schema.batch import Events, NeuralBatch
from neurofm.schema.errors import ConfigError

if TYPE_CHECKING:
    from neurofm.models.neuroformer import Neuroformer


class Generated(NamedTuple):
    """Drawn spikes.

    Attributes
    ----------
    tokens : SpikeTokens
        (channel, step) in the order they were drawn; `cut` where the longest sequence was reached.
    events : Events
        The same with times at the centres of steps, from the window's start.
    """

    tokens: SpikeTokens
    events: Events


def generate(
    objective: Any, model: Neuroformer, batch: NeuralBatch, generator: torch.Generator | None = None, *,
    temperature: float = 1.0, top_p: float = 0.95, repeats: bool = False,
) -> Generated:  # fmt: skip
    """Draw the current part of every window.

    Times never go back, and units that are not in the window, as well as (unless `repeats`) a unit that has fired in
    the present time step, have no probability at all: what is masked is never drawn.

    Parameters
    ----------
    objective : SpikeSequence
        Holds the heads.
    model : Neuroformer
        Used in evaluation mode, and left as it was.
    batch : NeuralBatch
        Its events before the current part are the history; those in it are not looked at.
    generator : torch.Generator, optional
        Of the draws, on the CPU.
    temperature : float
        Divides the logits; 0 takes the most likely.
    top_p : float
        Draw from the most likely classes that hold this much probability (published: 0.95).
    repeats : bool
        Whether a unit may fire twice in one time step.

    Raises
    ------
    ConfigError
        When temperature or top_p make no sense.
    """
    if temperature < 0 or not 0 < top_p <= 1:
        raise ConfigError(f"generate: temperature={temperature} must be 0 or more and top_p={top_p} in (0, 1]")
    was_training = model.training
    model.eval()
    B, C, n_steps = len(batch), batch.channel_mask.shape[1], model.n_steps
    device = batch.channel_mask.device
    tokens = SpikeTokens(
        torch.zeros(B, 0, dtype=torch.long, device=device), torch.zeros(B, 0, dtype=torch.long, device=device),
        torch.zeros(B, 0, dtype=torch.bool, device=device), torch.zeros(B, dtype=torch.bool, device=device),
    )  # fmt: skip
    running = torch.ones(B, dtype=torch.bool, device=device)
    now = torch.zeros(B, dtype=torch.long, device=device)
    fired = torch.zeros(B, C, dtype=torch.bool, device=device)
    steps = torch.arange(n_steps + 1, device=device)
    for _ in range(model.max_tokens):
        unit_logits, step_logits = (x[:, -1] for x in objective.logits(model.run(batch, tokens), batch))
        if not repeats:
            # a unit that has fired in the last step of all has no step left
            unit_logits[:, 1:].masked_fill_(fired & (now == n_steps - 1)[:, None], -torch.inf)
        unit = draw(unit_logits, temperature, top_p, generator)
        running = running & (unit > 0)
        if not bool(running.any()):
            break
        channel = (unit - 1).clamp(min=0)
        late = now + (fired.gather(1, channel[:, None])[:, 0] & (not repeats)).long()
        step_logits = step_logits.masked_fill((steps < late[:, None]) | (steps == n_steps), -torch.inf)
        # a row that has ended draws no more, but must draw from something
        step = draw(step_logits.masked_fill(~running[:, None] & (steps == 0), 0.0), temperature, top_p, generator)
        fired = torch.where((step > now)[:, None], False, fired)
        fired = fired.scatter(1, channel[:, None], running[:, None] | fired.gather(1, channel[:, None]))
        now = torch.where(running, step, now)
        tokens = SpikeTokens(
            torch.cat([tokens.channel, channel[:, None]], 1), torch.cat([tokens.step, step[:, None]], 1),
            torch.cat([tokens.mask, running[:, None]], 1), tokens.cut,
        )  # fmt: skip
    else:
        tokens = tokens._replace(cut=running)
    model.train(was_training)
    return Generated(tokens, _events(tokens, model, batch))


def draw(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator | None) -> Tensor:
    """Draw a class per row of logits (B, K) from its nucleus (Holtzman et al. 2020, arXiv:1904.09751)."""
    if temperature == 0:
        return logits.argmax(-1)
    p = (logits.double() / temperature).softmax(-1).cpu()
    ordered, order = p.sort(dim=-1, descending=True)
    # the first class of all is always in
    ordered = ordered.masked_fill(ordered.cumsum(-1) - ordered >= top_p, 0)
    place = torch.multinomial(ordered, 1, generator=generator)
    return order.gather(1, place)[:, 0].to(logits.device)


def _events(tokens: SpikeTokens, model: Neuroformer, batch: NeuralBatch) -> Events:
    counts = tokens.mask.sum(1)
    time_s = model.start_s(batch) + (tokens.step.double() + 0.5) * model.step_s
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return Events(tokens.channel[tokens.mask], time_s[tokens.mask].float(), offsets)
