"""Codes of windows, as a tokenizer writes them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from neurofm.models.base import CodebookModel
from neurofm.schema.batch import NeuralBatch

ABSENT = -1


def code_windows(model: CodebookModel, batches: Iterable[NeuralBatch], device: str = "cpu") -> np.ndarray:
    """Return the codes of every window, shape (window, segment, channel, codebook), int32.

    −1 where there is no data, such as the channels that a recording has not. The channel axis has length 1 where tokens
    belong to no channel. Channels are in the order of the recording, codebooks in that of the model's `n_codes`.
    """
    found = []
    with torch.inference_mode():
        for batch in batches:
            codes = model.codes(batch.to(device))
            columns = batch.signal.shape[1] if bool((codes.channel >= 0).any()) else 1
            code = codes.code.masked_fill(~codes.mask[..., None], ABSENT).unflatten(1, (-1, columns))
            found.append(code.to(torch.int32).cpu().numpy())
    widest = max(c.shape[2] for c in found)
    return np.concatenate(
        [np.pad(c, ((0, 0), (0, 0), (0, widest - c.shape[2]), (0, 0)), constant_values=ABSENT) for c in found]
    )
