"""Collects the conformance tests only where an environment with the real LeRobot is named (see README.md)."""

import os
from pathlib import Path

import pytest

PYTHONS = {"v21": os.environ.get("EPISODEFLOW_LEROBOT_V21"), "v30": os.environ.get("EPISODEFLOW_LEROBOT_V30")}

collect_ignore = [f"test_lerobot_{version}.py" for version, python in PYTHONS.items() if not python]


@pytest.fixture(scope="session")
def lerobot_v21() -> Path:
    return Path(str(PYTHONS["v21"]))


@pytest.fixture(scope="session")
def lerobot_v30() -> Path:
    return Path(str(PYTHONS["v30"]))
