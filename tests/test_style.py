"""What every public name keeps to."""

import ast
import inspect
import re
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


# one direction of imports: the lists in the packages' docstrings


def listed(package: Path) -> list[str]:
    """The files and folders that a package's docstring lists, in order."""
    doc = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    return re.findall(r"^ {4}(\w+)/?(?: {2,}.+)?$", doc, re.M)


PACKAGES = [
    folder.relative_to(ROOT)
    for name in ("stn_jax", "train")
    for folder in sorted({path.parent for path in (ROOT / name).rglob("*.py")})
    if len(list(folder.glob("*.py"))) > 3
]


@pytest.mark.parametrize("package", PACKAGES, ids=str)
def test_a_package_lists_its_files(package):
    folder = ROOT / package
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    folders = {path.parent.name for path in folder.glob("*/__init__.py")}
    assert sorted(listed(folder)) == sorted(files | folders)


def imports(path: Path) -> set[tuple[str, ...]]:
    """The modules that a file imports from its own package, wherever it does."""
    module = path.relative_to(ROOT).with_suffix("").parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = module[: -node.level] + tuple((node.module or "").split("."))
            base = tuple(part for part in base if part)
            named = {(*base, alias.name) for alias in node.names}
            found |= named if node.module is None else {base}
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [alias.name for alias in node.names]
            roots = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
            own = {root for root in roots if root.split(".")[0] == module[0]}
            assert not own, f"{path} should import its own package relatively"
    return found


@pytest.mark.parametrize("package", ["stn_jax", "train"])
def test_imports_only_go_up_the_lists(package):
    for path in (ROOT / package).rglob("*.py"):
        module = path.relative_to(ROOT).with_suffix("").parts
        for imported in imports(path):
            pairs = list(zip(module, imported, strict=False))
            depth = next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs))
            if depth >= min(len(module), len(imported)) or module[depth] == "__init__":
                continue
            order = listed(ROOT.joinpath(*module[:depth]))
            if imported[depth] in order:
                assert order.index(imported[depth]) < order.index(module[depth]), (
                    f"{path.relative_to(ROOT)} imports {'.'.join(imported)}, which "
                    f"{'/'.join(module[:depth])}/__init__.py lists below it"
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
