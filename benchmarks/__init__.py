"""Times stn_jax against its peers: ``python -m benchmarks --help``."""
