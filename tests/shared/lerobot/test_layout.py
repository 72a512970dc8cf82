"""Names and places of a dataset's files."""

from __future__ import annotations

import pytest

from shared.lerobot import layout


@pytest.mark.parametrize(("episode_index", "chunk"), [(0, "000"), (999, "000"), (1000, "001"), (123_456, "123")])
def test_a_thousand_episodes_share_a_chunk_folder(episode_index: int, chunk: str) -> None:
    name = f"episode_{episode_index:06d}"

    assert layout.data_path(episode_index) == f"data/chunk-{chunk}/{name}.parquet"
    assert layout.video_path(layout.camera_key("left"), episode_index) == f"videos/chunk-{chunk}/observation.images.left/{name}.mp4"


@pytest.mark.parametrize(("num_episodes", "num_chunks"), [(0, 0), (1, 1), (1000, 1), (1001, 2)])
def test_the_last_chunk_counts_before_it_is_full(num_episodes: int, num_chunks: int) -> None:
    assert layout.num_chunks(num_episodes) == num_chunks
