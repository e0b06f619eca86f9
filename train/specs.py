"""Models as data: which classifier, behind which spatial transformers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from .errors import ConfigError

Classifier = Literal["fcn", "cnn"]
Family = Literal["affine", "projective", "tps", "attention"]

OF_DIGITS: tuple[Family, ...] = ("affine", "projective", "tps")  # of section 4.1


@dataclass(frozen=True)
class ModelSpec:
    """A classifier, alone or behind spatial transformers."""

    classifier: Classifier
    """Fully connected or convolutional."""
    transform: Family | None = None
    """The transformers' family; None without transformers."""
    transformers: int = 0
    """How many transformers sample the image side by side."""
    on_features: bool = False
    """Whether further transformers sample the CNN's feature maps: two, or three in the
    networks for house numbers."""

    def __post_init__(self) -> None:
        if (self.transform is None) != (self.transformers == 0):
            raise ConfigError(f"transform and transformers do not agree: {self}")
        if self.on_features and (self.classifier, self.transformers) != ("cnn", 1):
            raise ConfigError(f"on_features needs a CNN behind one transformer: {self}")

    @staticmethod
    def parse(name: str) -> ModelSpec:
        """The model of this name."""
        for spec in MODELS:
            if spec.name == name:
                return spec
        names = ", ".join(spec.name for spec in MODELS)
        raise ConfigError(f"there is no model {name!r}; the models are {names}")

    @property
    def name(self) -> str:
        """The name on the command line and in stored results."""
        if self.transform is None:
            return self.classifier
        count = f"{self.transformers}x" if self.transformers > 1 else ""
        count = "multi_" if self.on_features else count
        return f"{count}st_{self.classifier}-{self.transform}"

    @property
    def kind_label(self) -> str:
        """The name in tables and figures, without the family."""
        classifier = self.classifier.upper()
        if self.transform is None:
            return classifier
        if self.on_features:
            return f"Multi ST-{classifier}"
        count = f"{self.transformers}x" if self.transformers > 1 else ""
        return f"{count}ST-{classifier}"

    @property
    def label(self) -> str:
        """The name in tables and figures."""
        family = "TPS" if self.transform == "tps" else self.transform
        return f"{self.kind_label} {family}" if family else self.kind_label

    @property
    def description(self) -> str:
        """The model in words."""
        plain = "CNN" if self.classifier == "cnn" else "fully connected network"
        if self.transform is None:
            return plain
        if self.on_features:
            return f"{plain} with {self.transform} transformers at several depths"
        if self.transform == "attention":
            return f"{plain}s in {self.transformers} windows"
        count = {1: "a transformer", 2: "two transformers side by side"}
        return f"{plain} behind {count[self.transformers]} ({self.transform})"


MODELS: tuple[ModelSpec, ...] = (
    ModelSpec("fcn"),
    ModelSpec("cnn"),
    *(ModelSpec("fcn", family, 1) for family in OF_DIGITS),
    *(ModelSpec("cnn", family, 1) for family in OF_DIGITS),
    *(ModelSpec("fcn", family, 2) for family in OF_DIGITS),
    ModelSpec("cnn", "affine", 1, on_features=True),
    ModelSpec("cnn", "attention", 2),
    ModelSpec("cnn", "attention", 4),
)

# a model on the command line
ModelOption = Annotated[
    ModelSpec,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="{" + ",".join(spec.name for spec in MODELS) + "}",
        instance_from_str=lambda strings: ModelSpec.parse(strings[0]),
        is_instance=lambda value: isinstance(value, ModelSpec),
        str_from_instance=lambda spec: [spec.name],
        choices=tuple(spec.name for spec in MODELS),
    ),
]
