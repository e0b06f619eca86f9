"""The images that a user names."""

import numpy as np
import pytest
from PIL import Image
from trainings import card

from train.data.pictures import fit_into
from train.errors import DataError
from train.use.inputs import find_inputs, normalized, prepare

GRAY, COLOR, PAIR = card(), card(input_shape=(6, 8, 3)), card(input_shape=(6, 8, 2))
VOLUME = card(input_shape=(4, 6, 8, 1))


def found(path, of=GRAY, resize=False):
    """The names and images, or the errors, that a path stands for."""
    rows = []
    for item in find_inputs([path], of, limit=1.0):
        try:
            rows.append((item.name, prepare(item, of, resize)))
        except DataError as error:
            rows.append((item.name, str(error)))
    return rows


def error(path, of=GRAY, resize=False):
    ((_, message),) = found(path, of, resize)
    assert isinstance(message, str), "no error"
    return message


def images(rows):
    return np.stack([image for _, image in rows])


def stored(path, **arrays):
    np.savez(path, **arrays)
    return path


def picture(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


def some(rng, *shape):
    return rng.integers(0, 256, shape, np.uint8)


def test_a_picture_is_divided_by_255(rng, tmp_path):
    pixels = some(rng, 6, 8)
    ((name, image),) = found(picture(tmp_path / "a.png", pixels))
    assert name == str(tmp_path / "a.png")
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image[..., 0], pixels.astype(np.float32) / 255)


def test_colors_become_gray_for_a_model_of_one_channel(rng, tmp_path):
    pixels = some(rng, 6, 8, 3)
    path = picture(tmp_path / "a.png", pixels)
    gray = np.asarray(Image.fromarray(pixels).convert("L"), np.float32) / 255
    np.testing.assert_array_equal(images(found(path))[0, ..., 0], gray)
    np.testing.assert_allclose(images(found(path, COLOR))[0], pixels / 255, atol=1e-6)


def test_a_folder_is_sorted_and_not_recursive(rng, tmp_path):
    for name in ("b.png", "a.PNG", "c.bmp", ".hidden.png"):
        picture(tmp_path / name, some(rng, 6, 8))
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "inner").mkdir()
    picture(tmp_path / "inner" / "d.png", some(rng, 6, 8))
    names = [name for name, _ in found(tmp_path)]
    assert names == [str(tmp_path / name) for name in ("a.PNG", "b.png", "c.bmp")]
    (tmp_path / "empty").mkdir()
    assert "holds no images (.png" in error(tmp_path / "empty")


def test_another_size(rng, tmp_path):
    pixels = some(rng, 12, 4)
    path = picture(tmp_path / "a.png", pixels)
    message = error(path)
    for part in ("a.png has 12x4 pixels", "takes 6x8 pixels", "--resize"):
        assert part in message
    fitted = fit_into(pixels[..., None], (6, 8))
    np.testing.assert_allclose(images(found(path, resize=True))[0], fitted / 255)


