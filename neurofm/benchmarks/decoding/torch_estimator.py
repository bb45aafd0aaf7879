"""An nn.Module of someone else's as an estimator: standardised input, AdamW, a fixed number of epochs, nothing tuned."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from neurofm.schema.errors import ConfigError, DataError


class TorchEstimator:
    """Train a network on windows (N, C, T) → (N, K) logits, or (N, 1) values.

    Parameters
    ----------
    module : nn.Module
        Freshly built; its forward takes float32 [batch, channel, time].
    seed : int
        Of the order of batches and of dropout.
    epochs, batch_size, lr_peak, weight_decay
        Training is as long as that: no part is held back to stop early by, least of all the test.
    balanced : bool
        Weigh classes by their inverse frequency in training; examples are never repeated.
    standardize : bool
        Subtract each channel's mean over the training part and divide by its deviation.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        seed: int = 0,
        epochs: int = 20,
        batch_size: int = 64,
        lr_peak: float = 1e-3,
        weight_decay: float = 1e-2,
        balanced: bool = True,
        standardize: bool = True,
    ) -> None:
        if epochs < 1 or batch_size < 1 or not lr_peak > 0:
            raise ConfigError(f"training: epochs={epochs}, batch_size={batch_size}, lr_peak={lr_peak} must be above 0")
        self.module, self.seed = module, seed
        self.epochs, self.batch_size, self.lr_peak, self.weight_decay = epochs, batch_size, lr_peak, weight_decay
        self.balanced, self.standardize = balanced, standardize
        self.classes_: NDArray = np.empty(0)

    def fingerprint(self) -> str:
        """Hash of all parameters and buffers as they are."""
        digest = hashlib.sha256()
        for name, value in sorted(self.module.state_dict().items()):
            if not nn.parameter.is_lazy(value):
                digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def fit(self, x: NDArray, y: NDArray) -> TorchEstimator:
        """Learn from x (N, C, T) and classes or values y (N,)."""
        values = y.dtype.kind == "f"
        self._mean = x.mean((0, 2), keepdims=True) if self.standardize else np.zeros(1)
        self._sd = np.maximum(x.std((0, 2), keepdims=True), 1e-12) if self.standardize else np.ones(1)
        signal = self._tensor(x)
        if values:
            target = torch.from_numpy(y.astype(np.float32))
            loss_of: nn.Module = nn.MSELoss()
        else:
            self.classes_ = np.unique(y)
            target = torch.from_numpy(np.searchsorted(self.classes_, y))
            counts = torch.bincount(target, minlength=len(self.classes_)).float()
            loss_of = nn.CrossEntropyLoss(weight=len(y) / (len(counts) * counts) if self.balanced else None)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.module.train()
            optimiser = None
            for _ in range(self.epochs):
                order = torch.randperm(len(signal))
                for index in order.split(self.batch_size):
                    if len(index) < 2 and len(signal) > 1:
                        continue  # a batch of one has no variance to normalise by
                    out = self._answer(signal[index], 1 if values else len(self.classes_))
                    # after the first pass, which gives lazy layers their shape
                    optimiser = optimiser or torch.optim.AdamW(
                        self.module.parameters(), lr=self.lr_peak, weight_decay=self.weight_decay
                    )
                    loss = loss_of(out.squeeze(-1) if values else out, target[index])
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()
        return self

    def predict_proba(self, x: NDArray) -> NDArray[np.float64]:
        """Class probabilities, shape (N, K)."""
        return torch.softmax(self._run(x), -1).double().numpy()

    def predict(self, x: NDArray) -> NDArray:
        """Classes or values, shape (N,)."""
        out = self._run(x)
        return self.classes_[out.argmax(-1).numpy()] if len(self.classes_) else out.squeeze(-1).double().numpy()

    @torch.inference_mode()
    def _run(self, x: NDArray) -> torch.Tensor:
        self.module.eval()
        return torch.cat([self._answer(b, len(self.classes_) or 1) for b in self._tensor(x).split(self.batch_size)])

    def _answer(self, batch: torch.Tensor, n: int) -> torch.Tensor:
        out = self.module(batch)
        if out.ndim != 2 or out.shape[0] != len(batch) or out.shape[1] < n:
            raise DataError(
                f"{type(self.module).__name__}: returned shape {tuple(out.shape)} for {len(batch)} windows; expected "
                f"({len(batch)}, {n})"
            )
        return out[:, :n]

    def _tensor(self, x: NDArray) -> torch.Tensor:
        return torch.from_numpy(((x - self._mean) / self._sd).astype(np.float32))
