"""Takes what some channels (confounds, eye or heart channels, the global signal) explain out of the others."""

from __future__ import annotations

from fnmatch import fnmatchcase

import numpy as np

from data_prep.stages.base import SignalInfo, Stage, Verdict
from neurofm.schema.errors import ConfigError, DataError


class RegressOut(Stage):
    """Subtract each channel's least-squares fit by the regressors; its mean stays, the regressors go.

    One surveying pass sums the products that the fit needs, over all intervals together, so memory does not grow with
    the recording. The fit looks at all of it: such data are transductive for tests within a recording.

    Parameters
    ----------
    kinds : list of str
        Kinds of channel that are regressors.
    names : list of str
        Names of further ones; ``trans_*`` takes several.
    global_signal : bool
        Whether the mean of all good channels is a regressor too.
    """

    causal = False
    surveys = True

    def __init__(
        self,
        *,
        kinds: list[str] | tuple[str, ...] = ("confound",),
        names: list[str] | tuple[str, ...] = (),
        global_signal: bool = False,
    ) -> None:
        if not (kinds or names or global_signal):
            raise ConfigError("stage 'regress_out' needs kinds or names of regressors, or global_signal")
        self.kinds, self.names, self.global_signal = tuple(kinds), tuple(names), global_signal
        self._n = 0

    def observe(self, block: np.ndarray, info: SignalInfo) -> None:
        """Add a block to the sums of products."""
        x, y = self._parts(np.asarray(block, np.float64), info)
        if not self._n:
            # Sums about a first guess of the mean: BOLD of 10,000 ± 50 would lose its digits otherwise.
            self._about = x.mean(axis=0), y.mean(axis=0)
            k = x.shape[1]
            self._sum_x, self._sum_y = np.zeros(k), np.zeros(y.shape[1])
            self._xx, self._xy = np.zeros((k, k)), np.zeros((k, y.shape[1]))
        x, y = x - self._about[0], y - self._about[1]
        self._n += len(x)
        self._sum_x, self._sum_y = self._sum_x + x.sum(axis=0), self._sum_y + y.sum(axis=0)
        self._xx, self._xy = self._xx + x.T @ x, self._xy + x.T @ y

    def conclude(self, info: SignalInfo) -> Verdict:
        """Solve.

        Raises
        ------
        DataError
            When there are as many regressors as samples.
        """
        k = len(self._sum_x) if self._n else 0
        if k + 1 >= self._n:
            raise DataError(f"stage 'regress_out': {k} regressors for {self._n} samples would leave no signal")
        xx = self._xx - np.outer(self._sum_x, self._sum_x) / self._n
        xy = self._xy - np.outer(self._sum_x, self._sum_y) / self._n
        # Regressors differ in size by many powers of ten: one scale for the solver.
        size = np.sqrt(np.diag(xx).clip(min=0))
        size = np.where(size > 0, size, 1.0)
        self._weights = np.linalg.lstsq(xx / np.outer(size, size), xy / size[:, None], rcond=1e-12)[0] / size[:, None]
        self._mean_x = self._about[0] + self._sum_x / self._n
        return Verdict()

    def start(self, info: SignalInfo) -> SignalInfo:
        """Begin an interval; the regressors are no channels of what comes out.

        Raises
        ------
        ConfigError
            When nothing was surveyed, as in live use.
        """
        if not hasattr(self, "_weights"):
            raise ConfigError("stage 'regress_out' needs the whole recording first; leave it out live")
        self._info = info
        chosen = self._chosen(info)
        return SignalInfo(
            rate_hz=info.rate_hz,
            interval=info.interval,
            channels=tuple(c for i, c in enumerate(info.channels) if not chosen[i]),
        )

    def push(self, block: np.ndarray) -> np.ndarray:
        """Subtract what the regressors explain."""
        x, y = self._parts(np.asarray(block, np.float64), self._info)
        return y - (x - self._mean_x) @ self._weights

    def _chosen(self, info: SignalInfo) -> np.ndarray:
        chosen = np.array(
            [c.kind in self.kinds or any(fnmatchcase(c.name, n) for n in self.names) for c in info.channels]
        )
        if not chosen.any() and not self.global_signal:
            kinds = ", ".join(sorted({c.kind for c in info.channels}))
            raise DataError(f"stage 'regress_out': no channel is a regressor (kinds: {kinds}); set kinds or names")
        if chosen.all():
            raise DataError("stage 'regress_out': every channel is a regressor, none is left")
        return chosen

    def _parts(self, block: np.ndarray, info: SignalInfo) -> tuple[np.ndarray, np.ndarray]:
        """Return regressors and the other channels, each of shape (time, …)."""
        chosen = self._chosen(info)
        x, y = block[:, chosen], block[:, ~chosen]
        if self.global_signal:
            good = [not c.bad for i, c in enumerate(info.channels) if not chosen[i]]
            x = np.hstack([x, y[:, good].mean(axis=1, keepdims=True)])
        return x, y
