"""Sources of images and labels.

Reading order::

    arrays          datasets as arrays, the limit of their size
    checks          checks of a user's images and labels
    idx             MNIST's file format
    mnist           MNIST by download
    npz_names       the names of the arrays in .npz files
    npz             .npz files
    pictures        image files: decoding, scaling
    labeled_images  image files with labels, decoded to one size
    image_folders   folders of images by class
    cub             CUB-200-2011
    digit_struct    SVHN's list of digits and boxes
    converted       images that are converted once and mapped from the disk
    svhn            SVHN's full numbers
    svhn_cropped    SVHN's cropped digits
    sources         the sources by their names on the command line
    validation      the part of the training images that is held out
"""

from .arrays import Dataset as Dataset
from .arrays import Split as Split
from .sources import load as load
from .sources import load_digits as load_digits
from .sources import load_source as load_source
from .sources import sha256_of as sha256_of
from .validation import with_validation as with_validation
