"""Build the wheels and check them in clean environments: ``make wheels``.

The kernel's tests run from the installed wheel, on a copy of ``tests`` outside of the
checkout, so that nothing of the checkout can be imported.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
BUILD = (sys.executable, "-m", "build", "--wheel", "--outdir")
MOST = 5 * 2**20  # bytes of all libraries
# what the kernel's tests import besides the wheel
TOOLS = ["pytest", "pytest-xdist", "hypothesis", "chex", "scipy", "filelock"]
VERSIONS = {  # of jax and flax: the oldest supported ones, and those of the benchmarks
    "oldest": ["jax==0.7.2", "jaxlib==0.7.2", "flax==0.11.2"],
    "benchmarked": ["jax==0.10.2", "jaxlib==0.10.2"],
}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--newest", help="a Python of version 3.12 or later, for the newest jax"
    )
    arguments = parser.parse_args()
    shutil.rmtree(DIST, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        compiled, plain = built(Path(folder))
        check_contents(compiled, plain)
        run(sys.executable, "-m", "twine", "check", "--strict", *sorted(DIST.iterdir()))
        for name, versions in VERSIONS.items():
            check_installed(Path(folder, name), sys.executable, compiled, versions)
        if arguments.newest:
            check_installed(Path(folder, "newest"), arguments.newest, compiled, [])
        check_plain(Path(folder, "plain"), plain)
    print(f"wheels in {DIST.relative_to(ROOT)}: {compiled.name}, {plain.name}")


def run(*words: str | Path, **options) -> str:
    """Run a command; return what it printed. It must succeed."""
    print("$", *map(str, words), flush=True)
    environment = {**os.environ, **options.pop("env", {})}
    environment.pop("PYTHONPATH", None)
    return subprocess.run(
        [*map(str, words)], check=True, text=True, env=environment, **options
    ).stdout


def built(folder: Path) -> tuple[Path, Path]:
    """Build the source distribution, and from it wheels with and without a kernel."""
    run(sys.executable, "-m", "build", "--sdist", "--outdir", DIST, ROOT)
    (source,) = DIST.glob("*.tar.gz")
    run("tar", "--extract", "--file", source, "--directory", folder)
    (tree,) = folder.iterdir()
    check_compiler_that_fails(tree, folder / "without")
    wheels = []
    for switch in ("on", "off"):
        before = set(DIST.iterdir())
        run(*BUILD, DIST, tree, env={"STN_JAX_BUILD": switch})
        wheels += set(DIST.iterdir()) - before
    return tuple(wheels)


def check_compiler_that_fails(tree: Path, out: Path) -> None:
    """It is reported in one line, and the wheel has no kernel."""
    said = run(
        *(*BUILD, out, tree),
        env={"CXX": "false", "STN_JAX_BUILD": "on"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    (line,) = (line for line in said.splitlines() if "built without" in line)
    assert "false " in line
    assert "failed with status 1" in line
    (wheel,) = out.iterdir()
    assert wheel.name.endswith("-py3-none-any.whl")


def check_contents(compiled: Path, plain: Path) -> None:
    """The names, and what the wheels hold."""
    assert "-py3-none-" in compiled.name
    assert not compiled.name.endswith("-any.whl"), "no kernel was compiled"
    assert plain.name.endswith("-py3-none-any.whl")
    names = {}
    for wheel in (compiled, plain):
        with zipfile.ZipFile(wheel) as archive:
            names[wheel] = {
                entry.filename: entry.file_size for entry in archive.filelist
            }
        assert "stn_jax/sampling/cpu/kernel/kernel.cpp" in names[wheel]
        assert "stn_jax/sampling/cpu/kernel/axes.h" in names[wheel]
        folders = {Path(name).parts[0] for name in names[wheel]}
        assert folders == {"stn_jax", f"{wheel.name.split('-py3')[0]}.dist-info"}
    added = names[compiled].keys() - names[plain].keys()
    libraries = {name for name in added if name.endswith(".so")}
    assert libraries
    assert added == libraries | {name.replace(".so", ".json") for name in libraries}
    assert sum(names[compiled][name] for name in libraries) <= MOST
    with zipfile.ZipFile(compiled) as archive:
        # with a path of the build, each build would have a digest of its own
        for name in libraries:
            assert tempfile.gettempdir().encode() not in archive.read(name), name


def environment(folder: Path, python: str, requirements: list[str]) -> Path:
    """The Python of a new virtual environment."""
    run(python, "-m", "venv", folder)
    made = folder / "bin" / "python"
    quiet = ("--quiet", "--disable-pip-version-check")
    run(made, "-m", "pip", "install", *quiet, *requirements)
    return made


def check_installed(
    folder: Path, python: str, wheel: Path, versions: list[str]
) -> None:
    """The wheel alone samples by its kernel, and the kernel's tests pass."""
    made = environment(folder, python, [str(wheel), *versions])
    home = {"XDG_CACHE_HOME": str(folder / "cache"), "STN_JAX_CPU": "on"}
    report = run(
        made, "-m", "stn_jax.cpu", cwd=folder, env=home, stdout=subprocess.PIPE
    )
    print(report)
    assert report.startswith("used:        kernel "), "plain JAX samples"
    assert str(folder) in report
    run(made, "-m", "pip", "install", "--quiet", *TOOLS)
    shutil.copytree(ROOT / "tests", folder / "tests")
    shutil.copy(ROOT / "pyproject.toml", folder)  # pytest's settings
    run(
        *(made, "-m", "pytest", "-q", "-n", "2", "-m", "not slow"),
        *("-p", "no:cacheprovider", "tests/sampling/test_cpu.py"),
        cwd=folder,
        env=home
        | {
            "STN_JAX_TEST_KERNEL": "package",
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
        },
    )


def check_plain(folder: Path, wheel: Path) -> None:
    """The wheel without a kernel says so, and samples."""
    made = environment(folder, sys.executable, [str(wheel)])
    code = (
        "import jax.numpy as jnp, stn_jax; from stn_jax.cpu import used; "
        "assert used() == 'plain JAX'; "
        "assert stn_jax.bilinear_sample(jnp.ones((2, 2, 1)), jnp.zeros((1, 1, 2))) == 1"
    )
    run(made, "-c", code, cwd=folder, env={"XDG_CACHE_HOME": str(folder / "cache")})


if __name__ == "__main__":
    main()
