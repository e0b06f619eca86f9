"""What a command needs of a machine that has its own jax: packages and a GPU.

Only the standard library is imported here, so that a missing package gets one clear
line.
"""

from __future__ import annotations

import importlib.util
import shlex
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

PIP = {"jax": "jax[cuda12]", "PIL": "pillow", "xdist": "pytest-xdist"}
KEPT = ("jax", "jaxlib", "torch")  # pip must not replace the machine's
OLDEST_JAX = (0, 7, 2)


def require_packages(command: str, modules: Iterable[str], advice: str = "") -> None:
    """Raise SystemExit with a pip command if modules cannot be imported.

    The command pins the machine's jax and PyTorch, so that pip keeps them.
    """
    if sys.version_info < (3, 11):  # noqa: UP036  pip did not choose this Python
        raise SystemExit(f"{command} needs Python 3.11 or newer; got {_python()}")
    missing = [name for name in modules if not is_installed(name)]
    if missing:
        packages = [PIP.get(name, name) for name in missing]
        pip = shlex.join([sys.executable, "-m", "pip", "install", *packages, *_kept()])
        raise SystemExit(
            f"{command} needs {', '.join(missing)}, which {_python()} lacks. "
            f"Install beside its jax and PyTorch: {pip}{advice}"
        )


def is_installed(module: str) -> bool:
    """Whether a module can be found, without importing it."""
    return importlib.util.find_spec(module) is not None


def require_gpu(command: str, advice: str = "") -> None:
    """Raise SystemExit unless jax, new enough, finds a GPU."""
    import jax

    if jax.__version_info__ < OLDEST_JAX:
        oldest = ".".join(map(str, OLDEST_JAX))
        raise SystemExit(f"{command} needs jax {oldest}; got {jax.__version__}")
    try:
        found = jax.default_backend()
    except Exception as error:  # jax raises several kinds
        found = f"{type(error).__name__}: {error}".splitlines()[0]
    if found != "gpu":
        raise SystemExit(
            f"{command} needs a GPU, but jax {jax.__version__} finds: {found}{advice}"
        )


def require_cuda_of_torch(command: str, advice: str = "") -> None:
    """Raise SystemExit unless PyTorch finds a GPU: it would run on the CPU."""
    import torch

    if not torch.cuda.is_available():
        raise SystemExit(
            f"{command} needs a PyTorch that finds the GPU, but torch.cuda.is_available"
            f"() is False for torch {torch.__version__}{advice}"
        )


def _python() -> str:
    return f"{sys.executable} ({sys.version.split()[0]})"


def _kept() -> list[str]:
    """The installed versions of packages that pip must not replace."""
    found = []
    for name in KEPT:
        try:
            found.append(f"{name}=={version(name)}")
        except PackageNotFoundError:
            continue
    return found
