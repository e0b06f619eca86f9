"""The compiled CPU kernel gives what plain JAX gives, and is called where it can be."""

import itertools
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from conftest import ROOT, enable_x64
from jax import export
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from stn_jax import bilinear_sample, sample
from stn_jax.sampling.cpu import build, ffi
from stn_jax.sampling.padding import RULES

CALL = "stn_jax_cpu_"
slow = partial(pytest.param, marks=pytest.mark.slow)

if "CXX" not in os.environ and not any(map(shutil.which, build.COMPILERS)):
    pytest.skip("no C++ compiler is here", allow_module_level=True)


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """A folder for the user's cache, with the kernel in it."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        umask = os.umask(0)  # the library is private even so
        build.ensure_built()
        os.umask(umask)
    return folder


@pytest.fixture
def kernel(monkeypatch, library):
    """Programs compiled from here on call the kernel."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(library))
    monkeypatch.setenv("STN_JAX_CPU", "on")


def gradients(**options):
    """A program: the values and both gradients."""

    def both(image, grid, bar):
        out, pull = jax.vjp(lambda *a: sample(*a, **options), image, grid)
        return out, *pull(bar.astype(out.dtype))

    return both


def program_of(function, *arrays):
    """What plain JAX makes of it, in float64."""
    with pytest.MonkeyPatch.context() as patch, enable_x64():
        patch.setenv("STN_JAX_CPU", "off")
        arrays = [np.asarray(array, float) for array in arrays]
        return jax.jit(lambda *a: function(*a)).lower(*arrays).compile()


def plain(function, *arrays):
    """What it gives, rounded to float32."""
    return run(program_of(function, *arrays), *arrays)


def run(program, *arrays):
    with enable_x64():
        found = program(*(np.asarray(array, float) for array in arrays))
    return jax.tree.map(np.float32, found)


def compiled(function, *arrays):
    """What the kernel makes of it."""
    program = jax.jit(lambda *a: function(*a)).lower(*arrays)
    assert CALL in program.as_text()
    return program.compile()(*arrays)


def inputs(rng, size, channels, batch=(2,), points=(7, 13)):
    image = rng.normal(size=(*batch, *size, channels)).astype(np.float32)
    points = (1,) * (len(size) - 2) + points
    grid = rng.uniform(-2.2, 2.2, size=(*batch, *points, len(size)))
    bar = rng.normal(size=(*batch, *points, channels)).astype(np.float32)
    return image, grid.astype(np.float32), bar


@pytest.mark.parametrize("size", [(5, 6), slow((3, 4, 5))], ids=str)
@pytest.mark.parametrize(
    ("mode", "align_corners"),
    [
        *((mode, False) for mode in ("zeros", "reflection", "wrap")),
        ("reflection", True),
        *(slow(mode, False) for mode in ("constant", "border")),
        *(slow(mode, True) for mode in RULES if mode != "reflection"),
    ],
)
def test_values_and_gradients(rng, kernel, size, mode, align_corners):
    """With channels few and many."""
    both = gradients(padding_mode=mode, align_corners=align_corners)
    image, grid, bar = inputs(rng, size, 9)
    program = program_of(both, image, grid, bar)
    for channels in (1, 2, 3, 4, 9):
        few = (..., slice(channels))
        found = compiled(both, image[few], grid, bar[few])
        others = np.arange(9) >= channels
        out, image_bar, grid_bar = run(program, image, grid, np.where(others, 0, bar))
        chex.assert_trees_all_close(
            found, (out[few], image_bar[few], grid_bar), atol=1e-4
        )


def test_against_plain_loops(rng, kernel):
    image, grid, _ = inputs(rng, (5, 6), 3, batch=())
    found = compiled(bilinear_sample, image, grid)
    np.testing.assert_allclose(
        found, references.bilinear_sample(image, grid), atol=1e-5
    )


