"""Bitwise comparison of the public functions between two commits.

    python -m benchmarks.values before.npz                     # on one commit
    python -m benchmarks.values after.npz --against before.npz # on another

The command evaluates a fixed set of cases, values and gradients, and stores the arrays.
With ``--against`` it lists each case whose bits differ and exits with 1 if there is
one. Only results of the same versions on the same CPU can be compared. To run it on a
commit that lacks this file, copy the file into that commit's checkout. With
``XLA_FLAGS=--xla_backend_optimization_level=0`` the programs compile much faster; both
runs must have the same flags.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import stn_jax
from stn_jax import transforms

METHODS = (
    *("nearest", "bilinear", "bicubic", "catmull_rom", "lanczos3"),
    *("bspline2", "bspline3", "bspline4", "bspline5"),
)
MODES = ("zeros", "constant", "border", "reflection", "wrap")
SIZES = {2: (6, 5), 3: (4, 3, 5)}
Case = tuple[str, Callable[..., Any], tuple[np.ndarray, ...]]


def main() -> int:
    """Evaluate all cases, store them, and compare them with another file's."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.values")
    parser.add_argument("out", type=Path, help="the .npz file to write")
    parser.add_argument("--against", type=Path, help="an .npz file to compare with")
    asked = parser.parse_args()
    arrays = {
        f"{name}/{part}": value
        for name, function, inputs in cases()
        for part, value in _evaluated(function, inputs)
    }
    np.savez_compressed(asked.out, **arrays)
    print(f"{asked.out}: {len(arrays)} arrays of stn_jax in {stn_jax.__file__}")
    if asked.against is None:
        return 0
    with np.load(asked.against) as archive:
        differing = list(_differing(dict(archive), arrays))
    print("\n".join([*differing, f"{len(differing)} differ from {asked.against}"]))
    return int(bool(differing))


def _differing(
    before: dict[str, np.ndarray], after: dict[str, np.ndarray]
) -> Iterator[str]:
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after:
            yield f"{name} is in one file only"
        elif before[name].tobytes() != after[name].tobytes():
            apart = np.abs(before[name].astype(complex) - after[name].astype(complex))
            yield f"{name} differs by up to {apart.max():.3g}"


def _evaluated(
    function: Callable[..., Any], inputs: tuple[np.ndarray, ...]
) -> Iterator[tuple[str, np.ndarray]]:
    """The value, and the gradient of a fixed weighted sum in each real input."""
    if inputs[0].dtype.kind == "i":  # label masks: values alone
        yield "value", _plain(function(*inputs))
        return
    out = jax.eval_shape(function, *inputs)
    is_real = jnp.issubdtype(out.dtype, jnp.floating)
    floats = [i for i, x in enumerate(inputs) if is_real and x.dtype.kind == "f"]
    weights = np.cos(np.arange(out.size)).reshape(out.shape)

    def loss(*inputs: jax.Array) -> jax.Array:
        total = function(*inputs).astype(jnp.float32)
        return jnp.sum(jnp.where(jnp.isfinite(total), total, 0) * weights)

    def both(*inputs: jax.Array) -> tuple[jax.Array, ...]:
        gradients = jax.grad(loss, floats)(*inputs) if floats else ()
        return function(*inputs), *gradients

    value, *gradients = jax.jit(both)(*inputs)
    yield "value", _plain(value)
    for i, gradient in zip(floats, gradients, strict=True):
        yield f"gradient{i}", _plain(gradient)


def _plain(array: jax.Array) -> np.ndarray:
    return np.asarray(array.astype(jnp.float32) if array.dtype == "bfloat16" else array)


def cases() -> Iterator[Case]:
    """Name, function and inputs of each case."""
    rng = np.random.default_rng(2015)
    yield from _samplers(rng)
    yield from _grids(rng)
    yield from _families(rng)
    yield from _fits(rng)
    yield from _modules(rng)


def _image(rng: np.random.Generator, ndim: int, channels: int, batch=()) -> np.ndarray:
    return rng.normal(size=(*batch, *SIZES[ndim], channels)).astype(np.float32)


def _points(rng: np.random.Generator, ndim: int, batch=()) -> np.ndarray:
    shape = (*batch, *(1,) * (ndim - 2), 3, 7, ndim)
    grid = rng.uniform(-1.7, 1.7, size=shape).astype(np.float32)
    grid[..., 0, 0, :] = 0.0
    grid[..., 0, 1, :] = -1.0
    grid[..., 1, 1, 0] = np.inf
    return grid


