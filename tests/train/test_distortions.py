"""The distortions, against SciPy, because they are made with this library."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import interpolate, ndimage, spatial

from train import distortions
from train.data import Split
from train.evaluate import fixed_examples
from train.tasks import class_names, examples, training_examples


def distort(task, key, images):
    labels = jnp.arange(len(images)) % 10
    images, unchanged = examples(task, key, images, labels)
    np.testing.assert_array_equal(unchanged, labels)
    return images


@pytest.fixture
def glyph():
    """An image without symmetry: the letter F, 20 pixels high in 28x28."""
    image = np.zeros((28, 28, 1), np.float32)
    image[4:24, 9:12] = image[4:7, 9:19] = image[12:15, 9:16] = 1
    return image


def place(image, canvas, angle, scale, center):
    """SciPy's affine_transform: pixels (y, x), output to input."""
    cos, sin = np.cos(angle), np.sin(angle)
    back = np.array([[cos, sin], [-sin, cos]]) / scale  # (y, x): the other way around
    middle_in = (np.array(image.shape[:2]) - 1) / 2
    middle_out = (np.array(canvas) - 1) / 2 + np.array(center)[::-1]
    return ndimage.affine_transform(
        image[..., 0],
        back,
        middle_in - back @ middle_out,
        output_shape=canvas,
        order=1,
        mode="grid-constant",
    )


@pytest.mark.parametrize("size", [(28, 28), (20, 36)])
@pytest.mark.parametrize(
    ("angle", "scale", "center"),
    [(0.0, 1.0, (0, 0)), (0.6, 0.8, (3, -5)), (-1.2, 1.2, (-4.5, 2.25))],
)
def test_an_image_lands_where_scipy_puts_it(glyph, size, angle, scale, center):
    image = glyph[: size[0]]
    image = np.pad(image, ((0, 0), (0, size[1] - 28), (0, 0)))
    canvas = (40, 50)
    ours = distortions.placed(image, canvas, angle, scale, np.array(center))
    expected = place(image, canvas, angle, scale, center)
    np.testing.assert_allclose(ours[..., 0], expected, atol=2e-5)


def test_a_positive_angle_rotates_counter_clockwise(glyph):
    ours = distortions.placed(glyph, (28, 28), np.pi / 2, 1.0, np.zeros(2))
    np.testing.assert_allclose(ours, np.rot90(glyph), atol=1e-5)


def statistics(image):
    """Ink, its center from the middle of the canvas (x, y), and its spread."""
    image = np.asarray(image)[..., 0].astype(float)
    ink = image.sum()
    y, x = np.indices(image.shape) - (np.array(image.shape).reshape(2, 1, 1) - 1) / 2
    center = np.array([(x * image).sum(), (y * image).sum()]) / ink
    return ink, center


def test_r_rotates_by_up_to_90_degrees_and_keeps_all_ink(glyph):
    images = distort("r", jax.random.key(0), jnp.tile(glyph, (400, 1, 1, 1)))
    assert images.shape == (400, 28, 28, 1)
    ink, center = statistics(glyph)
    inks, centers = zip(*map(statistics, images), strict=True)
    np.testing.assert_allclose(inks, ink, rtol=0.02)
    rotated = np.array(centers) @ np.array([1, -1j])  # y is down
    angles = np.degrees(np.angle(rotated / (center @ np.array([1, -1j]))))
    assert -90.5 < angles.min() < -85
    assert 85 < angles.max() < 90.5
    assert abs(angles.mean()) < 8


def test_rts_magnifies_by_07_to_12_and_goes_everywhere(glyph):
    images = distort("rts", jax.random.key(0), jnp.tile(glyph, (400, 1, 1, 1)))
    assert images.shape == (400, 42, 42, 1)
    ink, _ = statistics(glyph)
    inks, centers = zip(*map(statistics, images), strict=True)
    scales = np.sqrt(np.array(inks) / ink)
    assert 0.68 < scales.min() < 0.73
    assert 1.17 < scales.max() < 1.22
    small = np.array(centers)[scales < 0.75]
    assert (np.abs(small).max(axis=0) > 8).all()  # far out, in x and in y
    assert (np.abs(np.array(centers)).max(axis=0) < 14).all()
    assert (np.asarray(images)[:, [0, -1]] < 0.01).mean() > 0.98  # hardly cut


