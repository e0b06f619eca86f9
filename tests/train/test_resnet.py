"""ResNets with torchvision's names of weights; nothing here needs PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT
from fixtures.resnet_weights import CASES, SIZES, resnet_arrays, resnet_images
from flax import nnx
from safetensors.numpy import save_file

from train.errors import ConfigError, ResultsError
from train.resnet import ResNet, with_weights

features = nnx.jit(lambda model, images: model(images))


@pytest.fixture(scope="module")
def arrays():
    return resnet_arrays(18)


@pytest.fixture(scope="module")
def initial():
    return nnx.jit(lambda: ResNet(18, nnx.Rngs(0)))()


def abstract(depth):
    """A ResNet without numbers."""
    return nnx.eval_shape(lambda: ResNet(depth, nnx.Rngs(0)))


def loaded(arrays, path, depth=18):
    """The ResNet with these arrays; no file of 45 MB or more is left."""
    save_file(arrays, path)
    try:
        return with_weights(abstract(depth), path)
    finally:
        path.unlink()


@pytest.mark.parametrize(("depth", "size"), CASES)
def test_the_logits_are_pytorchs(depth, size, tmp_path):
    """PyTorch's in float64; the measured differences are up to 5e-7 of the largest."""
    arrays = resnet_arrays(depth)
    model = loaded(arrays, tmp_path / "weights.safetensors", depth)
    x = features(model, resnet_images(size))
    height, width = SIZES[size]
    assert x.shape == (3, -(-height // 32), -(-width // 32), model.features)
    logits = np.asarray(x).mean((1, 2)) @ arrays["fc.weight"].T + arrays["fc.bias"]
    expected = np.load(ROOT / "tests" / "fixtures" / "resnet.npz")[f"{depth}/{size}"]
    largest = np.abs(expected).max()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=5e-6 * largest)


@pytest.mark.parametrize(("depth", "total"), [(18, 11_689_512), (50, 25_557_032)])
def test_the_parameters_are_torchvisions(depth, total):
    """A scale, a shift and two statistics of each channel become one bias."""
    arrays = resnet_arrays(depth)
    sizes = {name: x.size for name, x in arrays.items() if x.dtype == np.float32}
    learnt = {name: n for name, n in sizes.items() if ".running_" not in name}
    assert sum(learnt.values()) == total  # as torchvision's documentation has it
    kernels = sum(n for name, n in sizes.items() if arrays[name].ndim == 4)
    biases = sum(n for name, n in sizes.items() if name.endswith("running_mean"))
    leaves = jax.tree.leaves(nnx.state(abstract(depth), nnx.Param))
    assert sum(leaf.size for leaf in leaves) == kernels + biases
    assert jax.tree.leaves(nnx.state(abstract(depth))) == leaves  # nothing else


def test_initial_weights_give_finite_features(initial):
    """Each block starts as its shortcut."""
    for block in initial.blocks.values():
        assert not block.convolutions[-1].kernel[...].any()
        assert block.convolutions[0].kernel[...].any()
    x = features(initial, resnet_images("odd"))
    assert x.shape == (3, 3, 2, 512)
    assert np.isfinite(x).all()
    assert 0.1 < np.std(x) < 10


def test_all_parameters_have_gradients(arrays, tmp_path):
    model = loaded(arrays, tmp_path / "weights.safetensors")
    images = jnp.asarray(resnet_images("even")[:1])
    gradients = nnx.jit(nnx.grad(lambda model: (model(images) ** 2).sum()))(model)
    leaves = jax.tree.leaves(gradients)
    assert len(leaves) == 40
    for gradient in leaves:
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0


def test_the_statistics_are_folded(arrays, tmp_path):
    """Other variances change the features; scales that undo them change nothing."""
    images = resnet_images("even")
    path = tmp_path / "weights.safetensors"
    expected = np.asarray(features(loaded(arrays, path), images))
    for norm in ("bn1", "layer2.0.bn2", "layer3.0.downsample.1"):
        variance, scale = f"{norm}.running_var", f"{norm}.weight"
        changed = {**arrays, variance: 4 * arrays[variance] + np.float32(3e-5)}
        x = features(loaded(changed, path), images)
        assert np.abs(x - expected).max() > 0.01 * np.abs(expected).max()
        changed[scale] = 2 * arrays[scale]
        x = features(loaded(changed, path), images)
        np.testing.assert_allclose(x, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("kind", "precision"), [(np.float16, 1e-3), (jnp.bfloat16, 8e-3), (float, 0)]
)
def test_other_floats_are_converted(kind, precision, arrays, tmp_path):
    """And the classifier may be absent."""
    path = tmp_path / "weights.safetensors"
    expected = loaded(arrays, path).conv1
    other = {k: x.astype(kind) for k, x in arrays.items() if not k.startswith("fc.")}
    conv = loaded(other, path).conv1
    for array, exact in ((conv.kernel, expected.kernel), (conv.bias, expected.bias)):
        assert array[...].dtype == jnp.float32
        bound = 2 * precision * np.abs(exact[...]).max()
        np.testing.assert_allclose(array[...], exact[...], rtol=0, atol=bound)


def test_weights_are_set_inside_another_model(arrays, initial, tmp_path):
    """In place: the parameters remain the same objects."""
    path = tmp_path / "weights.safetensors"
    expected = nnx.state(loaded(arrays, path))
    model = nnx.Sequential(nnx.clone(initial))
    resnet, parameter = model.layers[0], model.layers[0].conv1.kernel
    save_file(arrays, path)
    assert with_weights(resnet, path) is resnet
    path.unlink()
    assert resnet.conv1.kernel is parameter
    leaves = zip(*map(jax.tree.leaves, (nnx.state(model), expected)), strict=True)
    for array, other in leaves:
        np.testing.assert_array_equal(array, other)


def test_errors_name_the_file_and_the_arrays(arrays, tmp_path):
    path = tmp_path / "weights.safetensors"

    model = abstract(18)

    def fails(change, message):
        changed = {k: x for k, x in {**arrays, **change}.items() if x is not None}
        save_file(changed, path)
        with pytest.raises(ResultsError, match=message) as error:
            with_weights(model, path)
        assert str(path) in str(error.value)

    fails({"bn1.bias": None}, "a ResNet-18: missing are bn1.bias, unexpected are none")
    norms = {name: None for name in arrays if name.startswith("layer4.1.bn")}
    few = r"layer4.1.bn1.bias, layer4.1.bn1.running_mean, \S+running_var and 5 more"
    fails(norms, f"missing are {few}, unexpected")
    fails({"bn1.weight": np.ones(64, np.int32)}, "missing are bn1.weight, unexpected")
    fails({"conv1.bias": np.ones(64)}, "unexpected are conv1.bias, of other shapes")
    fails({"conv1.weight": np.ones((64, 1, 7, 7))}, "other shapes are conv1.weight$")
    for value in (np.nan, np.inf, 1e300):
        wrong = {"layer2.0.downsample.1.running_var": np.full(128, value)}
        fails(wrong, r"layer2\.0\.downsample\.1\.running_var holds NaN or infinite")
    fails({"bn1.running_var": -np.ones(64)}, "bn1.running_var holds negative numbers")
    path.unlink()


def test_the_other_depth_is_named(arrays, tmp_path):
    with pytest.raises(
        ResultsError, match="a ResNet-50: they are those of a ResNet-18"
    ):
        loaded(arrays, tmp_path / "weights.safetensors", depth=50)


def test_files_that_cannot_be_read(tmp_path):
    model, path = abstract(18), tmp_path / "weights.safetensors"
    with pytest.raises(ResultsError, match=r"weights\.safetensors: no such file"):
        with_weights(model, path)
    path.write_bytes(b"this is text")
    for name in (path, tmp_path):
        with pytest.raises(ResultsError, match=f"{name} cannot be read as safetensors"):
            with_weights(model, name)


def test_other_depths_are_refused():
    with pytest.raises(ConfigError, match="18 or 50; got 34"):
        ResNet(34, nnx.Rngs(0))
