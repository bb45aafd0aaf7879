"""One rank of a small training on planted data; started by test_ranks.py as torchrun would."""

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from neurofm.models import MODELS
from neurofm.objectives import OBJECTIVES
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.facts import Facts
from neurofm.training.fit import fit
from neurofm.training.module import NeuroModule
from neurofm.training.run import RunFolder

FACTS = Facts(rate_hz=10.0, window_s=1.2, max_channels=4, channels=("a", "b", "c", "d"), classes=("x", "y"))


class Slices:
    """Global batches of eight windows, of which a rank gets every n-th; knows where it stands."""

    def __init__(self, rank, world_size, stop_after=None):
        self.rank, self.world_size, self.stop_after = rank, world_size, stop_after
        self.cursor = 0

    def __len__(self):
        return 40

    def state_dict(self):
        return {"cursor": self.cursor}

    def load_state_dict(self, state):
        self.cursor = state["cursor"]

    def __iter__(self):
        while self.cursor < len(self):
            self.cursor += 1
            if self.cursor == self.stop_after and self.rank == self.world_size - 1:
                os.kill(os.getpid(), 9)
            g = torch.Generator().manual_seed(self.cursor)
            signal = torch.randn(8, 4, 12, generator=g)
            signal[:, 3] = signal[:, :3].mean(1)
            mine = torch.arange(8)[self.rank :: self.world_size]
            yield NeuralBatch(
                signal=signal[mine], channel_mask=torch.ones(len(mine), 4, dtype=torch.bool),
                time_mask=torch.ones(len(mine), 12, dtype=torch.bool), rate_hz=10.0,
                channel_ids=torch.arange(1, 5).expand(len(mine), -1), target=(signal[mine, 0].mean(1) > 0).long(),
                sample_id=self.cursor * 8 + mine,
            )  # fmt: skip


def main(folder, strategy, resume, stop_after):
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = MODELS.build(
        "mvpformer", FACTS, patch_samples=3, dim=16, n_layers=2, n_heads=2, ffn_dim=16, dropout=0.0, n_channels=5,
        mask_token=True, backend="math",
    )  # fmt: skip
    objective = OBJECTIVES.build("masked_region", model, FACTS, hide_count=[1, 1])
    module = NeuroModule(model=model, objective=objective, total_steps=20, warmup_steps=2, lr_peak=1e-2, seed=3)
    fit(
        module=module, loader=Slices(rank, world_size, stop_after or None), run=RunFolder(folder, resume=resume, owner=rank == 0),
        max_steps=20, devices=world_size, strategy=strategy, log_every=1, checkpoint_every=5, progress=False,
    )  # fmt: skip
    assert module.is_sharded == (strategy == "fsdp2")
    if rank == 0:
        save_file({n: p.detach().contiguous() for n, p in module.named_parameters()}, Path(folder) / "end.safetensors")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3] == "resume", int(sys.argv[4]))
