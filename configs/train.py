"""What train.yaml calls: scikit-learn's own images of written digits, which come with it."""

import numpy as np
from sklearn.datasets import load_digits


def pixels(image: slice, pixel: slice) -> np.ndarray:
    """Some of the 1797 images of 8 x 8 pixels, one after the other in a row."""
    return load_digits().data[image, pixel]


def written(image: slice) -> np.ndarray:
    """The digit that each of them shows."""
    return load_digits().target[image]
