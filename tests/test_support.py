"""docs/support.md is what the library does today."""

import pytest
import support
from conftest import ROOT

from stn_jax.sampling.kernels import METHODS

PAGE = (ROOT / "docs" / "support.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_cell(kernel, method):
    """Each method, padding mode, dimension and dtype, run and compared."""
    for line in support.rows(method):
        assert line in PAGE, (
            "run STN_JAX_CPU=on python tests/support.py > docs/support.md"
        )


def test_the_page_states_how_it_was_made():
    assert PAGE.startswith(support.HEADER)
    lines = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert len(lines) == 2 * len(METHODS)


def test_a_cell_names_the_dtypes_of_incomplete_kinds():
    assert support.cell([]) == "none"
    assert support.cell(["float32", "complex64", "complex128"]) == "float32 c"
