"""One NICE step, forward and backward, against the plain published form: same numbers, time of each.

    python scripts/bench/contrastive.py                  # batches of 32 and 200, 63 electrodes × 250 samples, 2 threads
    python scripts/bench/contrastive.py --batches 1000   # the published batch: minutes, some 10 GB for the plain form

The step is encoder, projector and symmetric InfoNCE in float32, training mode without dropout, so that both forms can be
compared. Plain (`plain_nice.py`, frozen) and ours take turns, and the least of all passes counts, because other work on
the machine can only add.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import torch
from plain_nice import PlainProjector, PlainTSConv, plain_loss
from torch import Tensor, nn

from neurofm.nn.projection import ResidualProjector
from neurofm.nn.tsconv import TSConv, load_plain_weights
from neurofm.objectives.alignment_losses import info_nce, same_stimulus, scores

N_CHANNELS, N_SAMPLES, BAR, TOLERANCE = 63, 250, 2.0, 1e-5


def pair_of_steps(batch: int) -> tuple[Callable[[], Tensor], Callable[[], Tensor], nn.Module, nn.Module]:
    """Return the plain and our step with equal weights on the same data, and the two networks."""
    torch.manual_seed(0)
    plain = nn.ModuleDict({"conv": PlainTSConv(dropout=0.0), "head": PlainProjector(dropout=0.0)})
    ours = nn.ModuleDict(
        {"conv": TSConv(n_channels=N_CHANNELS, dropout=0.0), "head": ResidualProjector(1440, 768, 0.0)}
    )
    load_plain_weights(ours["conv"], plain["conv"].state_dict())
    ours["head"].load_state_dict(plain["head"].state_dict())
    x, target = torch.randn(batch, N_CHANNELS, N_SAMPLES), torch.randn(batch, 768)
    same = same_stimulus(torch.arange(1, batch + 1), batch, x.device)

    def plain_step() -> Tensor:
        plain.zero_grad(set_to_none=True)
        loss = plain_loss(plain["head"](plain["conv"](x).flatten(1)), target)
        loss.backward()
        return loss.detach()

    def our_step() -> Tensor:
        ours.zero_grad(set_to_none=True)
        loss = info_nce(scores(ours["head"](ours["conv"](x).flatten(1)), target) / 0.07, same)
        loss.backward()
        return loss.detach()

    return plain_step, our_step, plain, ours


def largest_difference(plain: nn.Module, ours: nn.Module) -> float:
    """Largest of max|Δ| / max|reference| over the gradients of the two networks, in the published layout.

    A bias before a norm has no gradient but rounding; it is left out.
    """
    x = torch.randn(8, N_CHANNELS, N_SAMPLES, generator=torch.Generator().manual_seed(1))
    expected, got = plain["conv"](x), ours["conv"](x)  # type: ignore[index]
    worst = _relative(got, expected)
    conv, reference = dict(ours["conv"].named_parameters()), dict(plain["conv"].named_parameters())  # type: ignore[index]
    pairs = [
        (conv["temporal.weight"].grad, reference["temporal.weight"].grad[:, 0, 0]),
        (conv["spatial.weight"].grad, reference["spatial.weight"].grad[..., 0].transpose(1, 2).flatten(1)),
        (conv["mix.weight"].grad, reference["mix.weight"].grad[..., 0, 0]),
        (conv["norm_1.weight"].grad, reference["norm_1.weight"].grad),
        (conv["norm_2.bias"].grad, reference["norm_2.bias"].grad),
    ]
    return max([worst, *(_relative(a, b) for a, b in pairs)])


def _relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().abs().max() / b.detach().abs().max())


def seconds(step: Callable[[], Tensor]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 200])
    parser.add_argument("--rounds", type=int, default=5, help="turns that plain and ours take (default: 5)")
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    print(
        f"torch {torch.__version__}, {chosen.threads} threads of {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f} at the start"
    )
    print("batch | plain s | ours s | ratio | bar | max|Δ|/max|ref| of output and gradients")
    failed = False
    for batch in chosen.batches:
        plain_step, our_step, plain, ours = pair_of_steps(batch)
        plain_step(), our_step()
        turns = [(seconds(plain_step), seconds(our_step)) for _ in range(chosen.rounds)]
        slow, fast = min(t[0] for t in turns), min(t[1] for t in turns)
        gap = largest_difference(plain, ours)
        print(f"{batch} | {slow:.3f} | {fast:.3f} | {slow / fast:.2f} | {BAR:g} | {gap:.1e} (≤ {TOLERANCE:g})")
        failed |= slow / fast < BAR or gap > TOLERANCE
    if failed:
        raise SystemExit("below the bar")


if __name__ == "__main__":
    main()
