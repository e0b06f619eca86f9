"""The kernel that comes with the package: which library is used, and which is not."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from conftest import ROOT

from stn_jax.cpu import report, used
from stn_jax.sampling.cpu import compiler, packaged, variants

if "CXX" not in os.environ and not any(map(shutil.which, compiler.COMPILERS)):
    pytest.skip("no C++ compiler is here", allow_module_level=True)
if not variants.usable():
    pytest.skip("no variant is for this CPU", allow_module_level=True)

NAME = variants.usable()[0].name
SAMPLE = """
import sys
from pathlib import Path
from stn_jax.sampling.cpu import variants
variants.FOLDER = Path(sys.argv[1])
import jax.numpy as jnp
from stn_jax import bilinear_sample
from stn_jax.cpu import used

for n in (2, 3):
    assert (bilinear_sample(jnp.ones((4, 4, 1)), jnp.zeros((n, n, 2))) == 1).all()
print(used())
"""


@pytest.fixture
def package(library, tmp_path, monkeypatch):
    """The library of a package that holds one only; the user has none."""
    folder = tmp_path / "lib"
    folder.mkdir()
    monkeypatch.setattr(variants, "FOLDER", folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("STN_JAX_CPU", "on")
    path = variants.usable()[0].library(compiler.digest())
    original = next(library.rglob("*.so"))
    for suffix in (".so", ".json"):
        shutil.copyfile(original.with_suffix(suffix), path.with_suffix(suffix))
    return path


def sample_alone(package, code=SAMPLE):
    """Sample in a process of its own: what it printed, and its warnings."""
    done = subprocess.run(
        [sys.executable, "-W", "always::RuntimeWarning", "-c", code, package.parent],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


def test_the_packages_library_samples(package):
    printed, warned = sample_alone(package)
    record = json.loads(package.with_suffix(".json").read_text())
    assert printed == f"kernel {NAME} {record['sha256'][:16]}"
    assert warned == ""


@pytest.fixture
def own_build(package, library, tmp_path):
    """A library in the user's cache."""
    shutil.copytree(library, tmp_path / "cache")
    return next((tmp_path / "cache").rglob("*.so"))


def test_the_users_own_build_comes_first(package, own_build):
    printed, warned = sample_alone(package)
    assert printed.startswith("kernel native ")
    assert warned == ""


def test_a_damaged_own_build_is_left_out(package, own_build):
    own_build.write_bytes(own_build.read_bytes()[:5000])
    printed, warned = sample_alone(package)
    assert printed.startswith(f"kernel {NAME} ")
    assert warned.count("RuntimeWarning") == 1
    assert f"the size or digest of {own_build} is not" in warned


def truncate(path):
    path.write_bytes(path.read_bytes()[:5000])


def lose_the_record(path):
    path.with_suffix(".json").unlink()


def damage_the_record(path):
    path.with_suffix(".json").write_text("{")


def forget_the_interface(path):
    record = json.loads(path.with_suffix(".json").read_text())
    del record["ffi_api"]
    path.with_suffix(".json").write_text(json.dumps(record))


def need_a_newer_jaxlib(path):
    record = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(record | {"ffi_api": [0, 99]}))


def put_another_library(path):
    path.write_bytes(b"no library at all")
    record = compiler.record(path.read_bytes(), jax.ffi.include_dir())
    path.with_suffix(".json").write_bytes(record)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (truncate, "the size or digest of"),
        (lose_the_record, "[.]json cannot be read: No such file"),
        (damage_the_record, "the record beside .* is damaged"),
        (forget_the_interface, "the record beside .* is damaged"),
        (need_a_newer_jaxlib, "needs version 0.99 .* the installed jaxlib has 0[.]"),
        (put_another_library, "cannot be loaded"),
    ],
)
def test_a_bad_library_is_left_out(package, change, reason):
    change(package)
    printed, warned = sample_alone(package)
    assert printed == "plain JAX"
    assert warned.count("RuntimeWarning") == 1
    assert re.search(reason, warned), warned
    assert re.search(reason, lines()["packaged"])


def lines():
    return dict(re.split(": +", line, maxsplit=1) for line in report())


def test_the_report(package, monkeypatch):
    assert lines()["packaged"] == f"valid: {package}"
    monkeypatch.setenv("STN_JAX_CPU", "off")
    assert lines()["used"] == used() == "plain JAX"


def test_a_library_of_another_source_is_never_loaded(package):
    package.rename(package.with_name(f"kernel-0123456789abcdef-{NAME}.so"))
    assert sample_alone(package) == ("plain JAX", "")
    assert lines()["packaged"].startswith("none of this source")


