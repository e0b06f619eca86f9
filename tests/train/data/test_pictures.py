"""Image files: every mode and format, orientation, scaling, corrupt files."""

import contextlib
import os
import warnings
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from train.data.pictures import IMAGE_SUFFIXES, fit_into, read_header, read_picture
from train.errors import DataError


@pytest.fixture
def gray(rng):
    return rng.integers(0, 256, size=(5, 7)).astype(np.uint8)


@pytest.fixture
def color(rng):
    return rng.integers(0, 256, size=(5, 7, 3)).astype(np.uint8)


def write(path, array, mode=None, **options):
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


# modes and formats


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff"])
def test_lossless_formats_are_read_exactly(tmp_path, gray, color, suffix):
    path = write(tmp_path / f"gray{suffix}", gray)
    assert read_header(path) == ((5, 7), True)
    np.testing.assert_array_equal(read_picture(path, 1)[..., 0], gray)
    np.testing.assert_array_equal(read_picture(path, 3), np.dstack([gray] * 3))
    path = write(tmp_path / f"color{suffix}", color)
    assert read_header(path) == ((5, 7), False)
    np.testing.assert_array_equal(read_picture(path, 3), color)
    assert read_picture(path, 3).dtype == np.uint8


def test_webp_without_loss(tmp_path, color):
    path = write(tmp_path / "a.webp", color, lossless=True)
    np.testing.assert_array_equal(read_picture(path, 3), color)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg"])
def test_jpeg_is_read_but_for_its_loss(tmp_path, suffix):
    ramp = np.add.outer(8 * np.arange(16), 8 * np.arange(16)).astype(np.uint8)
    path = write(tmp_path / f"gray{suffix}", ramp, quality=95)
    assert read_header(path).is_gray
    assert np.abs(read_picture(path, 1)[..., 0] - ramp.astype(int)).max() <= 8
    path = write(tmp_path / f"color{suffix}", np.dstack([ramp] * 3), quality=95)
    assert not read_header(path).is_gray
    assert np.abs(read_picture(path, 3) - ramp[..., None].astype(int)).max() <= 8


def test_all_suffixes_are_those_of_formats_that_are_read(tmp_path, color):
    for suffix in IMAGE_SUFFIXES:
        write(tmp_path / f"a{suffix}", color)
        assert read_picture(tmp_path / f"a{suffix}", 3).shape == (5, 7, 3)


def test_color_becomes_gray_by_its_luma(tmp_path):
    """ITU-R 601: 0.299, 0.587, 0.114."""
    colors = np.diag([255, 255, 255]).astype(np.uint8)[None]
    path = write(tmp_path / "a.png", colors)
    assert read_picture(path, 1)[0, :, 0].tolist() == [76, 150, 29]


def test_bitmaps(tmp_path, gray):
    bits = gray > 127
    path = write(tmp_path / "a.png", bits)
    assert read_header(path).is_gray
    np.testing.assert_array_equal(read_picture(path, 1)[..., 0], 255 * bits)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_are_scaled_to_8(tmp_path, suffix):
    values = np.array([[0, 128, 129, 257, 32_896, 65_535]], np.uint16)
    path = write(tmp_path / f"a{suffix}", values)
    assert read_header(path).is_gray
    assert read_picture(path, 1)[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]
    assert read_picture(path, 3)[0, 4].tolist() == [128] * 3


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bits_are_an_error(tmp_path, dtype):
    path = write(tmp_path / "a.tif", np.full((3, 3), 70_000, dtype))
    with pytest.raises(DataError, match="store it with 8 or 16 bits"):
        read_picture(path, 1)


def test_palettes_count_as_color(tmp_path, color):
    path = write(tmp_path / "a.png", color, mode="P")
    assert not read_header(path).is_gray
    expected = np.asarray(Image.fromarray(color).convert("P").convert("RGB"))
    np.testing.assert_array_equal(read_picture(path, 3), expected)


def test_cmyk(tmp_path):
    values = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 0, 0, 255]]], np.uint8)
    Image.fromarray(values, mode="CMYK").save(tmp_path / "a.tif")
    pixels = read_picture(tmp_path / "a.tif", 3)
    assert pixels.tolist() == [[[255] * 3, [0, 255, 255], [0] * 3]]


# transparency


