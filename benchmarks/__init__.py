"""Time stn_jax beside other libraries: ``python -m benchmarks --help``."""
