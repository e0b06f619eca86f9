"""Derivatives against finite differences, and those of two implementations."""

import jax
import jax.numpy as jnp
import numpy as np


def check_derivatives(function, *examples, step=1e-5, rtol=1e-6):
    """The jvp, the vjp and the Hessian of one random projection of a function, along
    one random direction, at each of some examples (lists of arguments).

    Two programs in all, since compiling is what takes the time. Returns the gradients.
    """
    rng = np.random.default_rng(5)
    shape = jax.eval_shape(function, *examples[0])
    weights = jnp.asarray(rng.normal(size=shape.shape), shape.dtype)
    along = [jnp.asarray(rng.normal(size=x.shape)) for x in examples[0]]
    value_and_slope = jax.jit(
        jax.value_and_grad(lambda at: (weights * function(*at)).sum())
    )

    @jax.jit
    def derivatives(at):
        return jax.jvp(value_and_slope, (at,), (along,))

    def moved(at, factor):
        moved = [x + factor * step * v for x, v in zip(at, along, strict=True)]
        return value_and_slope(moved)

    slopes = []
    for at in examples:
        at = [jnp.asarray(x) for x in at]
        (_, slope), (forward, curvature) = derivatives(at)
        (plus, plus_slope), (minus, minus_slope) = moved(at, 1), moved(at, -1)
        products = [s * v for s, v in zip(slope, along, strict=True)]
        close = {
            "rtol": rtol,
            "atol": rtol * float(sum(jnp.abs(p).sum() for p in products)),
        }
        np.testing.assert_allclose(forward, (plus - minus) / (2 * step), **close)
        np.testing.assert_allclose(
            sum(p.sum() for p in products), forward, rtol=1e-9, atol=1e-12
        )
        for ours, a, b in zip(curvature, plus_slope, minus_slope, strict=True):
            numeric = (a - b) / (2 * step)
            atol = rtol * max(1.0, float(np.abs(numeric).max()))
            np.testing.assert_allclose(ours, numeric, rtol=rtol, atol=atol)
        slopes.append(slope)
    return slopes


def by_gather_and_dense(function, *arrays):
    """Values and all gradients of a function, by gathers and by dense products."""

    def run(implementation):
        def loss(*arrays):
            out = function(*arrays, implementation=implementation)
            bar = jnp.cos(jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape)
            return (out * bar).sum(), out

        every = range(len(arrays))
        return jax.jit(jax.value_and_grad(loss, every, has_aux=True))(*arrays)

    return run("gather"), run("dense")
