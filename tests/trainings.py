"""Small trainings and folders that several tests share."""

import dataclasses

from train.configs import Config
from train.data import Dataset, Split
from train.specs import ModelSpec
from train.storage.cards import Card
from train.storage.folder import Folder

FCN, CNN, ST_CNN = ModelSpec("fcn"), ModelSpec("cnn"), ModelSpec("cnn", "affine", 1)

SETUP = Config(
    (ST_CNN,),
    "r",
    dataset="digits",
    parameters=60_000,
    steps=9,
    batch_size=8,
    eval_every=6,
)


def config(**changes):
    base = Config(models=(CNN,), task="r", steps=4, batch_size=16)
    return dataclasses.replace(base, parameters=100_000, **changes)


def few(data, count):
    """A dataset of the first training and test images."""
    parts = (Split(*(x[:count] for x in part)) for part in (data.train, data.test))
    return Dataset(data.name, *parts, data.classes)


def without_timings(rows):
    timings = ("seconds", "images_per_second")
    return [{k: v for k, v in row.items() if k not in timings} for row in rows]


def begun(path, kind="run"):
    """A new output folder."""
    folder = Folder(path, kind)
    folder.begin({})
    return folder


def card(**changes):
    """A card of a model that has no file."""
    base = Card(
        model="cnn",
        step=1,
        chosen_by="last step",
        classes=("cat", "dog", "eel"),
        input_shape=(6, 8, 1),
        input_range=(0.0, 1.0),
        mean=0.0,
        std=1.0,
        digit_size=(6, 8),
        parameters=1,
        errors={},
        provenance={"config": {"task": "plain"}},
    )
    return dataclasses.replace(base, **changes)
