"""What can go wrong with a training, tried out before it is started.

Each check returns a sentence about what it found, or raises a `NeurofmError` that says what to do.
"""

from __future__ import annotations

import copy
import os
import random
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from neurofm.data.loading.plan import slice_of
from neurofm.data.splits.spans import overlap
from neurofm.data.storage.files import Folder
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError, NeurofmError
from neurofm.schema.hashing import sha256_file
from neurofm.training.assemble import PART, Assembled
from neurofm.training.fit import fit
from neurofm.training.loggers import wandb_logged_in
from neurofm.training.memory import step_bytes
from neurofm.training.run import RunFolder
from neurofm.training.seeds import torch_generator

# splits that promise people nobody has seen
_NEW_PEOPLE = ("new_subject", "by_subject")


def check_device(trainer: Mapping[str, Any]) -> str:
    """The accelerator is there, in the number asked for."""
    accelerator, devices = str(trainer["accelerator"]), trainer["devices"]
    if accelerator not in ("gpu", "cuda"):
        return f"{accelerator}, {torch.get_num_threads()} threads"
    n = torch.cuda.device_count()
    if n == 0:
        raise ConfigError(
            "trainer.accelerator is gpu and torch sees none here: choose trainer=cpu, or look at nvidia-smi"
        )
    if isinstance(devices, int) and devices > n:
        raise ConfigError(f"trainer.devices is {devices} and this machine has {n} GPUs: lower it, or raise num_nodes")
    if str(trainer.get("precision", "")).startswith("bf16") and not torch.cuda.is_bf16_supported():
        raise ConfigError(f"{torch.cuda.get_device_name()} has no bfloat16: set trainer.precision=32-true")
    return f"{n} × {torch.cuda.get_device_name()}"


