"""The kernel's library: the command that builds it, and which libraries are loaded."""

import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from conftest import ROOT

from stn_jax import bilinear_sample
from stn_jax.sampling.cpu import build, compiler, ffi, variants
from stn_jax.sampling.cpu import library as libraries

if "CXX" not in os.environ and not any(map(shutil.which, compiler.COMPILERS)):
    pytest.skip("no C++ compiler is here", allow_module_level=True)


fault = partial(libraries.fault, build.load_own)
INCLUDE = jax.ffi.include_dir()


def calls_kernel(height):
    """Whether a program that is lowered now, for a grid of this height, calls it."""
    arrays = jnp.ones((4, 5, 3)), jnp.zeros((height, 6, 2))
    program = jax.jit(lambda *a: bilinear_sample(*a))  # not one lowered before
    return "stn_jax_cpu_" in program.lower(*arrays).as_text()


# the package has no kernel
ALONE = """
import runpy
from pathlib import Path
from stn_jax.sampling.cpu import variants
variants.FOLDER = Path("/nowhere")
"""
COMMAND = f"{ALONE}runpy.run_module('stn_jax.cpu', run_name='__main__')"


@pytest.fixture(autouse=True)
def package_without_a_kernel(monkeypatch):
    monkeypatch.setattr(variants, "FOLDER", Path("/nowhere"))


def command(*words, **environment):
    """Run ``python -m stn_jax.cpu``."""
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


def test_the_command_keeps_a_valid_library(library):
    path = next(library.rglob("*.so"))
    before = path.stat().st_mtime_ns
    done = command("build", XDG_CACHE_HOME=str(library), CXX="false")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"the CPU kernel is ready: {path}\n"
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"CXX": "false"}, "false .*kernel.cpp .* failed with status 1"),
        ({"CXX": "/nowhere/c++"}, "/nowhere/c[+][+] cannot be run"),
        ({"CXX": "'c++"}, "CXX='c[+][+] is not a shell command"),
        ({"CXX": "", "PATH": ""}, "a C[+][+]20 compiler is needed"),
        pytest.param(
            {"XDG_CACHE_HOME": "/proc/nowhere"},  # where nobody can write
            "/proc/nowhere/.* cannot be written",
            marks=pytest.mark.skipif(
                not Path("/proc/self").exists(), reason="this system has no /proc"
            ),
        ),
    ],
)
def test_a_compiler_that_fails(tmp_path, environment, message):
    done = command("build", **{"XDG_CACHE_HOME": str(tmp_path), **environment})
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.search(message, done.stderr), done.stderr
    assert [*tmp_path.rglob("*.so")] == []


def lines_of(report):
    return dict(re.split(": +", line, maxsplit=1) for line in report.splitlines())


def test_the_report(library):
    environment = {
        "XDG_CACHE_HOME": str(library),
        "STN_JAX_CPU": "on",
        "CXX": "false -x",
    }
    done = command(**environment)
    assert (done.returncode, done.stderr) == (0, "")
    path = next(library.rglob("*.so"))
    found = lines_of(done.stdout)
    assert found.pop("used").startswith("kernel native ")
    assert found.pop("STN_JAX_CPU").startswith("on")
    assert found.pop("packaged").startswith("none: ")
    assert found == {"own build": f"valid: {path}", "compiler": "false -x"}


def test_the_report_where_nothing_is_right():
    done = command(XDG_CACHE_HOME=".", HOME=".", STN_JAX_CPU="yes", CXX="/nowhere/c++")
    assert (done.returncode, done.stderr) == (0, "")
    found = lines_of(done.stdout)
    assert found["own build"].startswith("the home folder is unknown")
    assert found["STN_JAX_CPU"].endswith("got 'yes'")
    assert found["compiler"] == "/nowhere/c++ (not found)"


def test_the_report_of_a_bad_library(broken, monkeypatch):
    broken.write_bytes(b"")
    found = lines_of(command(STN_JAX_CPU="off").stdout)
    assert found["STN_JAX_CPU"].startswith("off")
    assert re.match(
        f"not used: the size or digest of {broken} is not", found["own build"]
    )
    broken.unlink()
    assert lines_of(command().stdout)["own build"].startswith("none; ")


def test_the_help_and_a_misspelt_command():
    assert "build" in command("--help").stdout
    done = command("biuld")
    assert done.returncode == 2
    assert "invalid choice: 'biuld'" in done.stderr