def _samplers(rng: np.random.Generator) -> Iterator[Case]:
    for method, mode, ndim in itertools.product(METHODS, MODES, (2, 3)):
        if ndim == 3 and method != "bilinear":  # their programs compile for minutes
            continue
        fill = 0.5 if mode == "constant" else 0.0
        options = {"method": method, "padding_mode": mode, "fill_value": fill}
        inputs = _image(rng, ndim, 2, (2,)), _points(rng, ndim, (2,))
        for corners in (False, True):
            name = f"sample-{method}-{mode}-{ndim}d-{corners}"
            sample = partial(stn_jax.sample, align_corners=corners, **options)
            yield name, sample, inputs
    for method, corners in itertools.product(("bilinear", "bicubic"), (False, True)):
        one_image = _image(rng, 2, 3), _points(rng, 2, (2,))
        for name, options in {
            "dense": {"implementation": "dense"},
            "gather": {"implementation": "gather"},
            "pixel": {"coordinates": "pixel"},
            "mixed": {"padding_mode": ("wrap", "border")},
            "one-image": {},
        }.items():
            if name != "pixel" or not corners:
                options |= {"method": method, "align_corners": corners}
                sample = partial(stn_jax.sample, **options)
                yield f"sample-{method}-{name}-{corners}", sample, one_image
        if not corners:  # with align_corners=True the fill's border was mended
            fill = partial(stn_jax.sample, method=method, outside="fill", fill_value=2)
            yield f"sample-{method}-fill", fill, one_image
    wide = _image(rng, 2, 9, (2,)), _points(rng, 2, (2,))
    yield "bilinear-9", stn_jax.bilinear_sample, wide
    half = wide[0].astype(jnp.bfloat16), wide[1]
    yield "bilinear-bfloat16", stn_jax.bilinear_sample, half
    tent = stn_jax.Kernel(1.5, lambda d: 1.5 - jnp.abs(d))
    yield "sample-kernel", partial(stn_jax.sample, method=tent), wide
    channels = partial(stn_jax.sample, padding_mode="constant")
    fill = rng.normal(size=9).astype(np.float32)
    yield "fill", lambda i, g, f: channels(i, g, fill_value=f), (*wide, fill)
    labels = rng.integers(0, 9, size=(6, 5, 1)), _points(rng, 2)
    yield "labels", partial(stn_jax.sample, method="nearest"), labels


def _grids(rng: np.random.Generator) -> Iterator[Case]:
    for ndim, corners in itertools.product((2, 3), (False, True)):
        size, tag = SIZES[ndim], f"{ndim}d-{corners}"
        options = {"size": size, "align_corners": corners}
        theta = rng.normal(size=(2, ndim + 1, ndim + 1)).astype(np.float32)
        affine = partial(stn_jax.affine_grid, **options)
        yield f"affine_grid-{tag}", affine, (theta[:, :-1],)
        yield (
            f"projective_grid-{tag}",
            partial(stn_jax.projective_grid, **options),
            (theta + 3 * np.eye(ndim + 1, dtype=np.float32),),
        )
        control = rng.normal(size=(2, 2**ndim, ndim)).astype(np.float32)
        yield f"tps_grid-{tag}", partial(stn_jax.tps_grid, **options), (control,)
        traced = rng.uniform(-1, 1, size=control.shape[1:]).astype(np.float32)
        yield (
            f"tps_grid-traced-{tag}",
            jax.jit(lambda c, t, o=options: stn_jax.tps_grid(c, target_points=t, **o)),
            (control, traced),
        )
        flow = rng.normal(size=(2, *size, ndim)).astype(np.float32)
        flow_grid = partial(stn_jax.flow_grid, align_corners=corners)
        yield f"flow_grid-{tag}", flow_grid, (flow,)
        convert = partial(stn_jax.convert, size=size, to_align_corners=not corners)
        yield f"convert-{tag}", partial(convert, align_corners=corners), (theta,)
        for function in (stn_jax.to_pixels, stn_jax.to_normalized, stn_jax.inside):
            name = f"{function.__name__}-{tag}"
            yield name, partial(function, **options), (_points(rng, ndim),)
    theta = rng.normal(size=(2, 2, 5)).astype(np.float32)
    basis = rng.normal(size=(6, 5, 5)).astype(np.float32)
    yield "basis_grid", stn_jax.basis_grid, (theta, basis)


