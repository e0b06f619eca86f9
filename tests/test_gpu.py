"""The commands for a GPU, on a machine that has none."""

import os
import subprocess
import sys

import gpu
import pytest
from conftest import ROOT


def run(*command, **environment):
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.parametrize(
    ("command", "way_out"),
    [
        (("-m", "benchmarks.gpu", "--no-pytorch"), "--tiny"),
        (("tests/gpu.py",), "--cpu"),
    ],
)
def test_they_refuse_in_one_line(command, way_out):
    done = run(*command)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "needs a GPU, but jax" in line
    assert line.partition("finds: cpu; ")[2].startswith(way_out)


def test_a_platform_that_is_not_there():
    done = run("tests/gpu.py", JAX_PLATFORMS="cuda")
    assert done.returncode == 1
    assert "needs a GPU, but jax" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("path", gpu.FILES)
def test_the_files_exist(path):
    path = ROOT / path
    assert path.is_file() or [*path.glob("test_*.py")]


def test_the_tests_of_precision_run_on_a_cpu():
    """The whole way, by the command, but for the GPU."""
    done = run("tests/gpu.py", "--cpu", "-n", "0", "-k", "test_a_plain_matrix_product")
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_a_skipped_test_is_a_failure(tmp_path):
    path = tmp_path / "test_skipped.py"
    path.write_text("import pytest\ndef test_it(): pytest.skip('no oracle')\n")
    code = f"import gpu; gpu.FILES = ({str(path)!r},); exit(gpu.main(['--cpu', '-n0']))"
    done = run("-c", code)
    assert done.returncode == 1
    assert "1 skipped, which may not be: " in done.stdout
    assert "test_skipped.py::test_it" in done.stdout
