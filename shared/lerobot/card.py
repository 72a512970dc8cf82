"""A dataset's card: the README.md that the Hub shows and from which its viewer and its search learn what the dataset is.

Source: lerobot 0.3.3, ``create_lerobot_dataset_card`` (the metadata at its top).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shared.lerobot.info import Info, encoded_info

CARD_PATH = "README.md"
DEFAULT_LICENSE = "apache-2.0"
"""What LeRobot writes where nobody says anything else."""

_MARK = "<!-- episodeflow writes this page again at every push; remove this line to keep your own words -->"
_LEROBOT_TAG = "LeRobot"


def card_text(info: Info, *, tags: Sequence[str] = (), license_id: str = DEFAULT_LICENSE) -> str:
    """Return the content of the card of a dataset.

    Args:
        info: the dataset's ``meta/info.json``.
        tags: besides ``LeRobot``.
        license_id: as the Hub calls it.
    """
    metadata = {
        "license": license_id,
        "task_categories": ["robotics"],
        "tags": list(dict.fromkeys([_LEROBOT_TAG, *tags])),
        "configs": [{"config_name": "default", "data_files": "data/*/*.parquet"}],
    }
    return (
        f"---\n{msgspec.yaml.encode(metadata).decode()}---\n\n{_MARK}\n\n"
        "This dataset is in the format of [LeRobot](https://github.com/huggingface/lerobot) "
        f"({info.codebase_version}): {info.total_episodes} episodes, {info.total_frames} frames at {info.fps} Hz"
        f"{f' of a {info.robot_type}' if info.robot_type else ''}.\n\n"
        "## Dataset Structure\n\n[meta/info.json](meta/info.json):\n\n"
        f"```json\n{encoded_info(info).decode()}\n```\n"
    )


def is_ours(card: str) -> bool:
    """Return whether a card is one that nobody has edited since we wrote it, so that it may be written again."""
    return _MARK in card
