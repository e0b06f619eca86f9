"""Pictures of sampling grids, displacement fields and kernels, drawn with Matplotlib.

Matplotlib is imported when a function is called: ``pip install matplotlib``, or
stn_jax with its extra ``draw``. Every function draws on ``axes``, by default pyplot's
current ones, and returns what it has drawn. Draw the image first, then its grid,
outline or field: they are in pixels of the image, with integers at the centers of
pixels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ._checks import as_coordinates, as_size
from ._types import Grid, Image, Size
from .coordinates import to_pixels
from .sampling import Kernel, sample
from .sampling.kernels import profile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection
    from matplotlib.image import AxesImage
    from matplotlib.lines import Line2D
    from matplotlib.quiver import Quiver

# of an outline: its upper edge, which shows where up is, and the rest
UPPER, AROUND = "#ff3030", "#ffd500"

LINES = 16  # a lattice of more is hard to see through
DENSITY = 64  # points per pixel on the curve of a kernel
REACH = 16  # pixels; farther out the interpolating splines have decayed


def draw_image(image: Image, *, axes: Axes | None = None) -> AxesImage:
    """Draw an image of gray values or colors, from 0 (black) to 1.

    Args:
      image: ``(H, W, 1)`` or ``(H, W, 3)``. Values outside of [0, 1] are clipped.
      axes: Matplotlib's axes; pyplot's current ones when None. The ticks are removed.

    Returns:
      The ``AxesImage``, in pixels.

    Raises:
      ValueError: ``image`` has another shape.
      ImportError: Matplotlib is not installed.

    >>> from matplotlib.figure import Figure
    >>> drawn = draw_image(jnp.ones((8, 12, 3)), axes=Figure().subplots())
    >>> [*drawn.get_extent()]  # left, right, bottom, top
    [-0.5, 11.5, 7.5, -0.5]
    """
    pixels = np.asarray(image, np.float32).clip(0, 1)
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3):
        raise ValueError(
            f"image must be (H, W, 1) or (H, W, 3), one image; got shape {pixels.shape}"
        )
    if pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    axes = _axes(axes)
    axes.set(xticks=[], yticks=[])
    return axes.imshow(pixels, cmap="gray", vmin=0, vmax=1)


def draw_grid(
    grid: Grid,
    size: Size,
    *,
    step: int | None = None,
    align_corners: bool = False,
    axes: Axes | None = None,
) -> LineCollection:
    """Draw the lines of a sampling grid over its input: a warped lattice.

    Args:
      grid: ``(h, w, 2)``, last axis ``(x, y)``, normalized. For a displacement field:
        its :func:`~stn_jax.flow_grid`.
      size: of the input, ``(height, width)``.
      step: every how many rows and columns of the grid there is a line; as many as
        give about 16 lines when None. The last row and column always have one.
      align_corners: what -1 and 1 are: the centers of the outermost pixels (True) or
        the edges of the image (False), as in PyTorch.
      axes: Matplotlib's axes; pyplot's current ones when None.

    Returns:
      The ``LineCollection``, in pixels of the input: first the rows, then the columns.
      A line is interrupted where a point is not finite.

    Raises:
      TypeError, ValueError: ``grid`` or ``size`` is not as above; ``step`` is less
        than 1.
      ImportError: Matplotlib is not installed.

    >>> from matplotlib.figure import Figure
    >>> from stn_jax import identity_grid
    >>> axes = Figure().subplots()
    >>> lines = draw_grid(identity_grid((3, 5)), (3, 5), step=2, axes=axes)
    >>> [len(line) for line in lines.get_segments()]  # two rows and three columns
    [5, 5, 3, 3, 3]
    """
    points = _in_pixels(grid, size, align_corners)
    rows, columns = (_every(n, step) for n in points.shape[:2])
    axes = _axes(axes)
    from matplotlib.collections import LineCollection

    lines = LineCollection(
        [*points[rows], *points[:, columns].swapaxes(0, 1)],
        colors=AROUND,
        linewidths=0.8,
    )
    axes.add_collection(lines)
    axes.autoscale_view()
    return lines


def draw_outline(
    grid: Grid,
    size: Size,
    *,
    align_corners: bool = False,
    axes: Axes | None = None,
) -> tuple[Line2D, Line2D]:
    """Draw the outline of a sampling grid over its input, the upper edge in red.

    It runs through the sample points of the outermost output pixels.

    Args:
      grid: ``(h, w, 2)``, last axis ``(x, y)``, normalized.
      size: of the input, ``(height, width)``.
      align_corners: as in :func:`draw_grid`.
      axes: Matplotlib's axes; pyplot's current ones when None.

    Returns:
      Two ``Line2D``, in pixels of the input: the upper edge; and the right, the lower
      and the left one.

    Raises:
      TypeError, ValueError: ``grid`` or ``size`` is not as in :func:`draw_grid`.
      ImportError: Matplotlib is not installed.

    >>> from matplotlib.figure import Figure
    >>> from stn_jax import identity_grid
    >>> grid = 0.5 * identity_grid((5, 5))  # zooms in by 2
    >>> upper, around = draw_outline(grid, (5, 5), axes=Figure().subplots())
    >>> upper.get_xydata()[[0, -1]]
    array([[1., 1.],
           [3., 1.]])
    """
    upper, around = outline(grid, size, align_corners=align_corners)
    axes = _axes(axes)
    (rest,) = axes.plot(*around.T, color=AROUND, linewidth=1.4)
    (edge,) = axes.plot(*upper.T, color=UPPER, linewidth=2)
    return edge, rest


def outline(
    grid: Grid, size: Size, *, align_corners: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return the points of an outline, for instance to move its lines in an animation.

    Args:
      grid: ``(h, w, 2)``, last axis ``(x, y)``, normalized.
      size: of the input, ``(height, width)``.
      align_corners: as in :func:`draw_grid`.

    Returns:
      The points of the two lines that :func:`draw_outline` draws: of the upper edge,
      ``(w, 2)``, and of the right, the lower and the left one, in pixels of the input.

    Raises:
      TypeError, ValueError: ``grid`` or ``size`` is not as in :func:`draw_grid`.

    >>> from stn_jax import identity_grid
    >>> upper, around = outline(identity_grid((2, 3)), (2, 3))
    >>> upper
    array([[0., 0.],
           [1., 0.],
           [2., 0.]], dtype=float32)
    """
    points = _in_pixels(grid, size, align_corners)
    right, lower, left = points[:, -1], points[-1, ::-1], points[::-1, 0]
    return points[0], np.concatenate([right, lower, left])


