"""The card of a dataset on the Hub."""

from __future__ import annotations

import yaml

from shared.lerobot.card import card_text, is_ours
from shared.lerobot.info import empty_info


def test_metadata_is_what_lerobot_writes() -> None:
    text = card_text(empty_info(robot_type="bi_so100", fps=30, features={}), tags=("stacking: yes", "LeRobot"), license_id="mit")

    _, metadata, body = text.split("---\n", 2)
    assert yaml.safe_load(metadata) == {
        "license": "mit",
        "task_categories": ["robotics"],
        "tags": ["LeRobot", "stacking: yes"],
        "configs": [{"config_name": "default", "data_files": "data/*/*.parquet"}],
    }
    assert '"codebase_version": "v2.1"' in body
    assert "of a bi_so100" in body


def test_card_that_somebody_made_their_own_is_told_from_ours() -> None:
    text = card_text(empty_info(robot_type=None, fps=30, features={}))

    assert is_ours(text)
    assert not is_ours("# Our cubes\n")
