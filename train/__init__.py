"""Training programs for spatial transformer networks, run as ``python -m train``.

The modules in reading order, from the settings to the command line. Imports only go up
this list::

    errors          errors that the command line reports
    files           files that are written completely or not at all
    columns         tables as plain text
    specs           models as data
    arrays          datasets as arrays, the limit of their size
    configs         experiments as data: settings, named configurations
    idx             MNIST's file format
    mnist           MNIST by download
    checks          checks of a user's images and labels
    npz_names       the names of the arrays in .npz files
    npz             .npz files
    pictures        image files: decoding, scaling
    image_folders   folders of images by class
    cards           JSON files that describe trained models
    inputs          images that a user names for a trained model
    exported        exported models: StableHLO programs
    data            sources of images and labels
    distortions     rotated, scaled, in perspective, elastic, in clutter, in volumes
    tasks           from clean digits to a model's input and expected output
    convolution     a convolution whose gradients are fast on a CPU
    classifiers     the networks of the paper, smaller ones, PyTorch's tutorial's
    models          classifiers behind spatial transformers
    torch_weights   the tutorial's network with weights from PyTorch
    objective       the loss, its metrics, the optimizer
    steps           one training step; many in one program
    evaluate        evaluation on all held-out images
    validation      the part of the training images that is held out
    folder          output folders, and which of their files this program wrote
    checkpoints     the state of a training on disk
    weights         trained weights on disk
    inference       classification of images with a trained model
    exporting       the command export
    interruption    Ctrl-C and SIGTERM
    profiling       profiles of training steps
    trained         what a training returns
    loop            the training loop
    display         what a training prints
    plots           figures of transformers and trainings
    artifacts       files of results and their provenance
    predict         the command predict
    confusion       errors by class
    evaluation      the command evaluate
    summary         the command summary
    paper           the paper's numbers
    tables          tables of stored results, as Markdown
    tensorboard     metrics for TensorBoard
    run             one run: models, results, figures
    sweep           many trainings: models on tasks under several seeds
    report          Markdown and figures on a sweep
    colocalization/  the experiment without labels
    __main__        the command line
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .weights import load_model as load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    if name == "load":  # not imported before it is used: it needs jax and flax
        from .weights import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