def _families(rng: np.random.Generator) -> Iterator[Case]:
    families = [
        *(transforms.Translation(n) for n in (2, 3)),
        *(transforms.Attention(n) for n in (2, 3)),
        transforms.Attention(scale=0.5),
        transforms.Attention(isotropic=False),
        *(transforms.Rigid(n) for n in (2, 3)),
        *(transforms.Similarity(n) for n in (2, 3)),
        transforms.Similarity(aspect=1.5),
        *(transforms.Affine(n) for n in (2, 3)),
        *(transforms.Projective(n) for n in (2, 3)),
        transforms.ThinPlateSpline((3, 2)),
        transforms.ThinPlateSpline((2, 2, 2), 0.1),
        transforms.Chain(transforms.Attention(), transforms.Rigid()),
    ]
    for family in families:
        ndim = family.ndim
        noise = 0.1 * rng.normal(size=(2, family.num_params)).astype(np.float32)
        params = np.asarray(family.identity) + noise
        points = _points(rng, ndim)[..., 0, 1:, :]
        yield f"{family}-grid", partial(family.grid, size=SIZES[ndim]), (params,)
        yield f"{family}-apply", family.apply, (params, points)
        if hasattr(family, "matrix"):
            yield f"{family}-matrix", family.matrix, (params,)
        if hasattr(family, "inverse") and getattr(family, "scale", None) is None:
            yield f"{family}-inverse", family.inverse, (params,)
            yield f"{family}-compose", family.compose, (params, params[::-1])
        image = _image(rng, ndim, 2, (2,))
        warp = partial(_warped, family)
        yield f"{family}-warp", warp, (image, params)
        if getattr(family, "is_axis_aligned", False):
            dense = partial(_warped, family, implementation="dense")
            yield f"{family}-warp-dense", dense, (image, params)
            smooth = partial(_warped, family, antialias=True, outside="fill")
            yield f"{family}-warp-antialias", smooth, (image, params)


def _warped(family: Any, image: Any, params: Any, **options: Any) -> jax.Array:
    return stn_jax.warp(image, family, params, **options)


def _fits(rng: np.random.Generator) -> Iterator[Case]:
    for ndim in (2, 3):
        target = rng.uniform(-1, 1, size=(2, 9, ndim)).astype(np.float32)
        source = target + 0.2 * rng.normal(size=target.shape).astype(np.float32)
        weights = rng.uniform(0.1, 1, size=9).astype(np.float32)
        inputs = source, target, weights
        for name in ("affine", "similarity", "projective", "tps"):
            fit = getattr(stn_jax, f"fit_{name}")
            for ridge in (0.0, 0.1):
                yield (
                    f"fit_{name}-{ndim}d-{ridge}",
                    lambda s, t, w, fit=fit, r=ridge: fit(
                        s, t, weights=w, regularization=r
                    ),
                    inputs,
                )
    line = np.stack([np.linspace(-1, 1, 5)] * 2, axis=-1).astype(np.float32)
    rank = partial(stn_jax.fit_rank, family="projective")
    yield "fit_rank", rank, (line, line[::-1])
    matrix = rng.normal(size=(2, 3)).astype(np.float32)
    for function, order in itertools.product(
        (stn_jax.from_pixel, stn_jax.to_pixel), ("xy", "ij")
    ):
        for direction in ("forward", "backward"):
            options = {"order": order, "direction": direction}
            name = f"{function.__name__}-{order}-{direction}"
            yield name, partial(function, size=(4, 7), **options), (matrix,)


def _modules(rng: np.random.Generator) -> Iterator[Case]:
    images = rng.uniform(size=(2, 28, 28, 1)).astype(np.float32)
    for transform in (transforms.Affine(), transforms.ThinPlateSpline((4, 4))):
        net = stn_jax.nnx.ConvLocalization((28, 28, 1), rngs=nnx.Rngs(0))
        st = stn_jax.nnx.SpatialTransformer(
            net, transform, features=net.features, rngs=nnx.Rngs(1)
        )
        yield f"nnx-{transform}", st, (images,)
        noise = 0.1 * rng.normal(size=(2, transform.num_params)).astype(np.float32)
        params = np.asarray(transform.identity) + noise
        yield f"nnx-warp-{transform}", st.warp, (images, params)
        module = stn_jax.linen.SpatialTransformer(
            stn_jax.linen.ConvLocalization(), transform
        )
        variables = module.init(jax.random.key(0), images)
        yield f"linen-{transform}", partial(module.apply, variables), (images,)


if __name__ == "__main__":
    raise SystemExit(main())
