"""Image files: decoding to bytes, and scaling to a common size."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps

from ..errors import DataError

IMAGE_SUFFIXES: tuple[str, ...] = (
    ".png",
    ".jpg",
    ".jpeg",
    ".bmp",
    ".webp",
    ".tif",
    ".tiff",
)
# Pillow recognizes a file by its content; other formats, such as EPS, start programs
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")
GRAY_MODES = ("1", "L", "LA", "La", "I", "F")
TRANSPARENT_MODES = ("LA", "La", "PA", "RGBA", "RGBa")


class Header(NamedTuple):
    """What an image file says about itself."""

    size: tuple[int, int]
    """Height and width in pixels, after the EXIF orientation."""
    is_gray: bool
    """Whether the file is grayscale. A palette counts as color."""


def read_header(path: Path) -> Header:
    """Read the size and the kind of an image, without decoding its pixels.

    Raises:
      DataError: the file is missing, or no image that :func:`read_picture` reads.
    """
    with _open_picture(path) as image:
        width, height = image.size
        # a PNG may state its orientation behind its pixels, which are not decoded here;
        # Pillow turns a TIFF itself
        stated = image.format not in ("PNG", "TIFF") or "exif" in image.info
        turned = stated and _orientation(image) >= 5
        size = (width, height) if turned else (height, width)
        return Header(size, _is_gray(image))


def read_picture(path: Path, channels: int) -> np.ndarray:
    """Decode an image file.

    Transparent pixels are blended with black. The EXIF orientation is applied. Images
    with 16 bits per channel are scaled to 8 bits. A color image becomes grayscale if
    there is one channel.

    Args:
      path: the file.
      channels: 1 (grayscale) or 3 (RGB).

    Returns:
      ``(H, W, channels)``, uint8.

    Raises:
      DataError: the file is missing, corrupt or truncated, no image, or too large.
    """
    with _open_picture(path) as image:
        upright = ImageOps.exif_transpose(image) or image
        opaque = _opaque(path, upright)
        pixels = np.asarray(opaque.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def fit_into(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scale an image to fit into a size, with its aspect ratio, centered on black.

    Args:
      image: ``(H, W, C)``, uint8.
      size: height and width of the result.

    Returns:
      ``(*size, C)``, uint8; the image itself if it has this size.
    """
    height, width, channels = image.shape
    if (height, width) == tuple(size):
        return image
    factor = min(size[0] / height, size[1] / width)
    rows = min(max(round(factor * height), 1), size[0])
    columns = min(max(round(factor * width), 1), size[1])
    fitted = np.zeros((*size, channels), np.uint8)
    top, left = (size[0] - rows) // 2, (size[1] - columns) // 2
    for channel in range(channels):
        plane = Image.fromarray(np.ascontiguousarray(image[..., channel]))
        # antialiased: the filter's support grows when the image shrinks
        scaled = plane.resize((columns, rows), Image.Resampling.LANCZOS)
        fitted[top : top + rows, left : left + columns, channel] = np.asarray(scaled)
    return fitted


@contextmanager
def _open_picture(path: Path) -> Iterator[Image.Image]:
    """Open an image; turn what Pillow raises, also later, into a DataError."""
    if not os.path.isfile(path):
        raise DataError(f"{path}: {_why_no_file(path)}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                _check_header(path, image)
                yield image
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(
            f"{path} has more than {Image.MAX_IMAGE_PIXELS:,} pixels: scale it down."
        ) from error
    # corrupt bytes raise a dozen types in Pillow's decoders
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if isinstance(error, Image.UnidentifiedImageError):
            reason = "its content is not a valid PNG, JPEG, BMP, WebP or TIFF"
        raise DataError(f"{path} cannot be read as an image: {reason}.") from error


def _why_no_file(path: Path) -> str:
    try:
        os.stat(path)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        return "no such file" if missing else f"{error.strerror}"
    return "a folder, not an image" if os.path.isdir(path) else "not a file"


def _check_header(path: Path, image: Image.Image) -> None:
    """Refuse images without pixels, animations and several pages."""
    if 0 in image.size:
        raise DataError(f"{path} has no pixels: its size is {image.size}.")
    # MPO is a photo with previews
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise DataError(f"{path} holds {frames} images: store each in a file.")


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(ExifTags.Base.Orientation, 1)


def _is_gray(image: Image.Image) -> bool:
    return image.mode in GRAY_MODES or image.mode.startswith("I;16")


def _opaque(path: Path, image: Image.Image) -> Image.Image:
    """An image of any mode as L or RGB, on black where it is transparent."""
    if image.mode.startswith("I"):
        return _eight_bits(path, image)
    if image.mode == "F":
        raise DataError(f"{path} holds floats: store it with 8 or 16 bits per channel.")
    gray = _is_gray(image)
    if image.mode in TRANSPARENT_MODES or "transparency" in image.info:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image.convert("RGBA"))
    return image.convert("L" if gray else "RGB")


def _eight_bits(path: Path, image: Image.Image) -> Image.Image:
    """Scale 16-bit grayscale to 8 bits; Pillow would clip it."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65_535:
        raise DataError(f"{path} holds 32-bit integers: store it with 8 or 16 bits.")
    if "transparency" in image.info:
        values[values == image.info["transparency"]] = 0
    return Image.fromarray(np.rint(values / 257).astype(np.uint8))
