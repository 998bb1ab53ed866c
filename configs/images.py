"""What images.yaml calls: numpy alone."""

from typing import Any

import numpy as np
import xarray as xr


def smoothed(images: np.ndarray, radius: int) -> np.ndarray:
    """The mean over a square around each pixel, within what the block shows of it."""
    for axis in (1, 2):
        width = [(radius, radius) if i == axis else (0, 0) for i in range(3)]
        padded = np.pad(images, width, mode="edge")
        images = np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1, axis).mean(axis=-1)
    return images


def spots(image: xr.DataArray, threshold: float, apart: int) -> list[dict[str, Any]]:
    """The pixels above a threshold that are the brightest of the square around them."""
    values = image.values
    padded = np.pad(values, apart, constant_values=-np.inf)
    around = np.lib.stride_tricks.sliding_window_view(padded, (2 * apart + 1,) * 2).max(axis=(2, 3))
    found = np.argwhere((values == around) & (values > threshold))
    return [{"y": int(y), "x": int(x), "brightness": float(values[y, x])} for y, x in found]
