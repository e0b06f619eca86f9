"""The command ``python -m stn_jax.cpu``: see :mod:`stn_jax.sampling.cpu`."""