def test_transparent_pixels_are_blended_with_black(tmp_path, color, gray):
    path = write(tmp_path / "a.png", np.dstack([color, gray]))
    expected = color * (gray[..., None] / 255)
    assert not read_header(path).is_gray
    assert np.abs(read_picture(path, 3) - expected).max() <= 1
    # gray with transparency is gray
    levels = color[..., 0]
    path = write(tmp_path / "b.png", np.dstack([levels, gray]))
    assert read_header(path).is_gray
    assert np.abs(read_picture(path, 1)[..., 0] - levels * (gray / 255)).max() <= 1


def test_a_transparent_color(tmp_path):
    levels = np.array([[10, 20, 30]], np.uint8)
    path = write(tmp_path / "a.png", levels, transparency=20)
    assert read_picture(path, 1)[0, :, 0].tolist() == [10, 0, 30]
    path = write(tmp_path / "b.png", np.dstack([levels] * 3), transparency=(20,) * 3)
    assert read_picture(path, 3)[0, :, 1].tolist() == [10, 0, 30]
    path = write(tmp_path / "c.png", levels.astype(np.uint16) * 257, transparency=5140)
    assert read_picture(path, 1)[0, :, 0].tolist() == [10, 0, 30]


def test_a_transparent_entry_of_a_palette(tmp_path):
    image = Image.new("P", (3, 1))
    image.putpalette([200, 100, 50, 0, 255, 0, 9, 9, 9])
    image.putdata([0, 1, 2])
    image.save(tmp_path / "a.png", transparency=1)
    assert read_picture(tmp_path / "a.png", 3).tolist() == [
        [[200, 100, 50], [0, 0, 0], [9, 9, 9]]
    ]


# orientation

# the upright image, from the stored one; EXIF's definition of the eight orientations
UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".jpg"])
def test_the_exif_orientation_is_applied(tmp_path, color, orientation, suffix):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = {"lossless": True} if suffix == ".webp" else {}
    path = write(tmp_path / f"a{suffix}", color, exif=exif, **options)
    expected = UPRIGHT[orientation](color)
    assert read_header(path).size == expected.shape[:2]
    if suffix == ".jpg":
        assert read_picture(path, 3).shape == expected.shape
    else:
        np.testing.assert_array_equal(read_picture(path, 3), expected)


# files that are no images


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match=r"a.png: no such file\.$"):
        read_picture(tmp_path / "a.png", 1)
    with pytest.raises(DataError, match="a folder, not an image"):
        read_picture(tmp_path, 1)
    with pytest.raises(DataError, match=r"File name too long\.$"):
        read_picture(tmp_path / ("n" * 300 + ".png"), 1)
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    with pytest.raises(DataError, match="symbolic links"):
        read_picture(tmp_path / "loop.png", 1)
    os.mkfifo(tmp_path / "pipe.png")  # opening it would wait forever
    with pytest.raises(DataError, match="not a file"):
        read_picture(tmp_path / "pipe.png", 1)


