"""Rules for all files: docstrings, keywords, imports, names, words."""

import ast
import dataclasses
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import stn_jax
import stn_jax.linen
import stn_jax.nnx
from stn_jax.sampling.sampler import SamplerOptions

FUNCTIONS = [
    value
    for name, value in vars(stn_jax).items()
    if inspect.isfunction(value) and not name.startswith("_")
]
CLASSES = dict.fromkeys(
    value
    for module in (stn_jax, stn_jax.transforms, stn_jax.nnx, stn_jax.linen)
    for value in vars(module).values()
    if inspect.isclass(value) and value.__module__.startswith("stn_jax")
)
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
    "supersample": 1,
    "implementation": None,
    "sampler": None,
    "weights": None,
    "lattice": None,
    "order": "xy",
    "direction": "backward",
    "zoom": 1.0,
    "center": None,
    "tolerance": 1e-5,
    "max_iterations": 50,
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
        if parameter.kind is parameter.VAR_KEYWORD:
            assert parameter.annotation == "Unpack[SamplerOptions]"
        elif name in OPTIONS:
            assert parameter.kind is parameter.KEYWORD_ONLY
            assert parameter.default == OPTIONS[name]
        elif name not in SIZES or parameter.default is not None:
            assert parameter.default is parameter.empty, f"{name} should be in OPTIONS"


def test_the_options_of_a_sampler_are_those_of_sample():
    """In the class, in the type of the keywords, and in the function."""
    fields = {field.name: field for field in dataclasses.fields(stn_jax.Sampler)}
    for name, field in fields.items():
        assert field.default == OPTIONS[name]
    types = {name: field.type for name, field in fields.items()}
    declared = SamplerOptions.__annotations__
    assert {k: getattr(v, "__forward_arg__", v) for k, v in declared.items()} == types
    _, _, *options = inspect.signature(stn_jax.sample).parameters.values()
    assert {option.name: option.annotation for option in options} == types
    assert [option.name for option in options] == [*fields]


def test_dir_lists_the_public_names_alone():
    assert dir(stn_jax) == sorted([*stn_jax.__all__, "__version__"])
    for name in stn_jax.__all__:
        assert getattr(stn_jax, name) is not None


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: f"{c.__module__}.{c.__name__}")
def test_a_class_explains_itself(cls):
    doc = cls.__doc__
    assert doc
    assert ">>>" in doc or cls in (stn_jax.transforms.Transform, SamplerOptions)
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


def test_the_library_does_not_import_the_training_program():
    for path in (ROOT / "stn_jax").rglob("*.py"):
        source = path.read_text()
        for word in ("optax", "import train", "from train", "matplotlib"):
            if (path.name, word) != ("drawing.py", "matplotlib"):
                assert word not in source, f"{path.name} mentions {word}"


@pytest.mark.parametrize("package", ["flax", "matplotlib"])
def test_the_functions_do_not_import(package):
    code = f"import sys, stn_jax; assert {package!r} not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_modules_are_imported_at_their_first_use():
    assert stn_jax.nnx.SpatialTransformer
    assert stn_jax.linen.SpatialTransformer
    with pytest.raises(AttributeError, match="no attribute 'haiku'"):
        stn_jax.haiku  # noqa: B018


# names and words


def defined(path: Path) -> set[str]:
    """The names of the functions and classes at a file's top level."""
    kinds = ast.FunctionDef | ast.ClassDef
    body = ast.parse(path.read_text()).body
    return {node.name for node in body if isinstance(node, kinds)}


def test_a_name_is_defined_in_one_module():
    """Functions and classes; the modules of NNX and Linen have the same names."""
    owners = {}
    for path in sorted((ROOT / "stn_jax").rglob("*.py")):
        module = str(path.relative_to(ROOT)).replace("linen.py", "nnx.py")
        for name in defined(path):
            owners.setdefault(name, set()).add(module)
    shared = {name: sorted(files) for name, files in owners.items() if len(files) > 1}
    shared.pop("__getattr__", None)
    shared.pop("__dir__", None)
    assert shared == {}


# terms (regular expressions) and what to write instead
TERMS = (
    ("whoever", "the agent's name"),
    ("hangs? on", "depends on"),
    ("of one'?s own", "custom, user-defined"),
    ("as remembered", "a record of the measurement"),
    ("whole shifts", "integer shifts"),
    ("by a normal of", "Gaussian, sigma = ... px"),
    ("public doors", "public API"),
    (r"likewise\.", "the statement itself, or nothing"),
    ("unsound", "invalid, corrupt"),
    ("what is theirs", "the thing's name"),
    ("by little", "the number"),
    ("wants", "needs_grad, needs"),
    ("due(?! to)", "expected"),
    ("told", "reported, indicated"),
    ("points read", "sample points"),
    ("what it saw", "warped"),
    ("(volumes|pictures|images) turned", "rotated"),
    ("(CPU|compiled|bilinear|fast|faster) reader", "CPU kernel"),
)
PATTERNS = [
    (re.compile(rf"(?<![a-z]){term}(?![a-z])", re.I), better) for term, better in TERMS
]
FOLDERS = ("stn_jax", "train", "benchmarks", "tests", "docs", "colab")
TEXTS = [
    path
    for path in sorted(
        [
            *(ROOT / "Makefile", *ROOT.glob("*.md")),
            *(p for folder in FOLDERS for p in (ROOT / folder).rglob("*.*")),
        ]
    )
    if path.suffix in (".py", ".md", ".cpp", "") and path != Path(__file__)
]


def test_files_of_all_kinds_are_searched():
    names = {path.name for path in TEXTS}
    assert {"Makefile", "README.md", "kernel.cpp", "nnx.py", "conftest.py"} <= names


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_plain_words(path):
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]!r}, write instead: {better}"
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        for pattern, better in PATTERNS
        if (match := pattern.search(line))
    ]
    assert not found, "\n".join(found)
