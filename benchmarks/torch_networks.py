"""The networks of the training steps, in PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .on_torch import DEVICE, repeated
from .timing import queued_calls


class Transformer(nn.Module):
    """An affine spatial transformer that starts at the identity."""

    def __init__(self, localization: nn.Module, features: int) -> None:
        super().__init__()
        self.localization = localization
        self.regression = nn.Linear(features, 6)
        nn.init.zeros_(self.regression.weight)
        identity = torch.tensor([1.0, 0, 0, 0, 1, 0])
        self.regression.bias.data.copy_(identity)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Warp images by the predicted transformation."""
        theta = self.regression(self.localization(x)).view(-1, 2, 3)
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)


def tutorial() -> nn.Module:
    """The network of PyTorch's tutorial on spatial transformers."""
    localization = nn.Sequential(
        *(nn.Conv2d(1, 8, 7), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Conv2d(8, 10, 5), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(90, 32), nn.ReLU()),
    )
    return nn.Sequential(
        Transformer(localization, 32),
        *(nn.Conv2d(1, 10, 5), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Conv2d(10, 20, 5), nn.Dropout2d(), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(320, 50), nn.ReLU(), nn.Dropout()),
        nn.Linear(50, 10),
    )


def papers_transformer(size: int) -> Transformer:
    """A spatial transformer with the paper's localization network."""
    small = size // 2 - 4
    small = small // 2 - 4
    localization = nn.Sequential(
        *(nn.AvgPool2d(2), nn.Conv2d(1, 20, 5), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Conv2d(20, 20, 5), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(20 * small**2, 20), nn.ReLU()),
    )
    return Transformer(localization, 20)


def transform(images: np.ndarray, what: str) -> Callable[[], object]:
    """A call of the transformer, with its parameters' gradients unless "forward"."""
    torch.manual_seed(0)
    x = torch.from_numpy(np.moveaxis(np.array(images), -1, 1).copy()).to(DEVICE)
    model = papers_transformer(x.shape[-1]).to(DEVICE)
    params = [*model.parameters()] if what != "forward" else []

    def call() -> object:
        with torch.set_grad_enabled(bool(params)):
            out = model(x)
        return out, torch.autograd.grad(out.sum(), params) if params else ()

    return repeated(call, queued_calls())


def paper(size: int, width: int) -> nn.Module:
    """The paper's ST-CNN, as ``train.models`` builds it."""
    pool = 1 if size == 28 else 2
    final = -(-(size // pool - 8) // 2)
    final = -(-(final - 6) // 2)
    return nn.Sequential(
        *(papers_transformer(size), nn.AvgPool2d(pool)),
        *(nn.Conv2d(1, width, 9), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)),
        *(nn.Conv2d(width, width, 7), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)),
        *(nn.Flatten(), nn.Linear(width * final**2, 10)),
    )


def steps(
    network: str, batch: int, size: int, width: int, count: int, learning_rate: float
) -> Callable[[], object]:
    """A call of ``count`` training steps, on images without distortion."""
    torch.manual_seed(0)
    model = tutorial() if network == "tutorial" else paper(size, width)
    model = model.to(DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    images = torch.rand(count, batch, 1, size, size, device=DEVICE)
    labels = torch.randint(0, 10, (count, batch), device=DEVICE)

    def run() -> object:
        for x, y in zip(images, labels, strict=True):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        return None

    return run