def test_volumes(rng, kernel):
    both = gradients(padding_mode=("zeros", "reflection", "wrap"))
    arrays = inputs(rng, (3, 4, 5), 3)
    chex.assert_trees_all_close(
        compiled(both, *arrays), plain(both, *arrays), atol=1e-4
    )


@pytest.mark.parametrize(
    "wanted", [1, *(pytest.param(w, marks=pytest.mark.slow) for w in (0, (0, 1)))]
)
def test_each_gradient_alone_and_under_maps(rng, kernel, wanted):
    image, grid, _ = inputs(rng, (4, 5), 3, batch=(3,))

    def loss(image, grid):
        return jnp.sin(bilinear_sample(image, grid)).sum()

    def mapped(image, grid):
        shared = jax.vmap(jax.grad(loss, wanted), (None, 0))
        return jax.vmap(jax.grad(loss, wanted))(image, grid), shared(image[0], grid)

    found = compiled(mapped, image, grid)
    expected = plain(mapped, image, grid)
    chex.assert_trees_all_close(found, expected, atol=1e-4, rtol=1e-4)


def test_higher_derivatives_and_control_flow(rng, kernel):
    image, grid, _ = inputs(rng, (4, 5), 2, batch=())

    def program(image, grid):
        def step(total, shift):
            return total + jax.checkpoint(loss)(image, grid + shift), None

        def loss(image, grid):
            return jnp.sin(bilinear_sample(image, grid)).sum()

        def summed(image, grid):
            total, _ = jax.lax.scan(step, jnp.zeros_like(grid[0, 0, 0]), grid[0, :3, 0])
            return total + loss(image, grid)

        first = jax.grad(summed, (0, 1))(image, grid)
        curved = jax.jvp(jax.grad(loss, 1), (image, grid), (image, grid))
        return first, curved

    found = compiled(program, image, grid)
    expected = plain(program, image, grid)
    chex.assert_trees_all_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("count", [1, (os.cpu_count() or 1) + 1])
def test_many_points_in_many_programs_at_once(rng, kernel, count):
    """More points than one thread takes, no whole blocks, several callers; fewer images
    than threads, and more.
    """
    image, grid, bar = inputs(rng, (9, 8), 1, batch=(count,), points=(57, 71))
    expected = plain(gradients(), image, grid, bar)
    program = jax.jit(gradients()).lower(image, grid, bar).compile()
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: program(image, grid, bar), range(20)):
            chex.assert_trees_all_close(found, expected, atol=1e-3)


def test_sums_are_the_same_each_time(rng, kernel):
    """Many points add to few pixels, in one order."""
    image, grid, bar = inputs(rng, (2, 2), 3, batch=(2,), points=(300, 7))
    program = jax.jit(gradients()).lower(image, grid, bar).compile()
    first = program(image, grid, bar)
    for _ in range(5):
        chex.assert_trees_all_equal(program(image, grid, bar), first)