def test_a_patch_holds_the_digit_and_distractors(glyph, monkeypatch):
    """E from 0.65 times the size on, in focus here, with three distractors."""
    monkeypatch.setattr(jax.random, "choice", lambda *_: 0.0)
    images = jnp.tile(glyph, (300, 1, 1, 1))
    make = jax.vmap(distortions.in_a_patch, (0, 0, None))
    keys = jax.random.split(jax.random.key(0), 300)
    ink, _ = statistics(glyph)
    alone = np.asarray(make(keys, images, jnp.zeros((1, 28, 28, 1))))
    scales = np.sqrt([statistics(image)[0] / ink for image in alone])
    small, middle, large = np.quantile(scales, [0.05, 0.5, 0.95])
    assert 0.6 < small < 0.7
    assert 0.78 < middle < 0.87
    assert 0.92 < large < 1.1
    among = np.asarray(make(keys, images, jnp.full((1, 28, 28, 1), 2.0)))
    bright = np.isclose(among, 2)
    np.testing.assert_allclose(among[~bright], alone[~bright], atol=1e-6)
    counts = bright.sum(axis=(1, 2, 3))
    assert counts.min() >= 36
    assert counts.max() == 3 * 36


@pytest.mark.parametrize("width", [1.0, 2.5, 6.0])
def test_blurred_is_scipys_gaussian_filter(width):
    image = np.random.default_rng(0).uniform(size=(28, 20, 2)).astype(np.float32)
    expected = ndimage.gaussian_filter(
        image.astype(np.float64), (width, width, 0), mode="constant", truncate=10
    )
    expected *= image.max() / expected.max()
    ours = distortions.blurred(jnp.asarray(image), width)
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_shifts_are_integers_within_their_range_and_fill_with_zeros():
    image = jnp.arange(1.0, 31).reshape(5, 6, 1)
    moved = np.asarray(
        jax.vmap(lambda key: distortions.shifted(key, image, 2))(
            jax.random.split(jax.random.key(0), 500)
        )
    )
    padded = np.pad(np.asarray(image), ((2, 2), (2, 2), (0, 0)))
    places = {(y, x): padded[y : y + 5, x : x + 6] for y in range(5) for x in range(5)}
    counts = dict.fromkeys(places, 0)
    for one in moved:
        (place,) = [at for at, there in places.items() if (there == one).all()]
        counts[place] += 1
    assert min(counts.values()) > 5  # 20 of each
    still = distortions.shifted(jax.random.key(0), image, 0)
    np.testing.assert_array_equal(still, image)


def test_a_blur_of_width_zero_changes_nothing():
    image = np.random.default_rng(0).uniform(size=(9, 7, 1)).astype(np.float32)
    np.testing.assert_allclose(distortions.blurred(jnp.asarray(image), 0.0), image)
    assert (distortions.blurred(jnp.zeros((9, 7, 1)), 3.0) == 0).all()


@pytest.mark.parametrize("each_way", [False, True])
def test_p_moves_the_corners_to_where_they_were_drawn(glyph, monkeypatch, each_way):
    """SciPy samples the image at the positions that a homography through the corners
    gives, which NumPy solves for here.
    """
    corners = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    if each_way:
        pixels = np.array([[-6.0, -4], [-3, 1], [4, -5], [2, 5]])
    else:
        pixels = np.array([6.0, -3, 4, -5])[:, None]  # outwards, along the diagonals
    drawn = corners + pixels / 14 * (1 if each_way else corners / np.sqrt(2))
    noise = np.broadcast_to(pixels / 5, (16, *pixels.shape))
    monkeypatch.setattr(jax.random, "normal", lambda *_: noise)
    monkeypatch.setattr(jax.random, "uniform", lambda *_, **__: 1.0)
    key, image = jax.random.key(0), jnp.asarray(glyph)
    ours = distortions.in_perspective(key, image, each_way)
    rows = []
    for (x, y), (u, v) in zip(drawn, corners, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y, u])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y, v])
    rows = np.array(rows)
    h = np.append(np.linalg.solve(rows[:, :8], rows[:, 8]), 1).reshape(3, 3)
    line = (np.arange(28) + 0.5) / 14 - 1
    x, y = np.meshgrid(line, line)
    u, v, w = np.einsum("ij,jhw->ihw", h, np.stack([x, y, np.ones_like(x)]))
    at = np.stack([v / w, u / w]) * 14 + 13.5
    expected = ndimage.map_coordinates(
        glyph[..., 0].astype(float), at, order=1, mode="grid-constant"
    )
    np.testing.assert_allclose(ours[..., 0], expected, atol=2e-4)


