"""Schedules as data: their steps, batches and learning rates."""

from __future__ import annotations

from typing import Any, Literal

Schedule = Literal["fast", "paper", "tutorial", "svhn", "cub"]

SCHEDULES: dict[Schedule, dict[str, Any]] = {
    "fast": {
        "steps": 5_000,
        "batch_size": 128,
        "learning_rate": 2e-3,
        "localization_learning_rate": 1e-3,
    },
    "paper": {
        "steps": 150_000,
        "batch_size": 256,
        "learning_rate": 1e-2,
        "localization_learning_rate": 1e-2,
    },
    "tutorial": {
        "steps": 18_760,  # 20 epochs of 938 batches
        "batch_size": 64,
        "learning_rate": 1e-2,
        "localization_learning_rate": 1e-2,
    },
    "svhn": {
        "steps": 400_000,
        "batch_size": 128,
        "learning_rate": 1e-2,
        "localization_learning_rate": 1e-3,
        "weight_decay": 5e-4,
    },
    "cub": {
        "steps": 30_000,
        "batch_size": 32,
        "learning_rate": 1e-1,
        "localization_learning_rate": 1e-5,
        "weight_decay": 1e-5,
    },
}

# the parts of all steps after which the learning rate is a tenth, as (numerator,
# denominator): for svhn after each 80,000 of 400,000 steps (A.5), for cub after 10,000,
# 20,000 and 25,000 (A.6)
DECAYS: dict[Schedule, tuple[tuple[int, int], ...]] = {
    "paper": ((1, 3), (2, 3)),
    "svhn": ((1, 5), (2, 5), (3, 5), (4, 5)),
    "cub": ((1, 3), (2, 3), (5, 6)),
}
