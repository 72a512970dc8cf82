"""Statistics of columns and images exactly as LeRobot 0.3.3 computes them, and their aggregation.

Letters: ``N`` rows, ``H, W`` pixels. Knows arrays only. Image statistics are kept as histograms: integers, so
the result is exact and does not depend on the order or the grouping in which images arrive.

Source: lerobot 0.3.3, ``lerobot.datasets.compute_stats``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.lerobot.records import FeatureStats

Array = NDArray[Any]

IMAGE_STATS_SHAPE = (3, 1, 1)


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Statistics of one feature.

    Attributes:
        min: smallest value, shape of one row (a scalar column has shape (1,)), dtype of the column.
        max: largest value.
        mean: float32 for a float32 column, else float64.
        std: population standard deviation (ddof 0), dtype of the mean.
        count: number of rows, or of sampled images.
    """

    min: Array
    max: Array
    mean: Array
    std: Array
    count: int

    def record(self) -> FeatureStats:
        """Return the statistics as a line of episodes_stats.jsonl holds them."""
        return FeatureStats(
            min=self.min.tolist(), max=self.max.tolist(), mean=self.mean.tolist(), std=self.std.tolist(), count=[self.count]
        )


def column_stats(values: Array) -> Stats:
    """Return the statistics of one column over its rows.

    Args:
        values: (N,) or (N, …), N >= 1, computed in their own dtype as LeRobot does.

    Raises:
        ValueError: no rows.
    """
    if len(values) == 0:
        raise ValueError("an episode without rows has no statistics")
    keepdims = values.ndim == 1
    return Stats(
        min=np.min(values, axis=0, keepdims=keepdims),
        max=np.max(values, axis=0, keepdims=keepdims),
        mean=np.mean(values, axis=0, keepdims=keepdims),
        std=np.std(values, axis=0, keepdims=keepdims),
        count=len(values),
    )


def sample_indices(num_frames: int) -> list[int]:
    """Return the ascending indices of the frames whose images make the statistics, for ``num_frames`` >= 1."""
    num_samples = max(min(num_frames, 100), min(int(num_frames**0.75), 10_000))
    indices: list[int] = np.round(np.linspace(0, num_frames - 1, num_samples)).astype(int).tolist()
    return indices


def image_stride(height: int, width: int) -> int:
    """Return the step at which rows and columns of an image are taken: ``image[::step, ::step]``."""
    if max(width, height) < 300:
        return 1
    return int(width / 150) if width > height else int(height / 150)


class ImageStats:
    """Accumulates sampled images of one camera; two accumulators of the same camera can be merged."""

    def __init__(self) -> None:
        self._histogram = np.zeros((3, 256), dtype=np.int64)
        self._num_images = 0

    @property
    def num_images(self) -> int:
        """Number of images added."""
        return self._num_images

    def add(self, image: NDArray[np.uint8], *, bgr: bool = False, strided: bool = False) -> None:
        """Add one sampled image.

        Args:
            image: (H, W, 3) uint8, RGB.
            bgr: the channels are in OpenCV's order.
            strided: the image was already thinned by ``image_stride`` of its full size.

        Raises:
            ValueError: another shape or dtype, or no pixels.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise ValueError(f"an image is (H, W, 3) uint8, this is {image.shape} {image.dtype}")
        step = 1 if strided else image_stride(image.shape[0], image.shape[1])
        thinned = image[::step, ::step, ::-1] if bgr else image[::step, ::step]
        for channel in range(3):
            self._histogram[channel] += np.bincount(thinned[..., channel].ravel(), minlength=256)
        self._num_images += 1

    def merge(self, other: ImageStats) -> None:
        """Add what ``other`` accumulated."""
        self._histogram += other._histogram
        self._num_images += other._num_images

    def stats(self) -> Stats:
        """Return min, max, mean and std of shape (3, 1, 1) in [0, 1], and the number of images.

        Raises:
            ValueError: no image was added.
        """
        if self._num_images == 0:
            raise ValueError("no image was added")
        channels = [_channel_stats(histogram) for histogram in self._histogram]
        low, high, mean, std = (
            np.array(values, dtype=np.float64).reshape(IMAGE_STATS_SHAPE) / 255.0 for values in zip(*channels, strict=True)
        )
        return Stats(min=low, max=high, mean=mean, std=std, count=self._num_images)


def aggregated(stats: Sequence[Stats]) -> Stats:
    """Return the statistics of the union: min, max, count-weighted mean, parallel variance.

    Args:
        stats: at least one, all of the same shape.
    """
    means = np.stack([each.mean for each in stats])
    variances = np.stack([each.std**2 for each in stats])
    counts = np.array([each.count for each in stats]).reshape(-1, *[1] * (means.ndim - 1))
    total = counts.sum()
    mean = (means * counts).sum(axis=0) / total
    variance = ((variances + (means - mean) ** 2) * counts).sum(axis=0) / total
    return Stats(
        min=np.min(np.stack([each.min for each in stats]), axis=0),
        max=np.max(np.stack([each.max for each in stats]), axis=0),
        mean=mean,
        std=np.sqrt(variance),
        count=int(total),
    )


def _channel_stats(histogram: NDArray[np.int64]) -> tuple[int, int, float, float]:
    """Return min, max, mean and std of the levels 0..255 counted in ``histogram``, from exact integer sums."""
    counts = [int(count) for count in histogram]
    levels = [level for level, count in enumerate(counts) if count]
    num = sum(counts)
    total = sum(level * counts[level] for level in levels)
    squares = sum(level * level * counts[level] for level in levels)
    variance = (num * squares - total * total) / (num * num)
    return levels[0], levels[-1], total / num, float(np.sqrt(variance))