def test_a_package_without_a_kernel(package):
    package.unlink()
    assert sample_alone(package) == ("plain JAX", "")
    assert lines()["packaged"] == "none: the package was built without a C++20 compiler"


def test_a_library_that_jax_refuses(package, tmp_path):
    """It is of another version of the interface, which its record does not say.

    JAX must start all the same, and plain JAX samples.
    """
    headers = shutil.copytree(jax.ffi.include_dir(), tmp_path / "headers")
    header = headers / compiler.HEADER
    minor = r"(define XLA_FFI_API_MINOR) \d+"
    header.write_text(re.sub(minor, r"\1 99", header.read_text()))
    compiler.compile_kernel(package, headers, "-O0")
    record = compiler.record(package.read_bytes(), jax.ffi.include_dir())
    package.with_suffix(".json").write_bytes(record)
    start = "from stn_jax.cpu import used\nassert used() == 'plain JAX'\n"
    at = SAMPLE.index("import jax.numpy")
    for code in (SAMPLE, SAMPLE[:at] + start + SAMPLE[at:]):
        printed, warned = sample_alone(package, code)
        assert printed == "plain JAX"
        assert warned.count("RuntimeWarning") == 1
        assert "API version" in warned


HASWELL = "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave popcnt sse4_1 sse4_2 ssse3"
SKYLAKE = f"{HASWELL} avx512f avx512bw avx512cd avx512dq avx512vl"


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (SKYLAKE, ["x86-64-v4", "x86-64-v3"]),
        (HASWELL, ["x86-64-v3"]),
        (SKYLAKE.replace(" avx512vl", ""), ["x86-64-v3"]),
        (HASWELL.replace(" fma", ""), []),
        (None, []),
    ],
)
def test_the_cpu_chooses(tmp_path, monkeypatch, flags, names):
    cpuinfo = tmp_path / "cpuinfo"
    if flags is not None:
        line = f"processor\t: 0\nmodel name\t: a CPU\nflags\t\t: {flags}\n"
        cpuinfo.write_text(2 * f"{line}bugs\t\t: none\n\n")
    monkeypatch.setattr(variants, "CPUINFO", cpuinfo)
    monkeypatch.setattr(variants.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(variants.platform, "system", lambda: "Linux")
    assert [variant.name for variant in variants.usable()] == names


@pytest.mark.parametrize(
    ("system", "machine", "count"),
    [
        ("Darwin", "arm64", 1),
        ("Darwin", "x86_64", 0),
        ("Windows", "AMD64", 0),
        ("Linux", "riscv64", 0),
    ],
)
def test_other_systems(monkeypatch, system, machine, count):
    monkeypatch.setattr(variants.platform, "machine", lambda: machine)
    monkeypatch.setattr(variants.platform, "system", lambda: system)
    assert len(variants.usable()) == count
    if not count:
        assert packaged.absence() == f"none for {system} on {machine}"


def test_four_processes_that_build_at_once(library, tmp_path, monkeypatch):
    """Each ends with a valid library."""
    original = next(library.rglob("*.so"))
    slow = tmp_path / "slow.py"
    slow.write_text(
        "import shutil, sys, time\n"
        "time.sleep(1)\n"
        f"shutil.copy({str(original)!r}, sys.argv[sys.argv.index('-o') + 1])\n"
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", f"{sys.executable} {slow}")
    words = [sys.executable, "-m", "stn_jax.cpu", "build"]
    running = [
        subprocess.Popen(
            words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(4)
    ]
    for process in running:
        out, error = process.communicate(timeout=120)
        assert (process.returncode, error) == (0, b"")
        assert b"the CPU kernel is ready" in out
    assert lines()["own build"].startswith("valid: ")
    left = sorted(path.suffix for path in (tmp_path / "cache" / "stn_jax").iterdir())
    assert left == [".json", ".so"]


FORK = f"""{SAMPLE}
import os
if os.fork() == 0:
    ok = (bilinear_sample(jnp.ones((4, 4, 1)), jnp.zeros((2, 2, 2))) == 1).all()
    os._exit(not ok)
_, status = os.wait()
assert status == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_after_use(package):
    printed, _ = sample_alone(package, FORK)
    assert printed.startswith(f"kernel {NAME} ")


def test_files_that_the_build_reads_need_no_jax():
    """The build of the package runs them where jax is not installed."""
    code = "import runpy, sys; sys.modules['jax'] = sys.modules['numpy'] = None; "
    code += "[runpy.run_path(path) for path in sys.argv[1:]]"
    paths = [Path(module.__file__) for module in (compiler, variants)]
    subprocess.run([sys.executable, "-c", code, *paths], check=True)