def test_corners_that_are_not_convex_are_redrawn(monkeypatch):
    square = jnp.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    assert distortions.is_convex(square)
    assert not distortions.is_convex(square[::-1])  # mirrored
    assert not distortions.is_convex(square[jnp.array([0, 2, 1, 3])])  # a bow tie
    assert not distortions.is_convex(square.at[2].set(jnp.array([-0.2, -0.2])))
    thetas = []
    monkeypatch.setattr(
        distortions, "projective_grid", lambda theta, size: thetas.append(theta)
    )
    monkeypatch.setattr(distortions, "bilinear_sample", lambda image, grid: image)
    bad = (square[::-1] - square) * 28 / 10
    noise = jnp.stack([bad] * 3 + [0.1 * jnp.ones((4, 2))] + [bad] * 12)
    for drawn in (noise, jnp.stack([bad] * 16)):
        monkeypatch.setattr(jax.random, "normal", lambda *_, drawn=drawn: drawn)
        key, image = jax.random.key(0), jnp.zeros((28, 28, 1))
        distortions.in_perspective(key, image, each_way=True)
    moved, stayed = (np.asarray(theta) / theta[2, 2] for theta in thetas)
    scale = 1 / stayed[0, 0]
    assert 0.75 <= scale <= 1
    np.testing.assert_allclose(stayed, np.diag([1 / scale, 1 / scale, 1]), atol=1e-5)
    shift = 0.1 * 10 / 28
    np.testing.assert_allclose(moved[:2, 2], -shift / scale, atol=1e-5)


def test_p_and_e_shrink_and_bend_but_stay_on_the_image(glyph):
    images = jnp.tile(glyph, (300, 1, 1, 1))
    ink, _ = statistics(glyph)
    for task, spread in (("p", 0.1), ("pxy", 0.1), ("e", 0.04)):
        out = distort(task, jax.random.key(0), images)
        assert out.shape == images.shape
        inks, centers = zip(*map(statistics, out), strict=True)
        ratio = np.array(inks) / ink
        assert 0.6 < np.median(ratio) < 0.9  # scale 0.75 to 1.0, squared
        assert spread < ratio.std() < 0.4
        assert np.abs(np.mean(centers, axis=0)).max() < 2.5


def test_e_is_scipys_thin_plate_spline(glyph, monkeypatch):
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(16, 2))
    monkeypatch.setattr(jax.random, "normal", lambda *_: jnp.asarray(drawn))
    monkeypatch.setattr(jax.random, "uniform", lambda *_, **__: 0.8)
    ours = distortions.elastic(jax.random.key(0), jnp.asarray(glyph))
    line = np.linspace(-1, 1, 4)
    lattice = np.stack(np.meshgrid(line, line), axis=-1).reshape(16, 2)
    source = lattice / 0.8 + 1.5 / 14 * drawn
    spline = interpolate.RBFInterpolator(lattice, source, kernel="thin_plate_spline")
    line = (np.arange(28) + 0.5) / 14 - 1
    pixels = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    at = spline(pixels).T[::-1] * 14 + 13.5
    expected = ndimage.map_coordinates(
        glyph[..., 0].astype(float), at, order=1, mode="grid-constant"
    )
    np.testing.assert_allclose(ours[..., 0].ravel(), expected, atol=2e-4)


