"""The distortions of section 4.1 and appendices A.3 and A.4, made with the library.

A distortion takes a key and one image ``(H, W, C)`` in [0, 1] and returns the image on
its canvas. Lengths in pixels are for 28x28 images, and scale with the image's size.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from stn_jax import (
    affine_grid,
    bilinear_sample,
    control_lattice,
    fit_projective,
    projective_grid,
    tps_grid,
)
from stn_jax.transforms import Rigid

DISTRACTORS, DISTRACTOR_SIZE = 6, 6
REDRAWS = 16  # of corners that are not convex


def rotated(key: jax.Array, image: jax.Array) -> jax.Array:
    """R: rotate by -90 to 90 degrees."""
    angle = jax.random.uniform(key, minval=-np.pi / 2, maxval=np.pi / 2)
    return placed(image, image.shape[:2], angle, 1.0, np.zeros(2))


def rotated_scaled_translated(key: jax.Array, image: jax.Array) -> jax.Array:
    """RTS: rotate by -45 to 45 degrees, scale by 0.7 to 1.2, place anywhere.

    The canvas is 1.5 times as large as the image (42x42 for MNIST); the center is
    uniform over the places where the scaled image fits onto it.
    """
    angle_key, scale_key, place_key = jax.random.split(key, 3)
    angle = jax.random.uniform(angle_key, minval=-np.pi / 4, maxval=np.pi / 4)
    scale = jax.random.uniform(scale_key, minval=0.7, maxval=1.2)
    height, width = image.shape[:2]
    canvas = (height * 3 // 2, width * 3 // 2)
    size, space = np.array([width, height]), np.array(canvas[::-1])
    room = (space - scale * size) / 2
    center = room * jax.random.uniform(place_key, (2,), minval=-1, maxval=1)
    return placed(image, canvas, angle, scale, center)


def in_perspective(
    key: jax.Array, image: jax.Array, each_way: bool = False
) -> jax.Array:
    """P: scale by 0.75 to 1.0 and move the corners, Gaussian, sigma = 5 px.

    Each corner moves along its diagonal; with ``each_way``, along x and y. Corners that
    do not form a convex quadrilateral are redrawn, up to 16 times; after that they stay
    where they were.
    """
    scale_key, noise_key = jax.random.split(key)
    scale = jax.random.uniform(scale_key, minval=0.75, maxval=1.0)
    corners = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    noise = 5 * 2 / 28 * jax.random.normal(noise_key, (REDRAWS, 4, 1 + each_way))
    if not each_way:
        noise = noise * (corners / np.sqrt(2))
    moved = jnp.concatenate([scale * corners + noise, scale * corners[None]])
    first = jnp.argmax(jax.vmap(is_convex)(moved))
    theta = fit_projective(jnp.asarray(corners, moved.dtype), moved[first])
    return bilinear_sample(image, projective_grid(theta, image.shape[:2]))


def is_convex(corners: jax.Array) -> jax.Array:
    """Whether corners ``(4, 2)`` form a convex quadrilateral, clockwise on screen."""
    edges = jnp.roll(corners, -1, axis=0) - corners
    after = jnp.roll(edges, -1, axis=0)
    return (edges[:, 0] * after[:, 1] - edges[:, 1] * after[:, 0] > 0).all()


def elastic(
    key: jax.Array,
    image: jax.Array,
    scales: tuple[float, float] = (0.75, 1.0),
    pixels: float = 1.5,
    shift: float = 0.0,
) -> jax.Array:
    """E: scale by 0.75 to 1.0 and warp by a thin plate spline of 4x4 points.

    The points' displacements are Gaussian, sigma = ``pixels``. A common displacement of
    all points, sigma = ``shift``, is added.
    """
    scale_key, noise_key = jax.random.split(key)
    scale = jax.random.uniform(scale_key, minval=scales[0], maxval=scales[1])
    noise = pixels * 2 / 28 * jax.random.normal(noise_key, (16, 2))
    if shift:
        together = jax.random.normal(jax.random.fold_in(key, 0), (2,))
        noise += shift * 2 / 28 * together
    theta = control_lattice((4, 4)) / scale + noise
    return bilinear_sample(image, tps_grid(theta, image.shape[:2]))


def cluttered(key: jax.Array, image: jax.Array, others: jax.Array) -> jax.Array:
    """TC: place anywhere on a canvas of 60x60, with six distractors of 6x6 pixels.

    The distractors are cut from ``others``, ``(N, H, W, C)``. All shifts are integers;
    where images overlap, the brighter pixel is kept.
    """
    place_key, key = jax.random.split(key)
    height, width, channels = image.shape
    canvas = jnp.zeros((height * 15 // 7, width * 15 // 7, channels), image.dtype)
    canvas = _anywhere(place_key, canvas, image)
    return clutter(key, canvas, others, DISTRACTORS)


def clutter(
    key: jax.Array, canvas: jax.Array, others: jax.Array, count: int
) -> jax.Array:
    """Add ``count`` distractors, 6x6 pixels of other images, anywhere on the canvas."""
    size = tuple(min(DISTRACTOR_SIZE, n) for n in others.shape[1:3])

    def add(canvas: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
        which_key, from_key, to_key = jax.random.split(key, 3)
        other = others[jax.random.randint(which_key, (), 0, len(others))]
        room = np.subtract(other.shape[:2], size) + 1
        y, x = jax.random.randint(from_key, (2,), 0, room)
        part = jax.lax.dynamic_slice(other, (y, x, 0), (*size, other.shape[-1]))
        return _anywhere(to_key, canvas, part), None

    return jax.lax.scan(add, canvas, jax.random.split(key, count))[0]


def in_a_patch(key: jax.Array, image: jax.Array, others: jax.Array) -> jax.Array:
    """Distort as in a patch of a cluttered image, for the co-localization's encoder.

    As in E, with scales from 0.65 and a common displacement (sigma = 0.4 px), three
    distractors, and a Gaussian blur of 0 to 4 pixels.
    """
    elastic_key, clutter_key, blur_key = jax.random.split(key, 3)
    image = elastic(elastic_key, image, scales=(0.65, 1.0), shift=0.4)
    image = clutter(clutter_key, image, others, 3)
    width = jax.random.choice(blur_key, jnp.array([4.0, 2.0, 1.0, 0.0, 0.0]))
    return blurred(image, width)


def blurred(image: jax.Array, width: jax.Array | float) -> jax.Array:
    """Blur by a Gaussian, sigma = ``width`` pixels, and restore the brightest value."""

    def weights(n: int) -> jax.Array:
        apart = np.subtract.outer(np.arange(n), np.arange(n))
        return jnp.exp(-jnp.square(apart / jnp.maximum(width, 0.1)) / 2)

    rows, columns = (weights(n) for n in image.shape[:2])
    out = jnp.einsum("yi,xj,ijc->yxc", rows, columns, image)
    return out * (image.max() / jnp.maximum(out.max(), 1e-6))


def _anywhere(key: jax.Array, canvas: jax.Array, image: jax.Array) -> jax.Array:
    """Paste an image at a random place where it fits onto the canvas."""
    room = np.subtract(canvas.shape[:2], image.shape[:2]) + 1
    return paste(canvas, image, *jax.random.randint(key, (2,), 0, room))


def paste(canvas: jax.Array, image: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
    """Paste an image at row y and column x; the brighter pixel is kept."""
    below = jax.lax.dynamic_slice(canvas, (y, x, 0), image.shape)
    return jax.lax.dynamic_update_slice(canvas, jnp.maximum(below, image), (y, x, 0))


def shifted(key: jax.Array, image: jax.Array, pixels: int) -> jax.Array:
    """Shift by an integer of at most ``pixels`` along each axis; fill with zeros."""
    padded = jnp.pad(image, ((pixels, pixels), (pixels, pixels), (0, 0)))
    y, x = jax.random.randint(key, (2,), 0, 2 * pixels + 1)
    return jax.lax.dynamic_slice(padded, (y, x, 0), image.shape)


def cropped(key: jax.Array, image: jax.Array, size: Sequence[int]) -> jax.Array:
    """A part of the image at a random place; with probability 1/2 mirrored."""
    place_key, mirror_key = jax.random.split(key)
    room = np.subtract(image.shape[:2], size) + 1
    y, x = jax.random.randint(place_key, (2,), 0, room)
    part = jax.lax.dynamic_slice(image, (y, x, 0), (*size, image.shape[-1]))
    is_mirrored = jax.random.bernoulli(mirror_key)
    return jnp.where(is_mirrored, part[:, ::-1], part)


def extruded(key: jax.Array, image: jax.Array, edge: int) -> jax.Array:
    """3D: extrude to a solid, rotate by up to 45 degrees, place anywhere in a volume.

    The axis of the rotation is random. The volume has ``edge`` voxels per side. The
    solid is 28/60 as wide and high, and half as deep as high. Its center is uniform
    over the places where the unrotated solid fits.
    """
    axis_key, angle_key, place_key = jax.random.split(key, 3)
    height, width = (max(n * edge // 60, 1) for n in image.shape[:2])
    depth = max(height // 2, 1)
    image = jax.image.resize(image, (height, width, image.shape[-1]), "linear")
    solid = jnp.broadcast_to(image, (depth, *image.shape))
    axis = jax.random.normal(axis_key, (3,))
    angle = jax.random.uniform(angle_key, minval=0, maxval=np.pi / 4)
    rotation = Rigid(ndim=3).matrix(
        jnp.concatenate([angle * axis / jnp.linalg.norm(axis), np.zeros(3)])
    )[:3, :3]
    size = np.array([width, height, depth])
    center = (edge - size) / 2 * jax.random.uniform(place_key, (3,), minval=-1)
    return resample(solid, (edge, edge, edge), rotation.T, center)


def placed(
    image: jax.Array,
    canvas: tuple[int, ...],
    angle: jax.Array,
    scale: jax.Array | float,
    center: jax.Array | np.ndarray,
) -> jax.Array:
    """Rotate by ``angle``, magnify by ``scale``, and move to ``center``."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    back = jnp.stack([jnp.stack([cos, -sin]), jnp.stack([sin, cos])]) / scale
    return resample(image, canvas, back, center)


def resample(
    image: jax.Array,
    canvas: Sequence[int],
    back: jax.Array,
    center: jax.Array | np.ndarray,
    origin: jax.Array | None = None,
) -> jax.Array:
    """Sample the image at origin + back (p_canvas - center) for each canvas pixel.

    All points are in pixels from the middle, (x, y) or (x, y, z). The origin is zero by
    default.
    """
    to_image = 2 / np.array(image.shape[-2::-1])  # pixels to [-1, 1]
    to_canvas = 2 / np.array(canvas[::-1])
    linear = back * to_image[:, None] / to_canvas
    offset = -(back * center).sum(axis=1) * to_image
    if origin is not None:
        offset += origin * to_image
    theta = jnp.concatenate([linear, offset[:, None]], axis=1)
    return bilinear_sample(image, affine_grid(theta, canvas))
