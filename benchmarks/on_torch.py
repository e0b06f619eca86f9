"""The samplers that run on PyTorch: ``grid_sample``, and kornia's ``remap``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from .cases import Case
from .timing import queued_calls

Sampler = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Thunk = Callable[[], object]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MODES = ("nearest", "bilinear", "bicubic")  # grid_sample's


def program(sampler: Sampler, case: Case, what: str, grid: np.ndarray) -> Thunk:
    """A program that runs a sampler on a case; ``what`` is one of ``cases.WHATS``.

    Images have their channels first. PyTorch's CPU sampler does not support bfloat16:
    the casts that a user needs are part of the call.
    """
    image = _channels_first(case.image(), case.shared)
    out_bar = _channels_first(case.cotangent(), False)
    grid_ = torch.from_numpy(np.array(grid)).to(DEVICE)
    if case.dtype == "bfloat16":
        image, out_bar, float32 = image.bfloat16(), out_bar.bfloat16(), sampler
        sampler = lambda x, g: float32(x.float(), g).bfloat16()  # noqa: E731
    calls = queued_calls()
    inputs = {"forward": [], "grid": [grid_], "both": [image, grid_]}[what]
    for tensor in inputs:
        tensor.requires_grad_()

    def call() -> object:
        batch = image.expand(case.batch, *image.shape[1:])
        with torch.set_grad_enabled(bool(inputs)):
            out = sampler(batch, grid_)
        return out, torch.autograd.grad(out, inputs, out_bar) if inputs else ()

    return repeated(call, calls)


def repeated(call: Thunk, calls: int) -> Thunk:
    """So many calls, whose results are awaited together."""

    def run() -> object:
        for _ in range(calls - 1):
            call()
        out = call()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        return out

    return run


def _channels_first(array: np.ndarray, shared: bool) -> torch.Tensor:
    array = array[None] if shared else array
    first = np.ascontiguousarray(np.moveaxis(array, -1, 1))
    return torch.from_numpy(first).to(DEVICE)


def grid_sample(case: Case) -> Sampler:
    """PyTorch's sampler."""
    return lambda x, grid: F.grid_sample(x, grid, mode=case.method, align_corners=False)


def remap(case: Case) -> Sampler | None:
    """The sampler of kornia; None for volumes and other methods."""
    from kornia.geometry.transform import remap as kornia_remap

    if case.ndim == 3 or case.method != "bilinear":
        return None
    return lambda x, grid: kornia_remap(
        x,
        grid[..., 0],
        grid[..., 1],
        align_corners=False,
        normalized_coordinates=True,
    )


def affine_grid(theta: np.ndarray, size: tuple[int, ...]) -> Thunk:
    """PyTorch's affine grid."""
    theta_ = torch.from_numpy(theta).to(DEVICE)
    shape = [len(theta), 1, *size]
    grid = lambda: F.affine_grid(theta_, shape, align_corners=False)  # noqa: E731
    return repeated(grid, queued_calls())
