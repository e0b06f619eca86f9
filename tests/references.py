"""The functions once more, from their definitions: NumPy, float64, plain loops."""

import itertools

import numpy as np


def pixel(g, n, align_corners):
    """PyTorch's definition of normalized coordinates."""
    return (g + 1) / 2 * (n - 1) if align_corners else ((g + 1) * n - 1) / 2


def normalized(i, n, align_corners):
    if align_corners:
        return 2 * i / (n - 1) - 1 if n > 1 else 0.0
    return (2 * i + 1) / n - 1


def identity_grid(size, align_corners):
    grid = np.zeros((*size, len(size)))
    for index in np.ndindex(*size):
        for axis, (i, n) in enumerate(zip(index, size, strict=True)):
            grid[(*index, len(size) - 1 - axis)] = normalized(i, n, align_corners)
    return grid


def affine_grid(theta, size, align_corners):
    """Eq. (1), one point after the other; theta (d, d + 1)."""
    points = identity_grid(size, align_corners)
    grid = np.zeros_like(points)
    for index in np.ndindex(*size):
        grid[index] = theta @ np.append(points[index], 1)
    return grid


def extended(image, index, padding_mode, align_corners, fill):
    """The pixel that the endless image shows at an index, (C,)."""
    index = list(index)
    for axis, n in enumerate(image.shape[:-1]):
        i = index[axis]
        if padding_mode in ("zeros", "constant") and not 0 <= i < n:
            return np.full(image.shape[-1], 0.0 if padding_mode == "zeros" else fill)
        if padding_mode == "border":
            i = min(max(i, 0), n - 1)
        while padding_mode == "wrap" and not 0 <= i < n:
            i += n if i < 0 else -n
        while padding_mode == "reflection" and not 0 <= i < n:
            if align_corners:  # mirrors stand on the outermost pixels
                i = 0 if n == 1 else (-i if i < 0 else 2 * (n - 1) - i)
            else:  # and here between them and their copies
                i = -1 - i if i < 0 else 2 * n - 1 - i
        index[axis] = i
    return image[tuple(index)]


def bilinear_sample(image, grid, padding_mode="zeros", align_corners=False, fill=0.0):
    """Eq. (5) over the extended image, for one image (*size, C), one grid."""
    size = image.shape[:-1]
    out = np.zeros((*grid.shape[:-1], image.shape[-1]))
    for where in np.ndindex(*grid.shape[:-1]):
        point = [
            pixel(g, n, align_corners)
            for g, n in zip(grid[where][::-1], size, strict=True)
        ]
        around = [range(int(np.floor(p)) - 1, int(np.floor(p)) + 3) for p in point]
        for index in itertools.product(*around):
            weight = np.prod(
                [max(0, 1 - abs(p - i)) for p, i in zip(point, index, strict=True)]
            )
            if weight > 0:
                value = extended(image, index, padding_mode, align_corners, fill)
                out[where] += weight * value
    return out


def bilinear_gradients(image, grid, bar):
    """The gradients of image and grid that pull back ``bar``, for one image, one grid.

    Of eq. (5) with zeros outside, align_corners=False; right-hand on the lattice.
    """
    size = image.shape[:-1]
    image_bar, grid_bar = np.zeros(image.shape), np.zeros(grid.shape)
    for where in np.ndindex(*grid.shape[:-1]):
        scale = np.array(size) / 2  # pixels per normalized unit
        point = (grid[where][::-1] + 1) * scale - 0.5
        first = np.floor(point)
        for corner in itertools.product((0, 1), repeat=len(size)):
            index = (first + corner).astype(int)
            if (index < 0).any() or (index >= size).any():
                continue
            weights = 1 - np.abs(point - index)
            slopes = np.where(corner, 1, -1) * scale
            image_bar[tuple(index)] += weights.prod() * bar[where]
            along = image[tuple(index)] @ bar[where]
            for axis, slope in enumerate(slopes):
                others = np.delete(weights, axis).prod()
                grid_bar[where][len(size) - 1 - axis] += slope * others * along
    return image_bar, grid_bar


def sample_pixels(image, points, weight, support, padding_mode="zeros", fill=0.0):
    """Eq. (3) with any kernel, at pixel coordinates (x, y), not normalized."""
    out = np.zeros((*points.shape[:-1], image.shape[-1]))
    for where in np.ndindex(*points.shape[:-1]):
        point = points[where][::-1]
        around = [
            range(int(np.ceil(p - support)), int(np.floor(p + support)) + 1)
            for p in point
        ]
        for index in itertools.product(*around):
            factor = np.prod([weight(p - i) for p, i in zip(point, index, strict=True)])
            out[where] += factor * extended(image, index, padding_mode, False, fill)
    return out
