"""Co-localization (appendix A.2): find what the images of one class have in common.

There are no labels and no positions. A transformer with the parameters (s, tx, ty)
samples a patch of each image. It learns to make the patches of two images more similar
than a patch and a random one of the same image, by the features of a trained encoder.

Reading order::

    scenes      digits at random places on a canvas; how well one was found
    networks    the transformer and the encoder
    objective   the triplet loss and its training
    locating    several trainings for each class; the best is kept
    figures     a figure and a table of the results
    experiment  the run: all classes, results, figure
"""

from .experiment import run_colocalization as run_colocalization