def check_folder(run_dir: str, parts: Assembled, *, resume: bool, overwrite: bool) -> str:
    """The run folder is free, can be written, and has room for two checkpoints and the model."""
    path = Path(run_dir)
    there = path.exists()
    if there and not resume and not overwrite and any(path.iterdir()):
        raise ConfigError(f"{path}: is not empty; choose another name, resume=true to continue, or overwrite=true")
    base = next(p for p in (path, *path.absolute().parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=base) as f:
            f.write(os.urandom(1 << 20))
            f.flush()
            os.fsync(f.fileno())
    except OSError as error:
        raise ConfigError(f"{base}: cannot be written ({error.strerror}); choose another folder with runs=…") from error
    weights = sum(p.numel() * p.element_size() for p in parts.module.parameters())
    # last and best, each with two moments; one of them is written while the old one is still there; the model
    needed, free = (3 * 3 + 1) * weights, shutil.disk_usage(base).free
    if needed > free:
        raise ConfigError(f"{base}: {_size(free)} are free, checkpoints need {_size(needed)}; make room, or set runs=…")
    return f"{path} can be written, {_size(free)} free, {_size(needed)} needed"


def check_shards(parts: Assembled, *, n: int = 8) -> str:
    """The bytes of some shards are those that were written."""
    dataset = parts.corpus.dataset
    shards = list(dataset.manifest.shards)
    sample = random.Random(0).sample(shards, min(n, len(shards)))
    folder = Folder(dataset.path)
    for shard in sample:
        for file, expected in ((shard.file, shard.sha256), (f"{shard.file}.idx", shard.index_sha256)):
            with folder.local([f"shards/{file}"]) as near:
                path = near / "shards" / file
                if not path.exists() or sha256_file(path) != expected:
                    raise DataError(
                        f"{dataset.path}/shards/{file}: its bytes are not those that were written; see "
                        f"`neurofm inspect {dataset.path} --verify`, and prepare the dataset again"
                    )
    return f"{len(sample)} of {len(shards)} shards are as they were written"


def check_split(parts: Assembled, rule: str) -> str:
    """Nothing that is trained on is validated or tested on: no moment, and no person where the split promises that."""
    corpus = parts.corpus
    subject_of = {r: corpus.dataset.subject(r) for r in corpus.dataset.recordings}
    mine = corpus.split[PART]
    if not mine:
        raise DataError(f"{corpus.dataset.path}: the part '{PART}' of the split is empty; look at data.split")
    said = [f"{PART} {sum(s.stop_s - s.start_s for s in mine) / 3600:.3g} h"]
    for name, spans in corpus.split.parts.items():
        if name == PART or not spans:
            continue
        shared = overlap(mine, spans, gap_s=corpus.split.gap_s, subject_of=subject_of)
        if shared.spans:
            a, b = shared.spans[0]
            raise DataError(
                f"the split leaks: {PART} {a.recording_id} {a.start_s:g}–{a.stop_s:g} s meets {name} "
                f"{b.start_s:g}–{b.stop_s:g} s (gap {corpus.split.gap_s:g} s); mend data.split"
            )
        if rule in _NEW_PEOPLE and name == "test" and shared.subjects:
            raise DataError(
                f"the split leaks: {sorted(shared.subjects)[0]} is in {PART} and in {name}; mend data.split"
            )
        said.append(f"{name} {sum(s.stop_s - s.start_s for s in spans) / 3600:.3g} h")
    return f"{', '.join(said)}; nothing shared; {corpus.split.hash}"


def check_batch(parts: Assembled) -> str:
    """One batch gives a finite loss and finite gradients."""
    module, batch = _on_device(parts)
    loss = module.train().loss(batch, torch_generator("doctor"))
    for name, value in {"loss": loss.total, **loss.terms}.items():
        if not bool(torch.isfinite(value).all()):
            raise NeurofmError(
                f"{name} is {float(value.detach())} on the first batch; look at the data's scale, then the model"
            )
    loss.total.backward()
    trainable = {n: p for n, p in module.named_parameters() if p.requires_grad}
    broken = [n for n, p in trainable.items() if p.grad is not None and not bool(torch.isfinite(p.grad).all())]
    if broken:
        raise NeurofmError(
            f"the gradient of {broken[0]} is not finite; use precision=32-true, or look at the data's scale"
        )
    without = [n for n, p in trainable.items() if p.grad is None]
    n = sum(p.numel() for p in trainable.values())
    frozen = sum(p.numel() for p in module.parameters()) - n
    said = f"loss {float(loss.total.detach()):.4g}, {n:,} trainable and {frozen:,} frozen parameters"
    return said + (f"; no gradient for {', '.join(without[:3])} (strategy=auto minds that)" if without else "")


def check_memory(parts: Assembled) -> str:
    """One real step at the asked size, and whether what it keeps fits."""
    module, batch = _on_device(parts)
    need = step_bytes(module.train(), batch)
    available, where = _available(batch)
    if sum(need.values()) > available:
        raise NeurofmError(
            f"a step needs about {_size(sum(need.values()))} and {where} has {_size(available)} free: lower batch_size and "
            "raise trainer.accumulate, or set trainer.activation_checkpointing=true"
        )
    optimizer = module.configure_optimizers()["optimizer"]
    started = time.perf_counter()
    module.loss(batch, torch_generator("doctor")).total.backward()
    optimizer.step()
    seconds = time.perf_counter() - started
    parts_said = ", ".join(f"{name} {_size(n)}" for name, n in need.items())
    return f"about {_size(sum(need.values()))} of {_size(available)} ({parts_said}); first step {seconds:.2g} s"


def check_speed(parts: Assembled, *, seconds: float = 3.0) -> str:
    """Whether the loader keeps up with the model."""
    module, batch = _on_device(parts)
    module.train()

    def model_step() -> int:
        module.loss(batch, torch_generator("doctor")).total.backward()
        return len(batch)

    loader = parts.loader
    batches = iter(loader)
    next(batches)  # starts the workers

    def load() -> int:
        nonlocal batches
        try:
            return len(next(batches))
        except StopIteration:
            batches = iter(loader)
            return len(next(batches))

    model_rate, loader_rate = _rate(model_step, seconds), _rate(load, seconds)
    said = f"loader {loader_rate:,.0f}, model {model_rate:,.0f} windows/s"
    if loader_rate < model_rate:
        raise NeurofmError(f"{said}: the model will wait for data; raise data.n_workers, or set data.preload=true")
    return said


def check_ranks(parts: Assembled) -> str:
    """Every rank takes equally many steps of equally many windows."""
    n = parts.ranks.world_size
    plan = parts.loader.plan(0)
    shares = [[len(slice_of(batch, rank=r, world_size=n)) for batch in plan] for r in range(n)]
    if len(plan) == 0 or any(share != shares[0] for share in shares):
        raise NeurofmError(f"the {n} ranks would take unequal steps; make batch_size a multiple of {n}")
    return f"{n} × {len(plan)} steps per epoch of {shares[0][0]} windows"


def check_resume(parts: Assembled, trainer: Mapping[str, Any], *, seed: int) -> str:
    """Two steps, a checkpoint, and two more from it end with the weights of four steps."""
    choices = {k: trainer[k] for k in ("accelerator", "precision", "gradient_clip", "accumulate") if k in trainer}
    ends = []
    with tempfile.TemporaryDirectory() as folder:
        for name, stops in (("whole", (4,)), ("parted", (2, 4))):
            for stop in stops:
                module = copy.deepcopy(parts.module)
                loader = parts.corpus.loader(PART, parts.facts, batch_size=parts.batch_size, seed=seed, training=True)
                run = RunFolder(Path(folder) / name, resume=stop != stops[0])
                fit(module=module, loader=loader, run=run, max_steps=stop, progress=False, count_flops=False, **choices)
            ends.append([p.detach().cpu() for p in module.parameters()])
    worst = max(float((a - b).abs().max()) for a, b in zip(*ends, strict=True) if a.numel())
    if worst > (0 if str(trainer["accelerator"]) == "cpu" else 1e-3):
        raise NeurofmError(
            f"a resumed run differs by {worst:.1e} in its weights: something in the model or objective keeps a state that "
            "is in no checkpoint; make it a buffer"
        )
    return "a run that is stopped and continued ends with the same weights"


def check_logger(logger: Mapping[str, Any]) -> str:
    """The logger can be reached, or needs not to be."""
    mode = str(logger.get("wandb_mode", "auto"))
    if logger["logger"] == "csv":
        return "metrics.csv in the run folder"
    if mode in ("off", "offline") or (mode == "auto" and not wandb_logged_in()):
        return f"metrics.csv, and W&B {'off' if mode == 'off' else 'offline: `wandb sync` sends it later'}"
    if not wandb_logged_in():
        raise ConfigError(
            "logger.wandb_mode is online and nobody is logged in: run `wandb login`, or set it to offline"
        )
    try:
        socket.create_connection(("api.wandb.ai", 443), timeout=5).close()
    except OSError as error:
        raise ConfigError(f"W&B cannot be reached ({error}); set logger.wandb_mode=offline") from error
    return "metrics.csv, and W&B online"


def _on_device(parts: Assembled) -> tuple[Any, NeuralBatch]:
    """A copy of the module and the first batch, where the training will be if that is here."""
    device = "cuda" if torch.cuda.is_available() and parts.accelerator in ("gpu", "cuda", "auto") else "cpu"
    first = parts.corpus.loader(
        PART, parts.facts, batch_size=max(1, parts.batch_size // parts.ranks.world_size), seed=0, training=False
    )
    return copy.deepcopy(parts.module).to(device), next(iter(first)).to(device)


def _available(batch: NeuralBatch) -> tuple[int, str]:
    if batch.signal.is_cuda:
        return torch.cuda.mem_get_info()[0], "the GPU"
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), "this machine"


def _rate(step: Any, seconds: float) -> float:
    step()
    started, n = time.perf_counter(), 0
    while n == 0 or time.perf_counter() - started < seconds:
        n += step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return n / (time.perf_counter() - started)


def _size(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"
