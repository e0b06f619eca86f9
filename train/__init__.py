"""Training programs for spatial transformer networks, run as ``python -m train``.

The files in reading order, which is the way of a batch and the order of imports::

    configs       what an experiment is
    idx, mnist    MNIST's file format; its download
    data          sources of images and labels
    distortions   rotated, scaled, translated digits
    models        the networks
    objective     the loss and the optimizer
    evaluate      the whole test set, exactly
    loop          the training loop
    plots         figures
    experiment    one run: its models, results and pictures
    compare       a table over runs
    __main__      the command line
"""