@pytest.mark.parametrize(
    ("mode", "align_corners"),
    [
        *((mode, True) for mode in ("zeros", "reflection")),
        *(slow(mode, True) for mode in ("constant", "border", "wrap")),
        *(slow(mode, False) for mode in RULES),
    ],
)
def test_what_is_not_finite(kernel, mode, align_corners):
    """Infinite and NaN coordinates and pixels, on axes of one pixel too."""
    special = [np.nan, np.inf, -np.inf, 3e38, 1e9, 2.0**23, -1e7, -0.6, 0.25, 1.0]
    pairs = np.array([[*itertools.product(special, special)]], np.float32)
    bar = np.ones((1, len(special) ** 2, 1), np.float32)
    both = gradients(padding_mode=mode, align_corners=align_corners)
    for size in ((3, 4), (1, 4), (1, 1)):
        image = np.arange(1.0, 1 + np.prod(size), dtype=np.float32).reshape(*size, 1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("STN_JAX_CPU", "off")
            program = jax.jit(lambda *a: both(*a)).lower(image, pairs, bar).compile()
        ours = jax.jit(lambda *a: both(*a)).lower(image, pairs, bar).compile()
        for pixel in (2.0, np.nan, np.inf):
            image[0, 0] = pixel
            chex.assert_trees_all_close(
                ours(image, pairs, bar),
                program(image, pairs, bar),
                rtol=1e-5,
                atol=1e-4,
            )


@pytest.mark.parametrize(
    ("size", "channels"),
    [
        ((4, 2), 1),
        ((1, 4), 3),
        ((2, 1), 1),
        *(slow(size, channels) for size in [(4, 1), (1, 1)] for channels in (1, 2, 4)),
        slow((4, 2), 2),
        slow((4, 2), 3),
        slow((4, 2), 4),
    ],
    ids=str,
)
def test_few_channels_pixel_by_pixel(kernel, size, channels):
    """On pixels, between them and beyond, whichever of them is infinite: what lies
    outside adds nothing, not zero times a neighbour. With such sizes all coordinates
    are exact.
    """
    both = gradients()
    axes = [(2 * np.arange(-1.5, n + 0.5, 0.25) + 1) / n - 1 for n in size]
    grid = np.stack(np.meshgrid(*axes, indexing="ij")[::-1], axis=-1, dtype=np.float32)
    bar = np.linspace(-1, 2, grid.size // 2 * channels, dtype=np.float32)
    bar = bar.reshape(*grid.shape[:2], channels)
    image = np.arange(1.0, 1 + np.prod(size) * channels, dtype=np.float32)
    image = image.reshape(*size, channels)
    program = program_of(both, image, grid, bar)
    lowered = jax.jit(lambda *a: both(*a)).lower(image, grid, bar)
    assert CALL in lowered.as_text()
    ours = lowered.compile()
    for where in [None, *np.ndindex(size)]:
        shown = image.copy()
        if where is not None:
            shown[where][-1] = np.inf
        found = ours(shown, grid, bar)
        chex.assert_trees_all_close(found, run(program, shown, grid, bar), atol=1e-4)
        values = references.bilinear_sample(np.where(np.isinf(shown), 0, shown), grid)
        clean = np.isfinite(found[0])
        np.testing.assert_allclose(
            np.where(clean, found[0], 0), np.where(clean, values, 0), atol=1e-5
        )


@pytest.mark.parametrize("channels", [1, slow(2), 3, slow(4)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_far_point_changes_no_other(rng, kernel, dtype, channels):
    """Points near and far are read in different ways."""
    image, grid, bar = inputs(rng, (6, 7), channels, points=(30, 70))
    image, bar = jnp.asarray(image, dtype), jnp.asarray(bar, dtype)
    far = grid.copy()
    far[1, 20, 3] = np.nan, 3e38
    near, other = (compiled(gradients(), image, g, bar) for g in (grid, far))
    assert np.isnan(other[0][1, 20, 3]).all()
    others = np.ones(grid.shape[:3], bool)
    others[1, 20, 3] = False
    for a, b in ((near[0], other[0]), (near[2], other[2])):
        a, b = (np.asarray(x, float)[others] for x in (a, b))
        np.testing.assert_allclose(a, b, rtol=jnp.finfo(dtype).eps, atol=1e-5)
    np.testing.assert_allclose(other[2][1, 20, 3], 0)


@pytest.mark.parametrize("channels", [1, 2, 3, slow(4), 9, 32])
def test_bfloat16_is_rounded_once(rng, kernel, channels):
    image, grid, bar = inputs(rng, (4, 5), channels, points=(20, 20))
    image = jnp.asarray(image, jnp.bfloat16)
    bar = jnp.asarray(bar, jnp.bfloat16)
    found = compiled(gradients(), image, grid, bar)
    expected = plain(gradients(), image, grid, bar)
    assert [x.dtype for x in found] == [jnp.bfloat16, jnp.bfloat16, jnp.float32]
    for a, b in zip(found[:2], expected[:2], strict=True):
        np.testing.assert_allclose(np.asarray(a, float), b, rtol=2**-8, atol=1e-4)
    np.testing.assert_allclose(found[2], expected[2], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", [(0, 4, 5, 3), (2, 4, 5, 3)])
def test_nothing_to_read(kernel, shape):
    image = jnp.ones(shape)
    grid = jnp.zeros((shape[0], 0, 3, 2))
    out, image_bar, grid_bar = jax.jit(gradients())(
        image, grid, jnp.zeros((shape[0], 0, 3, 3))
    )
    assert out.shape == (shape[0], 0, 3, 3)
    assert grid_bar.shape == grid.shape
    np.testing.assert_array_equal(image_bar, jnp.zeros(shape))


# where it is called


def text_of(*arrays, **options):
    return (jax.jit(lambda *a: bilinear_sample(*a, **options)).lower(*arrays)).as_text()


def test_where_it_is_not_called(rng, kernel, monkeypatch):
    image, grid, _ = inputs(rng, (4, 5), 3, batch=(2,))
    assert CALL in text_of(image, grid)
    assert CALL not in text_of(image.astype(np.float16), grid)
    assert CALL in text_of(image.astype(jnp.bfloat16), grid)
    assert CALL in text_of(jnp.ones((2, 4, 5, 32), jnp.bfloat16), grid)
    with enable_x64():
        assert CALL not in text_of(image.astype(float), grid)
    exported = export.export(jax.jit(bilinear_sample))(image, grid)
    assert CALL not in exported.mlir_module()
    monkeypatch.setenv("STN_JAX_CPU", "off")
    assert CALL not in text_of(image, grid)
    monkeypatch.setenv("STN_JAX_CPU", "yes")
    with pytest.raises(ValueError, match=r"STN_JAX_CPU must be .*'on'.* got 'yes'"):
        text_of(image, grid)


def test_several_devices(rng, kernel):
    """The compiler's own division is left to plain JAX; shard_map's is not."""
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    spec = PartitionSpec("data")
    arrays = inputs(rng, (4, 5), 3, batch=(4,))
    expected = plain(gradients(), *arrays)
    spread = [jax.device_put(a, NamedSharding(mesh, spec)) for a in arrays]

    specs = {"in_specs": (spec,) * 3, "out_specs": spec}
    divided = jax.shard_map(gradients(), mesh=mesh, **specs)
    for program, is_called in ((jax.jit(gradients()), False), (jax.jit(divided), True)):
        lowered = program.lower(*spread)
        assert (CALL in lowered.as_text()) == is_called
        chex.assert_trees_all_close(lowered.compile()(*spread), expected, atol=1e-4)


# the command


def command(*words, **environment):
    """Run ``python -m stn_jax.cpu``."""
    return subprocess.run(
        [sys.executable, "-m", "stn_jax.cpu", *words],
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
    assert found.pop("STN_JAX_CPU").startswith("on")
    assert found == {"library": str(path), "state": "valid", "compiler": "false -x"}


def test_the_report_where_nothing_is_right():
    done = command(XDG_CACHE_HOME=".", HOME=".", STN_JAX_CPU="yes", CXX="/nowhere/c++")
    assert (done.returncode, done.stderr) == (0, "")
    found = lines_of(done.stdout)
    assert found["library"].startswith("the home folder is unknown")
    assert found["STN_JAX_CPU"].endswith("got 'yes'")
    assert found["compiler"] == "/nowhere/c++ (not found)"


def test_the_report_of_a_bad_library(broken, monkeypatch):
    broken.write_bytes(b"")
    found = lines_of(command(STN_JAX_CPU="off").stdout)
    assert found["STN_JAX_CPU"].startswith("off")
    assert re.match(f"not used: the size or digest of {broken} is not", found["state"])
    broken.unlink()
    assert lines_of(command().stdout)["state"].startswith("not built")


def test_the_help_and_a_misspelt_command():
    assert "build" in command("--help").stdout
    done = command("biuld")
    assert done.returncode == 2
    assert "invalid choice: 'biuld'" in done.stderr


# the library in the cache: only the user and root can have written what is loaded

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
        [sys.executable, "-W", "always::RuntimeWarning", "-c", code],
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
    compiler = os.environ.get("CXX") or next(filter(shutil.which, build.COMPILERS))
    command = [*compiler.split(), "-shared", "-fPIC", "planted.cpp", "-o", "planted.so"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "planted.so"


@pytest.fixture
def planted(foreign_library, monkeypatch, tmp_path):
    """The foreign library where the kernel is looked for in ``tmp_path``."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PLANTED", str(tmp_path / "it ran"))
    path = build.library_path()
    path.parent.mkdir(mode=0o700)
    shutil.copyfile(foreign_library, path)
    record = path.with_suffix(".json")
    record.write_bytes(build._record(path.read_bytes()))
    for file in (path, record):
        file.chmod(0o600)
    return path


def test_the_planted_library_would_run(planted):
    """Without which the tests below could not fail."""
    assert "cannot be loaded" in build.fault(planted)
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
    path = build.library_path()
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o077 == 0


@as_root
def test_nothing_is_built_in_the_folder_of_another_user(planted):
    give_folder_away(planted)
    done = command("build", CXX="false")
    assert done.returncode == 1
    assert "stn_jax belongs to another user" in done.stderr


# a library that does not hold is left out, and built anew by the command


@pytest.fixture
def broken(library, monkeypatch, tmp_path):
    """A copy of the library, to be broken; CXX names a compiler that makes it again."""
    original = next(library.rglob("*.so"))
    compiler = tmp_path / "compiler.py"
    compiler.write_text(
        "import shutil, sys\n"
        f"shutil.copy({str(original)!r}, sys.argv[sys.argv.index('-o') + 1])\n"
    )
    cache = tmp_path / "cache"
    shutil.copytree(library, cache)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("STN_JAX_CPU", "on")
    monkeypatch.setenv("CXX", f"{sys.executable} {compiler}")
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
    path.with_suffix(".json").write_bytes(build._record(path.read_bytes()))


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
    broken, rng, recwarn, change, reason
):
    change(broken)
    image, grid, _ = inputs(rng, (4, 5), 3)
    for points in (grid, grid[:, 1:]):
        assert CALL not in text_of(image, points)
    (warned,) = [w for w in recwarn if w.category is RuntimeWarning]
    assert re.search(reason, str(warned.message)), warned.message
    assert build.ensure_built() == broken
    assert build.fault(broken) is None
    kept = [*broken.parent.rglob("mine")]
    assert len(kept) == (change is put_a_folder), "a folder is moved, not removed"


def test_an_unreadable_library_is_left_out(broken, rng, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # root reads files of any mode
    with pytest.warns(
        RuntimeWarning, match="[.]so cannot be read .* Permission denied"
    ):
        assert not ffi.is_on()


@pytest.mark.parametrize("home", ["unknown", "relative"])
def test_without_a_home_there_is_no_kernel(rng, monkeypatch, recwarn, home):
    def find_home():
        if home == "unknown":
            raise RuntimeError("Could not determine home directory.")
        return Path(".")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("STN_JAX_CPU", "on")
    monkeypatch.setattr(Path, "home", find_home)
    ffi._warn.cache_clear()
    image, grid, _ = inputs(rng, (4, 5), 3)
    for points in (grid, grid[:, 1:]):
        assert CALL not in text_of(image, points)
    (warned,) = [w for w in recwarn if w.category is RuntimeWarning]
    assert "the home folder is unknown" in str(warned.message)
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

    broken.with_suffix(".json").write_bytes(build._record(b"older"))
    monkeypatch.setattr(build, "_replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build.ensure_built()
    assert "size or digest" in build.fault(broken)
    assert {file.suffix for file in broken.parent.iterdir()} == {".so", ".json"}
