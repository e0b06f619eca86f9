"""The command ``python -m stn_jax.cpu``: compile the reader."""

import sys

from . import build, library_path

if __name__ == "__main__":
    if len(sys.argv) > 1:
        raise SystemExit(f"usage: python -m stn_jax.cpu; got {' '.join(sys.argv[1:])}")
    try:
        word = "lies at" if library_path().exists() else "was compiled:"
        print(f"the reader {word} {build()}")
    except RuntimeError as error:
        raise SystemExit(f"stn_jax.cpu: {error}") from None