def test_a_shift_moves_all_points_together():
    """A ramp that is moved as a whole is the same number of rows further everywhere."""
    ramp = jnp.broadcast_to(jnp.arange(28.0)[:, None, None], (28, 28, 1))
    moved = jax.vmap(
        lambda key: distortions.elastic(key, ramp, (1.0, 1.0), pixels=0, shift=0.4)
    )(jax.random.split(jax.random.key(0), 1000))
    off = np.asarray(moved - ramp)[:, 4:-4, 4:-4, 0]  # beyond the edge are zeros
    assert np.ptp(off, axis=(1, 2)).max() < 1e-3
    assert abs(off.mean()) < 0.04
    assert 0.37 < off[:, 0, 0].std() < 0.43


def test_training_digits_are_warped_with_the_given_sigma():
    """On a ramp, values are positions: they have Gaussian displacements."""
    ramp = jnp.broadcast_to(jnp.arange(28.0)[:, None], (28, 28, 1))
    ramps = jnp.broadcast_to(ramp, (1000, 28, 28, 1))
    labels = jnp.arange(1000)
    warped, same = training_examples("plain", 0.7, jax.random.key(0), ramps, labels)
    off = np.asarray(warped - ramps)[..., 0]
    at = (1 / 3 + 1) * 14 - 0.5  # of an inner control point, in pixels
    low, share = int(at), at % 1
    corner = off[:, low : low + 2, low : low + 2]
    weights = np.array([1 - share, share])
    off = np.einsum("nyx,y,x->n", corner, weights, weights)
    assert abs(off.mean()) < 0.07
    assert 0.65 < off.std() < 0.75
    np.testing.assert_array_equal(same, labels)


def test_without_elastic_they_are_those_of_the_task(glyph):
    batch = jax.random.key(0), glyph[None], jnp.zeros(1)
    trained, _ = training_examples("rts", 0.0, *batch)
    np.testing.assert_array_equal(trained, examples("rts", *batch)[0])
    warped, _ = training_examples("rts", 1.0, *batch)
    assert np.abs(warped - trained).max() > 0.1


def test_tc_has_the_whole_digit_and_six_distractors():
    """The digit has another shade than the distractors. Shifts are integers."""
    images = np.full((8, 28, 28, 1), 0.25, np.float32)
    images[0] = 1.0
    places = set()
    for seed in range(20):
        out = np.asarray(distort("tc", jax.random.key(seed), jnp.asarray(images)))
        assert out.shape == (8, 60, 60, 1)
        windows = np.lib.stride_tricks.sliding_window_view(out[0, ..., 0], (28, 28))
        ((y, x), *others) = np.argwhere((windows == 1).all(axis=(2, 3)))
        assert not others
        places.add((int(y), int(x)))
        rest = out[0, ..., 0].copy()
        rest[y : y + 28, x : x + 28] = 0
        assert rest.sum() <= 6 * 36  # six distractors of 6x6, some of the bright digit
        assert set(np.unique(out)) <= {0.0, 0.25, 1.0}
    assert len(places) > 15
    assert {min(p) for p in places} != {max(p) for p in places}


def test_addition_shows_two_digits_and_asks_for_their_sum():
    """The brightness of each image is its label, so that the sum follows from it."""
    labels = jnp.arange(10)
    images = jnp.ones((10, 28, 28, 1)) * (1 + labels)[:, None, None, None] / 10
    out, sums = examples("addition", jax.random.key(0), images, labels)
    assert out.shape == (10, 42, 42, 2)
    shades = np.rint(10 * np.asarray(out).max(axis=(1, 2))) - 1
    np.testing.assert_array_equal(shades[:, 0], labels)
    assert sorted(shades[:, 1]) == [*range(10)]
    assert (shades[:, 1] != shades[:, 0]).sum() > 5
    np.testing.assert_array_equal(sums, shades.sum(axis=1))
    assert class_names("addition", "0123456789") == tuple(map(str, range(19)))
    assert class_names("rts", ("cat", "dog")) == ("cat", "dog")


