"""Training programs for spatial transformer networks, run as ``python -m train``.

The modules in reading order, from the settings to the command line. Imports only go up
this list::

    errors            errors that the command line reports
    specs             models as data
    schedules         schedules of the learning rates, as data
    configs           the settings of experiments, as data
    experiments       the named experiments
    data/             sources of images and labels
    distortions       rotated, scaled, in perspective, elastic, in clutter, in volumes
    share             the share of a batch that one device computes
    house_numbers     a twin of SVHN's house numbers
    parts             a twin of CUB's birds
    tasks             from clean digits to a model's input and expected output
    convolution       a convolution whose gradients are fast on a CPU
    blocks            a convolution of few channels that is fast on a CPU
    classifiers       the networks of the paper, smaller ones, PyTorch's tutorial's
    transformers      models with transformers: what they see, warp, hand on
    number_networks   the networks for house numbers
    resnet            ResNets with weights from PyTorch
    window_networks   windows of the image, each with a network of its own
    models            models by their names
    initial           the model before the first step
    torch_weights     the tutorial's network with weights from PyTorch
    objective         the loss, its metrics, the optimizer
    steps             one training step; many in one program
    devices           the devices of a training, and what lies on them
    processes         processes that train together: how they meet, agree, end
    feed              what each program of a training takes
    evaluate          evaluation on all held-out images
    interruption      Ctrl-C and SIGTERM
    profiling         profiles of training steps
    trained           what a training returns
    storage/          what is written: output folders, states, weights, results
    trainer           many steps as one program, evaluations, the best states
    saving            states of a training on the disk
    loop              the training loop
    display           what a training prints
    plots             figures of transformers and trainings
    paper             the paper's numbers
    tables            tables of stored results, as Markdown
    tensorboard       metrics for TensorBoard
    run               one run: models, results, figures
    sweep             many trainings: models on tasks under several seeds
    report            Markdown and figures on a sweep
    colocalization/   the experiment without labels
    use/              the commands for trained models
    __main__          the command line
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .storage.weights import load_model as load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    if name == "load":  # not imported before it is used: it needs jax and flax
        from .storage.weights import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
