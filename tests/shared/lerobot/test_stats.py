"""Statistics as LeRobot defines them, against plain numpy on all the values at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.lerobot.stats import ImageStats, Stats, aggregated, column_stats, image_stride, sample_indices


@pytest.mark.parametrize(("shape", "row"), [((9,), (1,)), ((9, 3), (3,)), ((9, 2, 3), (2, 3))])
def test_columns_are_reduced_over_their_rows_in_their_own_type(shape: tuple[int, ...], row: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)

    stats = column_stats(values)

    assert stats.count == 9
    for name in ("min", "max", "mean", "std"):
        found = getattr(stats, name)
        assert (found.shape, found.dtype) == (row, np.float32), name
    np.testing.assert_array_equal(stats.std.reshape(shape[1:]), values.std(axis=0))


def test_integers_keep_integer_bounds() -> None:
    record = column_stats(np.array([3, 1, 2], dtype=np.int64)).record()

    assert (record.min, record.max, record.mean, record.count) == ([1], [3], [2.0], [3])
    assert type(record.min[0]) is int


def test_no_rows_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="without rows"):
        column_stats(np.zeros((0, 3)))


@pytest.mark.parametrize(
    ("num_frames", "num_samples"), [(1, 1), (99, 99), (100, 100), (500, 105), (1000, 177), (20_000, 1681), (300_000, 10_000)]
)
def test_the_number_of_samples_grows_slower_than_the_episode(num_frames: int, num_samples: int) -> None:
    indices = sample_indices(num_frames)

    assert len(indices) == num_samples
    assert (indices[0], indices[-1]) == (0, num_frames - 1)
    assert indices == sorted(set(indices))


@pytest.mark.parametrize(
    ("height", "width", "step"), [(240, 299, 1), (300, 200, 2), (480, 640, 4), (640, 480, 4), (1080, 1920, 12), (300, 300, 2)]
)
def test_large_images_are_thinned(height: int, width: int, step: int) -> None:
    assert image_stride(height, width) == step


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5), st.sampled_from([(4, 6), (1, 1), (10, 320)]))
def test_image_statistics_equal_those_of_all_pixels_at_once(seeds: list[int], size: tuple[int, int]) -> None:
    images = [np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8) for seed in seeds]
    step = image_stride(*size)
    pixels = np.concatenate([image[::step, ::step].reshape(-1, 3) for image in images]) / 255.0
    accumulator = ImageStats()
    for image in images:
        accumulator.add(image)

    stats = accumulator.stats()

    assert stats.count == len(images)
    assert stats.mean.shape == (3, 1, 1)
    np.testing.assert_allclose(stats.mean.ravel(), pixels.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(stats.std.ravel(), pixels.std(axis=0), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(stats.min.ravel(), pixels.min(axis=0))
    np.testing.assert_array_equal(stats.max.ravel(), pixels.max(axis=0))


def test_order_grouping_and_channel_order_do_not_matter() -> None:
    images = [np.random.default_rng(seed).integers(0, 256, (480, 640, 3), dtype=np.uint8) for seed in range(3)]
    one, left, right = ImageStats(), ImageStats(), ImageStats()
    for image in images:
        one.add(image)
    left.add(images[2][::4, ::4], strided=True)
    right.add(np.ascontiguousarray(images[1][..., ::-1]), bgr=True)
    right.add(images[0])
    left.merge(right)

    assert left.stats().record() == one.stats().record()
    assert left.num_images == 3


@pytest.mark.parametrize("image", [np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3), np.float32), np.zeros((0, 2, 3), np.uint8)])
def test_what_is_no_colour_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="an image is"):
        ImageStats().add(image)


def test_no_images_have_no_statistics() -> None:
    with pytest.raises(ValueError, match="no image"):
        ImageStats().stats()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_aggregation_equals_the_statistics_of_all_rows(lengths: list[int], seed: int) -> None:
    values = [np.random.default_rng(seed + number).standard_normal((length, 2)) * 3 for number, length in enumerate(lengths)]

    total = aggregated([column_stats(each) for each in values])

    expected: Stats = column_stats(np.concatenate(values))
    assert total.count == expected.count
    for name in ("min", "max", "mean", "std"):
        np.testing.assert_allclose(getattr(total, name), getattr(expected, name), rtol=1e-9, atol=1e-12)