SAMPLE = """
import jax.numpy as jnp
from stn_jax import bilinear_sample

for n in (2, 3):
    assert (bilinear_sample(jnp.ones((4, 4, 1)), jnp.zeros((n, n, 2))) == 1).all()
"""
as_root = pytest.mark.skipif(
    getattr(os, "geteuid", lambda: None)() != 0, reason="only root gives files away"
)


def sample_alone(folder, environment, code=SAMPLE):
    """Sample in a process of its own, in a folder; its standard error."""
    done = subprocess.run(
        [sys.executable, "-W", "always::RuntimeWarning", "-c", ALONE + code],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "STN_JAX_CPU": "on", **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="session")
def foreign_library(tmp_path_factory):
    """A library whose constructor makes the file that ``PLANTED`` names."""
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "planted.cpp").write_text(
        "#include <cstdio>\n#include <cstdlib>\n"
        "__attribute__((constructor)) static void run() {\n"
        '  if (auto* to = std::getenv("PLANTED")) std::fclose(std::fopen(to, "w"));\n'
        "}\n"
    )
    command = [
        *compiler.compiler(),
        "-shared",
        "-fPIC",
        "planted.cpp",
        "-o",
        "planted.so",
    ]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "planted.so"


@pytest.fixture
def planted(foreign_library, monkeypatch, tmp_path):
    """The foreign library where the kernel is looked for in ``tmp_path``."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PLANTED", str(tmp_path / "it ran"))
    path = build.own_path()
    path.parent.mkdir(mode=0o700)
    shutil.copyfile(foreign_library, path)
    record = path.with_suffix(".json")
    record.write_bytes(compiler.record(path.read_bytes(), INCLUDE))
    for file in (path, record):
        file.chmod(0o600)
    return path


def test_the_planted_library_would_run(planted):
    """Without which the tests below could not fail."""
    assert "cannot be loaded" in fault(planted)
    assert (planted.parents[1] / "it ran").exists()


def give_folder_away(path):
    os.chown(path.parent, 12345, -1)


def give_file_away(path):
    os.chown(path, 12345, -1)


def link(path):
    path.rename(path.with_suffix(".target"))
    path.symlink_to(path.with_suffix(".target"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda path: path.parent.chmod(0o770),
            "other users can write to .*stn_jax [(]",
        ),
        (
            lambda path: path.parent.chmod(0o1777),
            "other users can write to .*stn_jax [(]",
        ),
        (lambda path: path.chmod(0o620), "other users can write to .*[.]so [(]"),
        (lambda path: path.chmod(0o602), "other users can write to .*[.]so [(]"),
        (link, "[.]so cannot be read as a regular file"),
        pytest.param(
            give_folder_away, "stn_jax belongs to another user [(]", marks=as_root
        ),
        pytest.param(
            give_file_away, "[.]so belongs to another user [(]", marks=as_root
        ),
    ],
)
def test_a_planted_library_is_not_run(planted, change, reason):
    change(planted)
    warned = sample_alone(planted.parents[1], {}, SAMPLE)
    assert not (planted.parents[1] / "it ran").exists()
    assert re.search(reason, warned), warned
    assert warned.count("RuntimeWarning") == 1


def test_a_relative_cache_is_ignored(planted):
    home = planted.parents[1] / "home"
    environment = {"XDG_CACHE_HOME": ".", "HOME": str(home)}
    warned = sample_alone(planted.parents[1], environment)
    assert not (planted.parents[1] / "it ran").exists()
    assert warned == ""


def test_without_owners_nothing_is_loaded(planted, monkeypatch):
    monkeypatch.delattr(os, "geteuid", raising=False)
    monkeypatch.setenv("STN_JAX_CPU", "on")
    with pytest.warns(RuntimeWarning, match="does not report who owns a file"):
        assert not ffi.is_on()
    assert not (planted.parents[1] / "it ran").exists()


def test_what_is_built_is_private(kernel):
    path = build.own_path()
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o077 == 0


@as_root
def test_nothing_is_built_in_the_folder_of_another_user(planted):
    give_folder_away(planted)
    done = command("build", CXX="false")
    assert done.returncode == 1
    assert "stn_jax belongs to another user" in done.stderr


@pytest.fixture
def broken(library, monkeypatch, tmp_path):
    """A copy of the library, to be broken; CXX names a compiler that makes it again."""
    original = next(library.rglob("*.so"))
    copier = tmp_path / "copier.py"
    copier.write_text(
        "import shutil, sys\n"
        f"shutil.copy({str(original)!r}, sys.argv[sys.argv.index('-o') + 1])\n"
    )
    cache = tmp_path / "cache"
    shutil.copytree(library, cache)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("STN_JAX_CPU", "on")
    monkeypatch.setenv("CXX", f"{sys.executable} {copier}")
    return cache / "stn_jax" / original.name


def empty(path):
    path.write_bytes(b"")


def truncate(path):
    path.write_bytes(path.read_bytes()[:5000])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def swap(path):
    path.write_bytes(b"no library at all")


def swap_with_its_record(path):
    swap(path)
    path.with_suffix(".json").write_bytes(compiler.record(path.read_bytes(), INCLUDE))


def lose_the_record(path):
    path.with_suffix(".json").unlink()


def put_a_folder(path):
    path.unlink()
    path.mkdir()
    (path / "mine").touch()


def put_a_folder_for_the_record(path):
    lose_the_record(path)
    path.with_suffix(".json").mkdir()


def put_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def open_to_all(path):
    path.parent.chmod(0o777)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (empty, "size or digest"),
        (truncate, "size or digest"),
        (flip_a_bit, "size or digest"),
        (swap, "size or digest"),
        (swap_with_its_record, "cannot be loaded"),
        (lose_the_record, "[.]json cannot be read .* No such file"),
        (put_a_folder, "[.]so cannot be read .* Is a directory"),
        (put_a_folder_for_the_record, "[.]json cannot be read .* Is a directory"),
        (put_a_pipe, "[.]so is not a regular file"),
        (open_to_all, "other users can write to"),
    ],
)
def test_a_bad_library_is_left_out_until_it_is_built_anew(
    broken, recwarn, change, reason
):
    change(broken)
    assert not calls_kernel(6)
    assert not calls_kernel(5)
    (warned,) = [w for w in recwarn if w.category is RuntimeWarning]
    assert re.search(reason, str(warned.message)), warned.message
    assert build.ensure_built() == broken
    assert fault(broken) is None
    kept = [*broken.parent.rglob("mine")]
    assert len(kept) == (change is put_a_folder), "a folder is moved, not removed"


def test_an_unreadable_library_is_left_out(broken, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # root reads files of any mode
    with pytest.warns(
        RuntimeWarning, match=r"[.]so cannot be read .* Permission denied"
    ):
        assert not ffi.is_on()


@pytest.mark.parametrize("home", ["unknown", "relative"])
def test_without_a_home_there_is_no_own_build(monkeypatch, recwarn, home):
    def find_home():
        if home == "unknown":
            raise RuntimeError("Could not determine home directory.")
        return Path(".")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("STN_JAX_CPU", "on")
    monkeypatch.setattr(Path, "home", find_home)
    assert not calls_kernel(6)
    assert not [w for w in recwarn if w.category is RuntimeWarning]
    with pytest.raises(RuntimeError, match="the home folder is unknown"):
        build.ensure_built()


def test_a_truncated_library_in_processes_of_their_own(broken, tmp_path):
    """It would end the process that loads it."""
    truncate(broken)
    assert sample_alone(tmp_path, {}, SAMPLE).count("RuntimeWarning") == 1
    done = command("build")
    assert (done.returncode, done.stderr) == (0, "")
    is_called = "from stn_jax.sampling.cpu import is_on\nassert is_on()\n"
    assert sample_alone(tmp_path, {}, SAMPLE + is_called) == ""


def test_an_interrupted_build_leaves_nothing_that_is_loaded(broken, monkeypatch):
    """The library is new, and the record still the old one."""
    truncate(broken)
    replace = build._replace

    def interrupted(file, target):
        if target.suffix == ".json":
            raise KeyboardInterrupt
        replace(file, target)

    broken.with_suffix(".json").write_bytes(compiler.record(b"older", INCLUDE))
    monkeypatch.setattr(build, "_replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build.ensure_built()
    assert "size or digest" in fault(broken)
    assert {file.suffix for file in broken.parent.iterdir()} == {".so", ".json"}
