"""The named experiments, which ``python -m train list`` shows."""

from __future__ import annotations

from .configs import Colocalization, Config, Task, scheduled
from .specs import MODELS, ModelSpec

DISTORTED = tuple(m for m in MODELS if m.transformers < 2 and not m.on_features)
ADDING = tuple(m for m in MODELS if m.classifier == "fcn" or m.transform is None)
IN_VOLUMES = (ModelSpec("cnn"), ModelSpec("cnn", "affine", 1))
OF_NUMBERS = (*IN_VOLUMES, ModelSpec("cnn", "affine", 1, on_features=True))
WINDOWS = (
    ModelSpec("cnn"),
    ModelSpec("cnn", "attention", 2),
    ModelSpec("cnn", "attention", 4),
)

TASKS: dict[Task, tuple[str, tuple[ModelSpec, ...]]] = {
    "r": ("rotated by up to 90 degrees", DISTORTED),
    "rts": ("rotated, scaled and translated on 42x42", DISTORTED),
    "p": ("in perspective, corners moved by a Gaussian, sigma = 5 px", DISTORTED),
    "e": ("warped by a thin plate spline of 16 points", DISTORTED),
    "tc": ("translated on 60x60, with six distractors", DISTORTED),
    "addition": ("in pairs to be added, each distorted as in rts", ADDING),
    "3d60": ("extruded and rotated, in volumes of 60x60x60", IN_VOLUMES),
}
_SUMMARY = (
    ModelSpec("cnn"),
    ModelSpec("cnn", "affine", 1),
    ModelSpec("cnn", "tps", 1),
)

Named = dict[str, tuple[str, Config | Colocalization]]


def _named() -> Named:
    named: Named = {
        "demo": (
            "a CNN and an ST-CNN on digits distorted as in rts, in minutes",
            Config(
                (ModelSpec("cnn"), ModelSpec("cnn", "affine", 1)),
                "rts",
                dataset="digits",
                parameters=200_000,
                steps=1_500,
            ),
        )
    }
    for task, (what, models) in TASKS.items():
        name = "3d" if task == "3d60" else task
        some = tuple(spec for spec in _SUMMARY if spec in models)
        if task == "addition":
            some = tuple(m for m in models if m.transformers != 1)
        names = ", ".join(spec.name for spec in some)
        named[name] = f"digits {what}: {names}", Config(some, task)
        for spec in models:
            text = f"digits {what}: {spec.description}"
            named[f"{name}-{spec.name}"] = text, Config((spec,), task)
    multi = ModelSpec("cnn", "affine", 1, on_features=True)
    text = f"digits {TASKS['rts'][0]}: {multi.description}"
    named[f"rts-{multi.name}"] = text, Config((multi,), "rts")
    named["plain"] = (
        "your own images, as they are: CNN, ST-CNN affine",
        Config((ModelSpec("cnn"), ModelSpec("cnn", "affine", 1)), "plain"),
    )
    tutorial = Config((IN_VOLUMES[1],), "tutorial", network="tutorial")
    named["tutorial"] = (
        "plain digits: network and optimizer of PyTorch's tutorial",
        scheduled(tutorial, "tutorial"),
    )
    named |= _on_real_images()
    named["colocalization"] = (
        "locate the digit that all images share, without labels",
        Colocalization(),
    )
    return named


def _on_real_images() -> Named:
    """The experiments of sections 4.2 and 4.3, and their twins made of digits."""
    named = _house_numbers(64, "numbers64") | _house_numbers(128, "numbers128")
    named |= _birds(224) | _birds(448)
    named["parts"] = (
        "pairs of small digits in an image: CNN, two and four windows, lean",
        Config(
            WINDOWS,
            "parts",
            network="cub_lean",
            steps=32_000,
            batch_size=32,
            localization_learning_rate=3e-4,  # chosen on validation, seed 0
            outside_penalty=1.0,
            eval_every=1_000,
        ),
    )
    return named


def _house_numbers(side: int, twin: Task) -> Named:
    svhn = Config(
        OF_NUMBERS,
        "plain",
        dataset="svhn",
        image_size=(side, side),
        network="svhn",
        validation=0.02,
        eval_every=10_000,
    )
    steps, batch_size = (5_000, 32) if side == 64 else (8_000, 16)
    of_digits = Config(
        OF_NUMBERS,
        twin,
        network="svhn_lean",
        steps=steps,
        batch_size=batch_size,
        learning_rate=1e-3,
        localization_learning_rate=1e-4,
        eval_every=1_000,
    )
    return {
        f"svhn{side}": (
            f"SVHN's house numbers, {side}x{side}: CNN, ST-CNN Single and Multi (A.5)",
            scheduled(svhn, "svhn"),
        ),
        twin: (
            f"house numbers of digits, {side}x{side}: the same networks, lean",
            of_digits,
        ),
    }


def _birds(side: int) -> Named:
    cub = Config(
        WINDOWS,
        "crops",
        dataset="cub",
        image_size=(side * 8 // 7, side * 8 // 7),
        network="cub",
        data_limit=10.0,
        validation=0.1,
        eval_every=1_000,
    )
    what = f"birds, {side}x{side}: CNN, two and four windows (A.6)"
    return {f"cub{side}": (what, scheduled(cub, "cub"))}


CONFIGS = _named()
