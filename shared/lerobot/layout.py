"""Where everything of a LeRobot v2.1 dataset lies: paths, names and the constants of the format.

Knows names only, never a file's content. Every path is relative to the dataset's root, with forward slashes.

Source: lerobot 0.3.3, ``lerobot.datasets.utils``.
"""

from __future__ import annotations

CODEBASE_VERSION = "v2.1"
CHUNKS_SIZE = 1000
"""Episodes per chunk folder."""

DATA_PATH = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"

INFO_PATH = "meta/info.json"
EPISODES_PATH = "meta/episodes.jsonl"
TASKS_PATH = "meta/tasks.jsonl"
STATS_PATH = "meta/episodes_stats.jsonl"
PROVENANCE_PATH = "meta/episodeflow/episodes.jsonl"
"""One line per committed episode, so that "is it already in?" reads one file and no manifests."""

STATE_FOLDER = ".episodeflow"
"""Lock, staging and journal of commits; nothing below it ends in .parquet or .mp4, because LeRobot counts those."""

CAMERA_PREFIX = "observation.images."
CAMERA_AXES = ("height", "width", "channels")
DEFAULT_DTYPE_BY_COLUMN = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
"""The five columns of every dataset, in LeRobot's order, after the user's."""

TIMESTAMP_TOLERANCE_S = 1e-4
"""LeRobot's default ``tolerance_s``, for the spacing of rows and for the distance of row and video frame."""


def camera_key(camera: str) -> str:
    """Return the feature key of a camera, ``observation.images.{camera}``."""
    return CAMERA_PREFIX + camera


def data_path(episode_index: int, *, chunks_size: int = CHUNKS_SIZE, template: str = DATA_PATH) -> str:
    """Return the path of an episode's parquet file."""
    return template.format(episode_chunk=episode_index // chunks_size, episode_index=episode_index)


def video_path(video_key: str, episode_index: int, *, chunks_size: int = CHUNKS_SIZE, template: str = VIDEO_PATH) -> str:
    """Return the path of an episode's video of one camera.

    Args:
        video_key: the camera's feature key (``camera_key``).
        episode_index: number of the episode in its dataset.
        chunks_size: episodes per chunk folder.
        template: ``video_path`` of info.json.
    """
    return template.format(episode_chunk=episode_index // chunks_size, video_key=video_key, episode_index=episode_index)


def manifest_path(episode_index: int) -> str:
    """Return the path of an episode's manifest: which raw files, configuration and software made it."""
    return f"meta/episodeflow/episode_{episode_index:06d}.json"


def num_chunks(num_episodes: int, chunks_size: int = CHUNKS_SIZE) -> int:
    """Return how many chunk folders ``num_episodes`` episodes fill."""
    return -(-num_episodes // chunks_size)
