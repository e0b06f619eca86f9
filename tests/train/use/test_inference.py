"""Batches of images through a model that needs no training."""

import numpy as np
import pytest
from trainings import card

from train.errors import DataError
from train.use.inference import LoadedModel, Prediction, Unusable, classify
from train.use.inputs import Input


def fail():
    raise DataError("corrupt.")


@pytest.mark.parametrize(("count", "batch_size"), [(7, 3), (6, 3), (2, 100), (1, 1)])
def test_all_batches_have_one_size(rng, count, batch_size):
    shapes = []
    of = card(mean=0.5, std=0.25)

    def logits(images):
        shapes.append(images.shape)
        return images.reshape(len(images), -1)[:, :3]

    x = rng.uniform(size=(count, 6, 8, 1)).astype(np.float32)
    inputs = [Input(f"{i}", lambda image=image: image) for i, image in enumerate(x)]
    inputs.insert(1, Input("bad", fail))
    model = LoadedModel(of, logits, None)
    results = list(classify(model, inputs, batch_size, resize=False))
    assert set(shapes) == {(min(batch_size, count + 1), 6, 8, 1)}
    names = [f"{i}" for i in range(count)]
    names.insert(1, "bad")
    assert [result.name for result in results] == names
    assert results.pop(1) == Unusable("bad", "corrupt.")
    for result, image in zip(results, x, strict=True):
        assert isinstance(result, Prediction)
        exponentials = np.exp((image.reshape(-1)[:3].astype(float) - 0.5) / 0.25)
        expected = exponentials / exponentials.sum()
        np.testing.assert_allclose(result.probabilities, expected, rtol=1e-5)
        np.testing.assert_array_equal(result.image, image)