def test_3d_is_a_solid_rotated_and_moved_in_its_volume(glyph, monkeypatch):
    """Against SciPy, with a rotation vector of known length and place."""
    vector, place = np.array([0.3, -0.2, 0.4]), np.array([0.5, -0.25, 0.75])
    monkeypatch.setattr(jax.random, "normal", lambda *_: jnp.asarray(vector))
    draws = iter([np.linalg.norm(vector), place])
    monkeypatch.setattr(jax.random, "uniform", lambda *_, **__: next(draws))
    ours = distortions.extruded(jax.random.key(0), jnp.asarray(glyph), 60)
    solid = np.broadcast_to(glyph[..., 0], (14, 28, 28)).astype(float)
    center = (60 - np.array([28, 28, 14])) / 2 * place  # x, y, z
    # a solid rotated by R is sampled at R^T (p - center)
    back = spatial.transform.Rotation.from_rotvec(vector).as_matrix().T
    flip = np.eye(3)[::-1]  # x, y, z to z, y, x
    back = flip @ back @ flip
    middle_in, middle_out = np.array([6.5, 13.5, 13.5]), 29.5 + center[::-1]
    expected = ndimage.affine_transform(
        solid,
        back,
        middle_in - back @ middle_out,
        output_shape=(60, 60, 60),
        order=1,
        mode="grid-constant",
    )
    assert ours.shape == (60, 60, 60, 1)
    np.testing.assert_allclose(ours[..., 0], expected, atol=1e-4)


@pytest.mark.slow
def test_bytes_become_floats_in_the_unit_interval(glyph):
    images = jnp.tile(jnp.asarray(255 * glyph, jnp.uint8), (3, 1, 1, 1))
    labels = jnp.arange(3)
    for task in ("r", "e", "tc", "addition"):
        out, _ = examples(task, jax.random.key(0), images, labels)
        assert out.dtype == jnp.float32
        assert 0 <= out.min() <= out.max() <= 1 + 1e-6
    np.testing.assert_array_equal(distort("plain", jax.random.key(0), images)[0], glyph)
    normalized = distort("tutorial", jax.random.key(0), images)[0]
    np.testing.assert_allclose(normalized, (glyph - 0.1307) / 0.3081, rtol=1e-6)


def test_every_image_has_its_own_reproducible_distortion(glyph):
    images = jnp.tile(glyph, (2, 1, 1, 1))
    once, twice = (distort("rts", jax.random.key(3), images) for _ in range(2))
    np.testing.assert_array_equal(once, twice)
    assert np.abs(once[0] - once[1]).max() > 0.5


def test_crops_are_seven_eighths_at_random_places_and_half_are_mirrored():
    """Each pixel holds its own place, so that a crop tells where it was."""
    y, x = np.mgrid[:32, :16] / 64
    image = np.stack([y, x], axis=-1).astype(np.float32)
    images, labels = np.stack([image] * 400), np.arange(400)
    crops, same = training_examples("crops", 0.0, jax.random.key(0), images, labels)
    np.testing.assert_array_equal(same, labels)
    corners, mirrored = set(), 0
    for crop in np.asarray(crops):
        assert crop.shape == (28, 14, 2)
        is_mirrored = crop[0, 0, 1] > crop[0, -1, 1]
        mirrored += is_mirrored
        crop = crop[:, ::-1] if is_mirrored else crop
        top, left = np.rint(64 * crop[0, 0]).astype(int)
        np.testing.assert_array_equal(crop, image[top : top + 28, left : left + 14])
        corners.add((top, left))
    assert corners == {(top, left) for top in range(5) for left in range(3)}
    assert 160 < mirrored < 240


def test_the_middle_is_tested(rng):
    images = rng.integers(0, 256, (3, 32, 16, 3), np.uint8)
    split = Split(images, np.arange(3, dtype=np.int32))
    middles, _ = fixed_examples(split, "crops")
    np.testing.assert_array_equal(middles, images[:, 2:30, 1:15])
    assert middles.base is not None  # a view: nothing is copied, nothing becomes floats
    plain, _ = fixed_examples(split, "plain")
    assert plain is images