def test_files_that_are_no_images(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nrest")
    assert "a.png cannot be read as an image" in error(tmp_path / "a.png")
    assert "none.png: no such file" in error(tmp_path / "none.png")
    assert "none.npz: no such file" in error(tmp_path / "none.npz")
    (tmp_path / "a.npz").write_bytes(b"PK")
    assert "a.npz is truncated, corrupted, or not" in error(tmp_path / "a.npz")


def test_image_files_hold_no_pairs_and_no_volumes(rng, tmp_path):
    path = picture(tmp_path / "a.png", some(rng, 6, 8))
    assert "takes images of 2 channels" in error(path, PAIR)
    assert "('N', 6, 8, 2)" in error(path, PAIR)
    assert "takes volumes" in error(path, VOLUME)


@pytest.mark.parametrize(
    ("of", "shape", "count"),
    [
        (GRAY, (5, 6, 8), 5),
        (GRAY, (5, 6, 8, 1), 5),
        (GRAY, (6, 8), 1),
        (GRAY, (6, 8, 1), 1),
        (COLOR, (5, 6, 8, 3), 5),
        (COLOR, (6, 8, 3), 1),
        (PAIR, (5, 6, 8, 2), 5),
        (PAIR, (6, 8, 2), 1),
        (VOLUME, (5, 4, 6, 8), 5),
        (VOLUME, (5, 4, 6, 8, 1), 5),
        (VOLUME, (4, 6, 8), 1),
        (VOLUME, (4, 6, 8, 1), 1),
    ],
)
def test_layouts_of_arrays(rng, tmp_path, of, shape, count):
    """Bytes and floats give the same images, whatever the layout."""
    x = some(rng, *shape)
    expected = x.reshape(count, *of.input_shape) / 255
    for name, array in (("bytes", x), ("floats", x / 255)):
        path = stored(tmp_path / f"{name}.npz", images=array)
        rows = found(path, of)
        assert [name for name, _ in rows] == [f"{path}[{i}]" for i in range(count)]
        np.testing.assert_allclose(images(rows), expected, atol=1e-6)
        assert images(rows).dtype == np.float32


@pytest.mark.parametrize(
    ("of", "array", "message"),
    [
        (GRAY, np.zeros((2, 6, 8, 3), np.uint8), "3 channels; the model cnn takes 1"),
        (COLOR, np.zeros((2, 6, 8), np.uint8), "must be ('N', 6, 8, 3); got (2, 6, 8)"),
        (GRAY, np.zeros(8, np.uint8), "must be ('N', 6, 8, 1); got (8,)"),
        (GRAY, np.zeros((0, 6, 8), np.uint8), "holds no images"),
        (GRAY, np.full((2, 6, 8), 1.5), "floats in [0, 1]; got float64 from 1.5 to"),
        (GRAY, np.full((2, 6, 8), -0.5), "floats in [0, 1]; got float64 from -0.5"),
        (GRAY, np.ones((2, 6, 8), bool), "Store 255 * x"),
        (GRAY, np.full((2, 6, 8), 9), "Store x.astype(np.uint8)"),
        (GRAY, np.array([["a"] * 8] * 6), "must be bytes (uint8) or floats"),
        (VOLUME, np.zeros((2, 4, 6, 9), np.uint8), "has 4x6x9 voxels; the model takes"),
    ],
)
def test_arrays_that_are_no_images(tmp_path, of, array, message):
    rows = found(stored(tmp_path / "a.npz", images=array), of)
    assert message in rows[0][1]


def test_the_range_is_that_of_the_card(tmp_path):
    x = np.full((1, 6, 8), -0.5)
    path = stored(tmp_path / "a.npz", images=x)
    of = card(input_range=(-1.0, 1.0))
    assert images(found(path, of)).min() == -0.5


def test_an_image_with_nan_has_an_error_of_its_own(rng, tmp_path):
    x = rng.uniform(size=(3, 6, 8)).astype(np.float32)
    x[1, 2, 3] = np.nan
    first, second, third = found(stored(tmp_path / "a.npz", images=x))
    assert "a.npz[1] holds NaN or infinity" in second[1]
    np.testing.assert_array_equal(images([first, third])[..., 0], x[[0, 2]])


def test_the_name_of_the_array(rng, tmp_path):
    x = some(rng, 2, 6, 8)
    assert len(found(stored(tmp_path / "a.npz", anything=x))) == 2
    assert len(found(stored(tmp_path / "b.npz", images=x, labels=[0, 1]))) == 2
    message = error(stored(tmp_path / "c.npz", x_test=x, y_test=[0, 1]))
    assert "must hold one array, or one that is named images" in message
    assert "x_test, y_test" in message


def test_floats_are_not_resized(tmp_path):
    path = stored(tmp_path / "a.npz", images=np.zeros((1, 3, 4)))
    assert "Only bytes are resized" in error(path, resize=True)


def test_arrays_have_a_limit(tmp_path):
    path = stored(tmp_path / "a.npz", images=np.zeros((100, 6, 8)))
    (item,) = find_inputs([path], GRAY, limit=1e-6)
    with pytest.raises(DataError, match="the limit is"):
        item.read()


def test_images_are_standardized_with_the_cards_numbers():
    x = np.array([[0.0, 1.0]], np.float32)
    np.testing.assert_allclose(normalized(x, card(mean=0.25, std=0.5)), [[-0.5, 1.5]])