@pytest.mark.parametrize(
    "content", [b"", b"text", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0"]
)
def test_files_without_an_image(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    for read in (read_header, lambda path: read_picture(path, 3)):
        with pytest.raises(DataError, match=r"a.png cannot be read as an image"):
            read(path)


@pytest.mark.parametrize("suffix", [".eps", ".gif", ".ppm", ".pdf", ".ico"])
def test_other_formats_are_not_opened_under_another_name(tmp_path, color, suffix):
    write(tmp_path / f"a{suffix}", color)
    (tmp_path / f"a{suffix}").rename(tmp_path / "a.png")
    with pytest.raises(DataError, match="its content is not a valid PNG, JPEG, BMP"):
        read_picture(tmp_path / "a.png", 3)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tif"])
def test_truncated_files(tmp_path, rng, suffix):
    pixels = rng.integers(0, 256, size=(40, 50, 3)).astype(np.uint8)
    path = write(tmp_path / f"a{suffix}", pixels)
    whole = path.read_bytes()
    for part in (0.02, 0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(DataError, match=f"a{suffix} cannot be read as an image"):
            read_picture(path, 3)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_a_header_is_read_without_the_pixels(tmp_path, rng, suffix):
    pixels = rng.integers(0, 256, size=(40, 50, 3)).astype(np.uint8)
    path = write(tmp_path / f"a{suffix}", pixels)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert read_header(path) == ((40, 50), False)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tif"])
def test_changed_bytes_never_cause_another_error(tmp_path, rng, suffix):
    pixels = rng.integers(0, 256, size=(9, 8, 3)).astype(np.uint8)
    path = write(tmp_path / f"a{suffix}", pixels)
    whole = path.read_bytes()
    for index in range(0, min(len(whole), 600), 2):
        changed = bytearray(whole)
        changed[index] ^= 1 << index // 2 % 8
        path.write_bytes(changed)
        with contextlib.suppress(DataError):
            assert read_picture(path, 3).dtype == np.uint8
        with contextlib.suppress(DataError):
            read_header(path)


def test_several_images_in_a_file(tmp_path, color):
    frames = [Image.fromarray(color), Image.fromarray(255 - color)]
    for suffix in (".tif", ".webp", ".png"):
        path = tmp_path / f"a{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        with pytest.raises(DataError, match="holds 2 images: store each in a file"):
            read_picture(path, 3)


def test_the_main_photo_of_an_mpo(tmp_path):
    """Phones store a photo and its preview under the suffix .jpg."""
    photo = Image.new("RGB", (16, 8), (200, 100, 50))
    photo.save(
        tmp_path / "a.jpg",
        "MPO",
        save_all=True,
        append_images=[Image.new("RGB", (2, 2))],
    )
    pixels = read_picture(tmp_path / "a.jpg", 3)
    assert pixels.shape == (8, 16, 3)
    assert np.abs(pixels - np.array([200, 100, 50])).max() < 5


def png_of_size(path, width, height):
    """A PNG that states a size and holds no pixels."""

    def chunk(kind, content):
        checksum = zlib.crc32(kind + content)
        parts = (len(content).to_bytes(4), kind, content, checksum.to_bytes(4))
        return b"".join(parts)

    header = width.to_bytes(4) + height.to_bytes(4) + bytes([8, 0, 0, 0, 0])
    chunks = (
        chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


@pytest.mark.parametrize("side", [10_000, 14_000, 2**31 - 1])
def test_decompression_bombs(tmp_path, side):
    """Pillow warns about the first and refuses the second; both are errors here."""
    path = png_of_size(tmp_path / "a.png", side, side)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the filters of the caller have no effect
        for read in (read_header, lambda path: read_picture(path, 1)):
            with pytest.raises(DataError, match=r"more than [\d,]+ pixels: scale it"):
                read(path)


# scaling


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_of_the_size_is_unchanged(rng, channels):
    image = rng.integers(0, 256, size=(6, 9, channels)).astype(np.uint8)
    assert fit_into(image, (6, 9)) is image


@pytest.mark.parametrize(
    ("shape", "size", "inner"),
    [
        ((10, 20), (10, 10), (slice(2, 7), slice(0, 10))),  # 5 rows, centered in 10
        ((20, 10), (10, 10), (slice(0, 10), slice(2, 7))),
        ((10, 10), (20, 20), (slice(0, 20), slice(0, 20))),  # enlarged
        ((10, 10), (4, 8), (slice(0, 4), slice(2, 6))),
        ((3, 300), (5, 5), (slice(2, 3), slice(0, 5))),  # at least one row
        ((6, 4), (30, 40), (slice(0, 30), slice(10, 30))),
    ],
)
def test_images_are_fitted_with_their_aspect_ratio(shape, size, inner):
    image = np.full((*shape, 3), 200, np.uint8)
    expected = np.zeros((*size, 3), np.uint8)
    expected[inner] = 200
    fitted = fit_into(image, size)
    assert fitted.dtype == np.uint8
    np.testing.assert_array_equal(fitted, expected)


def test_shrinking_is_antialiased():
    """A fine grid becomes its mean, where sampling would find one of its levels."""
    grid = np.zeros((64, 64, 1), np.uint8)
    grid[:, ::2] = 255
    inner = fit_into(grid, (8, 8))[1:-1, 1:-1]
    assert np.abs(inner - 127.5).max() < 4


def test_scaling_keeps_channels_apart(rng):
    image = np.zeros((8, 8, 3), np.uint8)
    image[..., 1] = 255
    fitted = fit_into(image, (4, 4))
    assert (fitted == [0, 255, 0]).all()


def test_scaling_does_not_shift():
    """The center of mass of a blob stays at the same relative place."""
    y, x = np.mgrid[:90, :90] + 0.5
    blob = 255 * np.exp(-((y - 30) ** 2 + (x - 60) ** 2) / 200)
    fitted = fit_into(blob.astype(np.uint8)[..., None], (30, 30))[..., 0].astype(float)
    rows, columns = np.mgrid[:30, :30] + 0.5
    assert abs((rows * fitted).sum() / fitted.sum() - 10) < 0.05
    assert abs((columns * fitted).sum() / fitted.sum() - 20) < 0.05