def draw_flow(
    flow: ArrayLike, *, step: int | None = None, axes: Axes | None = None
) -> Quiver:
    """Draw a displacement field as arrows, from output pixels to their sample points.

    Args:
      flow: ``(height, width, 2)``, last axis ``(dx, dy)``, in pixels, as
        :func:`~stn_jax.flow_grid` takes it. The arrows have the scale of the picture.
      step: every how many pixels there is an arrow; as many as give about 16 arrows in
        a row or column when None.
      axes: Matplotlib's axes; pyplot's current ones when None.

    Returns:
      The ``Quiver``, in pixels.

    Raises:
      TypeError, ValueError: ``flow`` is no such array; ``step`` is less than 1.
      ImportError: Matplotlib is not installed.

    >>> from matplotlib.figure import Figure
    >>> flow = jnp.zeros((4, 4, 2)).at[..., 0].set(1.0)  # one pixel to the right
    >>> arrows = draw_flow(flow, step=2, axes=Figure().subplots())
    >>> arrows.get_offsets().tolist()  # where they start
    [[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]]
    >>> arrows.U.tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    flow = np.asarray(as_coordinates(flow, "flow"))
    if flow.ndim != 3 or flow.shape[-1] != 2:
        raise ValueError(
            f"flow must be (height, width, 2), one field; got shape {flow.shape}"
        )
    height, width = flow.shape[:2]
    step = _step(max(height, width), step)
    y, x = np.mgrid[:height:step, :width:step]
    dx, dy = np.moveaxis(flow[::step, ::step], -1, 0)
    return _axes(axes).quiver(
        x, y, dx, dy, angles="xy", scale_units="xy", scale=1, color=AROUND
    )


def draw_kernel(
    method: str | Kernel, *, radius: float = 4.0, axes: Axes | None = None
) -> Line2D:
    """Draw the weight of a pixel by its distance from the sample point.

    For a B-spline the weight includes the prefilter: it is the spline through a pixel
    of 1 among pixels of 0, which has no finite support.

    Args:
      method: the kernel, a method of :func:`~stn_jax.sample` or a
        :class:`~stn_jax.Kernel`.
      radius: the largest distance, in pixels.
      axes: Matplotlib's axes; pyplot's current ones when None.

    Returns:
      The ``Line2D``: weights by signed distances in pixels.

    Raises:
      ValueError: an unknown ``method``; a ``radius`` that is not in (0, 16].
      ImportError: Matplotlib is not installed.

    >>> from matplotlib.figure import Figure
    >>> line = draw_kernel("bilinear", radius=1, axes=Figure().subplots())
    >>> distance, weight = line.get_data()
    >>> bool(np.allclose(weight, 1 - np.abs(distance), atol=1e-6))
    True
    """
    if not 0 < radius <= REACH:
        raise ValueError(f"radius must be in (0, {REACH}] pixels; got {radius!r}")
    distance, weight = _curve(method)
    is_near = np.abs(distance) <= radius
    (line,) = _axes(axes).plot(distance[is_near], weight[is_near])
    return line


def draw_response(
    method: str | Kernel, *, highest: float = 2.0, axes: Axes | None = None
) -> Line2D:
    r"""Draw the frequency response of a kernel: what it leaves of a wave.

    It is the absolute value of the Fourier transform of the weights k of
    :func:`draw_kernel`,

    .. math:: |K(f)| = \left| \int k(x) \, e^{-2 \pi i f x} \, dx \right|.

    An ideal kernel has 1 below half a cycle per pixel and 0 above. Less than 1 below
    blurs; more than 0 above shows the lattice of the pixels.

    Args:
      method: the kernel, as in :func:`draw_kernel`.
      highest: the highest frequency, in cycles per pixel.
      axes: Matplotlib's axes; pyplot's current ones when None.

    Returns:
      The ``Line2D``: the response by frequencies in cycles per pixel.

    Raises:
      ValueError: an unknown ``method``; a ``highest`` that is not in (0, 16].
      ImportError: Matplotlib is not installed.

    >>> from matplotlib.figure import Figure
    >>> line = draw_response("nearest", highest=1, axes=Figure().subplots())
    >>> frequency, response = line.get_data()
    >>> bool(np.allclose(response, np.abs(np.sinc(frequency)), atol=1e-3))
    True
    """
    if not 0 < highest <= DENSITY / 4:
        raise ValueError(
            f"highest must be in (0, {DENSITY // 4}] cycles per pixel; got {highest!r}"
        )
    distance, weight = _curve(method)
    frequency = np.linspace(0, highest, 257)
    waves = np.exp(-2j * np.pi * np.outer(frequency, distance))
    (line,) = _axes(axes).plot(frequency, np.abs(waves @ weight) / DENSITY)
    return line


def _curve(method: str | Kernel) -> tuple[np.ndarray, np.ndarray]:
    """The weights of a kernel, by signed distances in pixels."""
    if isinstance(method, Kernel):
        distance = _middles(max(REACH, math.ceil(method.support)))
        return distance, np.asarray(profile(method, jnp.asarray(distance)))
    distance = _middles(REACH)
    impulse = jnp.zeros((1, 4 * REACH + 1, 1)).at[0, 2 * REACH].set(1)
    points = np.stack([distance + 2 * REACH, np.zeros_like(distance)], axis=-1)
    weight = sample(impulse, points[None], method=method, coordinates="pixel")
    return distance, np.asarray(weight[0, :, 0])


def _middles(reach: int) -> np.ndarray:
    """The middles of equal parts of [-reach, reach], ``DENSITY`` of them per pixel."""
    return (np.arange(2 * reach * DENSITY) + 0.5) / DENSITY - reach


def _in_pixels(grid: Grid, size: Size, align_corners: bool) -> np.ndarray:
    """One grid in pixels of the input; NaN where it is not finite."""
    size = as_size(size, "size must be (height, width)", ndims=(2,))
    points = np.array(to_pixels(grid, size, align_corners=align_corners))
    if points.ndim != 3:
        raise ValueError(f"grid must be (h, w, 2), one grid; got shape {points.shape}")
    points[~np.isfinite(points)] = np.nan
    return points


def _every(n: int, step: int | None) -> np.ndarray:
    """The indices of every ``step``-th of n rows, and of the last."""
    return np.unique([*range(0, n, _step(n, step)), n - 1])


def _step(n: int, step: int | None) -> int:
    if step is None:
        return max(round(n / LINES), 1)
    if step < 1:
        raise ValueError(f"step must be 1 or more; got {step!r}")
    return step


def _axes(axes: Axes | None) -> Axes:
    """The axes to draw on, or an error that says how to install Matplotlib."""
    if axes is not None:
        return axes
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            "stn_jax.drawing needs Matplotlib, which is not installed: pip install "
            "matplotlib"
        ) from error
    return pyplot.gca()
