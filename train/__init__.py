"""Training programs for spatial transformer networks, run as ``python -m train``.

The files in reading order, which is the way of a batch and the order of imports::

    configs         what an experiment is
    idx, mnist      MNIST's file format; its download
    data            sources of images and labels
    distortions     rotated, scaled, in perspective, elastic, in clutter, in volumes
    tasks           from clean digits to what a model sees and should say
    classifiers     the networks of the paper, lean ones, the PyTorch tutorial's
    models          these behind spatial transformers
    torch_weights   the tutorial's network with weights from PyTorch
    objective       the loss, its guards, the optimizer
    triplets        the objective of co-localization, and how it is learnt
    steps           one step; many in one program
    evaluate        the whole test set, exactly
    folder          output folders, and which of their files are ours
    checkpoints     a training's state on disk
    loop            the training loop
    plots           figures
    results         what a training leaves behind
    experiment      one run: its models, results and pictures
    paper           the paper's numbers
    table, report   many cells under several seeds; what they hold
    compare         a table over runs
    colocalization  the experiment without labels
    __main__        the command line
"""
