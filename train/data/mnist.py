"""MNIST by download: a TFDS builder that needs no TensorFlow.

TFDS's own ``mnist`` encodes its images as PNG, with TensorFlow; this builder stores
bytes. TFDS finds the files' sizes and checksums in ``checksums.tsv`` beside this file.
"""

from __future__ import annotations

import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from .idx import MNIST_FILES, REMEDIES, DataError, read_idx

URL = "https://storage.googleapis.com/cvdf-datasets/mnist/"
TIMEOUT = 6  # seconds for the server to answer


class MnistBytes(tfds.core.GeneratorBasedBuilder):
    """MNIST as bytes, in the files' order.

    A record holds 1,000 digits, because TFDS reads few large records faster than many
    small ones.
    """

    VERSION = tfds.core.Version("1.0.0")
    url = URL

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="The 70,000 handwritten digits of MNIST.",
            disable_shuffling=True,
            features=tfds.features.FeaturesDict(
                {
                    "images": tfds.features.Tensor(
                        shape=(1000, 28, 28), dtype=np.uint8
                    ),
                    "labels": tfds.features.Tensor(shape=(1000,), dtype=np.uint8),
                }
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        # one after the other: if one of several parallel downloads fails, the others
        # still write into the folder that is then to be removed
        arrays = {
            name: read_idx(Path(dl_manager.download(f"{self.url}{name}.gz")))
            for name in MNIST_FILES
        }
        return {
            split: self._generate_examples(
                arrays[f"{prefix}-images-idx3-ubyte"],
                arrays[f"{prefix}-labels-idx1-ubyte"],
            )
            for split, prefix in (("train", "train"), ("test", "t10k"))
        }

    def _generate_examples(
        self, images: np.ndarray, labels: np.ndarray
    ) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        for sheet in range(len(images) // 1000):
            rows = slice(sheet * 1000, (sheet + 1) * 1000)
            yield sheet, {"images": images[rows], "labels": labels[rows]}


def download(builder_class: type[MnistBytes] = MnistBytes, **options: Any) -> dict:
    """Load MNIST from TFDS's folder; the first call downloads it there.

    Returns:
      ``{"train": (images, labels), "test": (images, labels)}``, bytes.

    Raises:
      DataError: the server does not answer within a few seconds, or its bytes have
        another checksum. Partial downloads are removed.
    """
    logging.set_verbosity(logging.ERROR)  # TFDS warns about data not prepared yet
    builder = builder_class(file_format="array_record", **options)
    if not builder.is_prepared():
        _probe(builder.url)
        with tempfile.TemporaryDirectory() as downloads:
            config = tfds.download.DownloadConfig(
                try_download_gcs=False, force_checksums_validation=True
            )
            try:
                builder.download_and_prepare(
                    download_dir=downloads, download_config=config
                )
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                raise DataError(
                    f"MNIST could not be downloaded from {builder.url}: {reason}. "
                    + REMEDIES
                ) from error
    return {split: _load_split(builder, split) for split in ("train", "test")}


def _load_split(builder: MnistBytes, split: str) -> tuple[np.ndarray, np.ndarray]:
    # pyright sees the signature of TFDS's decorator, not the method's
    sheets = list(builder.as_data_source(split))  # pyright: ignore[reportCallIssue]
    images, labels = (
        np.concatenate([s[k] for s in sheets]) for k in ("images", "labels")
    )
    return images, labels


def _probe(url: str) -> None:
    """Raise DataError unless the server answers soon; TFDS would retry for minutes."""
    outcome: list[str | None] = [f"no answer within {TIMEOUT} s"]

    def ask() -> None:
        first = url + next(iter(MNIST_FILES)) + ".gz"
        request = urllib.request.Request(first, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=TIMEOUT).close()
            outcome[0] = None
        except urllib.error.HTTPError as error:
            outcome[0] = str(error)
        except OSError as error:
            outcome[0] = str(getattr(error, "reason", error))

    # in a thread, because name resolution ignores the timeout
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    if outcome[0] is not None:
        raise DataError(
            f"MNIST cannot be downloaded from {url}: {outcome[0]}. {REMEDIES}"
        )
