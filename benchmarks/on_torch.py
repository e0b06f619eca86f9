"""The samplers that run on PyTorch: ``grid_sample``, and kornia's ``remap``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from .cases import Case

Sampler = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Thunk = Callable[[], object]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def program(sampler: Sampler, case: Case, what: str, grid: np.ndarray) -> Thunk:
    """One sampler on one case; ``what``: see ``cases.WHATS``.

    Images have their channels first, as PyTorch wants them. Where its sampler does not
    know bfloat16 (on CPUs), a user's casts are part of the call.
    """
    image = _channels_first(case.image(), case.shared)
    out_bar = _channels_first(case.cotangent(), False)
    grid_ = torch.from_numpy(np.array(grid)).to(DEVICE)
    if case.dtype == "bfloat16":
        image, out_bar, float32 = image.bfloat16(), out_bar.bfloat16(), sampler
        sampler = lambda x, g: float32(x.float(), g).bfloat16()  # noqa: E731
    wanted = {"forward": [], "grid": [grid_], "both": [image, grid_]}[what]
    for tensor in wanted:
        tensor.requires_grad_()

    def run() -> object:
        batch = image.expand(case.batch, *image.shape[1:])
        with torch.set_grad_enabled(bool(wanted)):
            out = sampler(batch, grid_)
        grads = torch.autograd.grad(out, wanted, out_bar) if wanted else ()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        return out, grads

    return run


def _channels_first(array: np.ndarray, shared: bool) -> torch.Tensor:
    array = array[None] if shared else array
    first = np.ascontiguousarray(np.moveaxis(array, -1, 1))
    return torch.from_numpy(first).to(DEVICE)


def grid_sample(case: Case) -> Sampler:
    """PyTorch's own."""
    return lambda x, grid: F.grid_sample(x, grid, align_corners=False)


def remap(case: Case) -> Sampler | None:
    """kornia's, for images."""
    from kornia.geometry.transform import remap as read

    if case.ndim == 3:
        return None
    return lambda x, grid: read(
        x,
        grid[..., 0],
        grid[..., 1],
        align_corners=False,
        normalized_coordinates=True,
    )


def affine_grid(theta: np.ndarray, size: tuple[int, ...]) -> Thunk:
    """PyTorch's affine grid."""
    theta_ = torch.from_numpy(theta).to(DEVICE)
    return lambda: F.affine_grid(theta_, [len(theta), 1, *size], align_corners=False)
