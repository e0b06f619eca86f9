"""What every public name keeps to."""

import ast
import inspect
from pathlib import Path

import pytest
from conftest import ROOT

import stn_jax
import stn_jax.linen
import stn_jax.nnx

FUNCTIONS = [
    value
    for name, value in vars(stn_jax).items()
    if inspect.isfunction(value) and not name.startswith("_")
]
CLASSES = [
    value
    for module in (stn_jax.transforms, stn_jax.nnx, stn_jax.linen)
    for value in vars(module).values()
    if inspect.isclass(value) and value.__module__.startswith("stn_jax")
]
OPTIONS = {
    "align_corners": False,
    "padding_mode": "zeros",
    "fill_value": 0.0,
    "regularization": 0.0,
    "target_points": None,
    "dtype": None,
    "method": "bilinear",
    "coordinates": "normalized",
    "outside": "blend",
    "antialias": False,
    "implementation": None,
    "weights": None,
    "lattice": None,
    "order": "xy",
    "direction": "backward",
    "to_size": None,
    "to_output_size": None,
    "to_align_corners": False,
}
SIZES = ("size", "output_size")  # by default those of the input


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_a_function_explains_itself(function):
    doc = inspect.getdoc(function)
    for part in ("Args:", "Returns:", "Raises:", ">>>"):
        assert part in doc, f"{function.__name__}'s docstring lacks {part}"
    for name in inspect.signature(function).parameters:
        assert f"{name}:" in doc, f"{function.__name__} does not explain {name}"
    assert "normalized" in doc or "pixels" in doc, "name the unit of the coordinates"


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_options_are_keywords_with_the_same_defaults_everywhere(function):
    for name, parameter in inspect.signature(function).parameters.items():
        if name in OPTIONS:
            assert parameter.kind is parameter.KEYWORD_ONLY
            assert parameter.default == OPTIONS[name]
        elif name not in SIZES or parameter.default is not None:
            assert parameter.default is parameter.empty, f"{name} should be in OPTIONS"


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: f"{c.__module__}.{c.__name__}")
def test_a_class_explains_itself(cls):
    doc = cls.__doc__
    assert doc
    assert ">>>" in doc or cls is stn_jax.transforms.Transform
    for name, member in vars(cls).items():
        if inspect.isfunction(member) and not name.startswith("_"):
            assert member.__doc__, f"{cls.__name__}.{name} has no docstring"


# the tower of imports

STN_JAX = [
    ["checks", "padding", "pooling", "kernels", "lifting", "least_squares"],
    ["splines", "rotations", "choice"],
    ["coordinates"],
    ["taps"],
    ["adjoint", "cpu", "products"],
    ["reading"],
    ["interpolation"],
    ["affine", "projective", "flow", "tps", "sampling", "separable"],
    ["group", "matrices", "correspondences"],
    ["groups", "similarities", "fitting"],
    ["transforms"],
    ["warping"],
    ["nnx", "linen"],
    ["__init__"],
]
TRAIN = [
    ["configs"],
    ["idx", "paper", "folder"],
    ["mnist"],
    ["data"],
    ["distortions", "convolution"],
    ["tasks", "classifiers"],
    ["models"],
    ["torch_weights", "objective", "triplets"],
    ["evaluate", "checkpoints", "steps"],
    ["loop"],
    ["plots", "results"],
    ["experiment"],
    ["compare", "table", "report", "colocalization"],
    ["__main__"],
    ["__init__"],
]


def imports(path: Path) -> set[str]:
    """The modules of its own package that a file imports, wherever it does."""
    found = set()
    package, *below = path.relative_to(ROOT).parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == len(below):
            names = [alias.name for alias in node.names]
            found |= {node.module} if node.module else set(names)
        if isinstance(node, ast.ImportFrom | ast.Import):
            names = [alias.name for alias in node.names]
            roots = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
            absolute = {root for root in roots if root.startswith(package)}
            assert not absolute, f"{path} should import its own package relatively"
    return found


@pytest.mark.parametrize(("package", "tower"), [("stn_jax", STN_JAX), ("train", TRAIN)])
def test_imports_only_go_down(package, tower):
    files = {path.stem: path for path in (ROOT / package).glob("*.py")}
    folders = {
        path.parent.name: path for path in (ROOT / package).glob("*/__init__.py")
    }
    files |= folders
    floors = {name: floor for floor, names in enumerate(tower) for name in names}
    assert files.keys() == floors.keys(), "give every file its floor in the tower"
    for name, path in files.items():
        for imported in imports(path):
            assert floors[imported] < floors[name], (
                f"{package}/{name}.py imports {imported}, which is not below it"
            )


def test_the_library_does_not_know_the_training_program():
    for path in (ROOT / "stn_jax").rglob("*.py"):
        source = path.read_text()
        for word in ("optax", "import train", "from train", "matplotlib"):
            assert word not in source, f"{path.name} mentions {word}"


def test_the_functions_do_not_import_flax():
    code = "import sys, stn_jax; assert 'flax' not in sys.modules"
    import subprocess
    import sys

    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_modules_are_there_when_asked_for():
    assert stn_jax.nnx.SpatialTransformer
    assert stn_jax.linen.SpatialTransformer
    with pytest.raises(AttributeError, match="no attribute 'haiku'"):
        stn_jax.haiku  # noqa: B018
