"""Overrides of the configuration that an event may bring: wrong, or out to exhaust the host."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.corpus.cases import Corpus
from tests.services.converter.episodes import ARMS, START_US, jpeg, write_arm

_LONG = "m\\n" * 100
OVERRIDES = Corpus("Configuration overrides and length")


@OVERRIDES.refused(
    "config_overrides: alignment.chunk: unknown key; docs/configuration.md lists the keys",
    error_type="BadConfig",
    overrides={"alignment.chunk": 10},
)
def override_unknown_key(folder: Path) -> None:
    """An unknown key."""


@OVERRIDES.refused(
    "config_overrides: alignment.chunk_size: expected `int`, got `str` (found 'ten')",
    error_type="BadConfig",
    overrides={"alignment": {"chunk_size": "ten"}},
)
def override_wrong_type(folder: Path) -> None:
    """A text where a number is expected."""


@OVERRIDES.refused("config_overrides: video: expected `object`, got `int` (found 7)", error_type="BadConfig", overrides={"video": 7})
def override_section_is_number(folder: Path) -> None:
    """A number in the place of a section."""


@OVERRIDES.refused(
    "config_overrides: alignment.chunk_size: expected `int` <= 1000 (found 1000000000)",
    error_type="BadConfig",
    overrides={"alignment.chunk_size": 1_000_000_000},
)
def override_chunk_too_large(folder: Path) -> None:
    """A chunk of a billion steps."""


@OVERRIDES.refused(
    "config_overrides: alignment.tolerance_ms: expected `float` <= 3600000.0 (found 1e+300)",
    error_type="BadConfig",
    overrides={"alignment.tolerance_ms": 1e300},
)
def override_tolerance_overflows(folder: Path) -> None:
    """A tolerance that overflows microseconds."""


@OVERRIDES.refused(
    "config_overrides: video.preset: expected `str` matching regex '^[a-z0-9]{1,16}\\\\Z' (found '../../evil')",
    error_type="BadConfig",
    overrides={"video.preset": "../../evil"},
)
def override_preset_is_path(folder: Path) -> None:
    """A preset that is a path."""


@OVERRIDES.refused(
    "video: preset: h264 has no preset 'warp9', expected one of ultrafast, superfast, veryfast, faster, fast, medium, "
    "slow, slower, veryslow, placebo",
    error_type="BadConfig",
    overrides={"video.preset": "warp9"},
)
def override_preset_unknown(folder: Path) -> None:
    """A preset that the encoder does not know."""


@OVERRIDES.refused(
    "config_overrides: robot.arms[0].file: expected `str` matching regex '^[A-Za-z0-9][A-Za-z0-9._-]{0,127}\\\\Z' (found '../../secret')",
    error_type="BadConfig",
    overrides={"robot.arms": [{"name": "left", "role": "slave", "file": "../../secret"}]},
)
def override_arm_is_path(folder: Path) -> None:
    """An arm whose file is a path out of the episode."""


@OVERRIDES.refused(
    "config_overrides: cameras[0].name: expected `str` matching regex '^[A-Za-z0-9][A-Za-z0-9_-]{0,63}\\\\Z' (found '../cam')",
    error_type="BadConfig",
    overrides={"cameras": [{"name": "../cam", "role": "base", "target_fps": 25}]},
)
def override_camera_is_path(folder: Path) -> None:
    """A camera whose name is a path."""


@OVERRIDES.refused("config_overrides: cameras: expected `array` of length >= 1", error_type="BadConfig", overrides={"cameras": []})
def override_no_camera(folder: Path) -> None:
    """No cameras."""


@OVERRIDES.refused(
    f"config_overrides: {'x' * 200}… (100000 characters): unknown key; docs/configuration.md lists the keys",
    error_type="BadConfig",
    overrides={"x" * 100_000: 1},
)
def override_long_key(folder: Path) -> None:
    """A key of a hundred thousand letters."""


@OVERRIDES.refused(
    f"config_overrides: alignment.strategy: invalid enum value '{_LONG[:180]}… (150021 characters) "
    f"(found '{_LONG[:199]}… (150002 characters))",
    error_type="BadConfig",
    overrides={"alignment.strategy": "m\n" * 50_000},
)
def override_long_value(folder: Path) -> None:
    """A value of a hundred thousand letters."""


@OVERRIDES.refused(
    "all streams overlap for 0.560 s, filtering.min_duration_sec is 3600",
    error_type="Filtered",
    overrides={"filtering.min_duration_sec": 3600},
)
def override_filter(folder: Path) -> None:
    """An episode shorter than a filter asks."""


@OVERRIDES.refused(
    "episode: has 59001 rows of 1000 x 6 actions, 1350 MiB; the limit is 512 MiB: lower "
    "alignment.chunk_size or video.fps, or split the recording",
    overrides={"alignment.strategy": "chunking", "alignment.chunk_size": 1000, "video.fps": 1000, "alignment.tolerance_ms": 3_600_000},
)
def memory_chunks(folder: Path) -> None:
    """The largest chunk at the largest rate over a minute: actions that no memory holds."""
    for arm in ARMS:
        write_arm(folder / "joints" / f"{arm}.parquet", range(START_US, START_US + 60_000_000, 100_000))
    for camera in ("cam_base", "cam_side"):
        for second in range(60):
            (folder / "images" / camera / f"{START_US + second * 1_000_000 + 5}.jpg").write_bytes(jpeg(1))


@OVERRIDES.refused(
    "episode: spans 2300000000 s, 57500000000 rows at fps 25; the limit is 1000000 rows: split the "
    "recording, or look for a wrong timestamp",
    overrides={"alignment.timeline": "uniform"},
)
def memory_years(folder: Path) -> None:
    """Two samples and two frames of every stream a century apart."""
    times = [START_US, 4_000_000_000_000_000]
    for arm in ARMS:
        write_arm(folder / "joints" / f"{arm}.parquet", times)
    for camera in ("cam_base", "cam_side"):
        for time_us in times:
            (folder / "images" / camera / f"{time_us}.jpg").write_bytes(jpeg(1))


@OVERRIDES.refused(
    "episode: has 87501 rows; LeRobot's float32 timestamps carry at most 51204 rows (2048 s) at fps 25: "
    "split the recording, or choose another fps",
    overrides={"alignment.timeline": "uniform", "alignment.on_gap": "hold"},
)
def longer_than_float32(folder: Path) -> None:
    """An hour: longer than float32 timestamps carry."""
    times = np.arange(START_US, START_US + 3_600_000_000, 10_000_000)
    for arm in ARMS:
        write_arm(folder / "joints" / f"{arm}.parquet", times)
    for camera in ("cam_base", "cam_side"):
        for time_us in times[::10]:
            (folder / "images" / camera / f"{time_us}.jpg").write_bytes(jpeg(1))


@OVERRIDES.works(overrides={"alignment.strategy": "chunking", "alignment.chunk_size": 1000})
def override_largest_chunk(folder: Path) -> None:
    """The largest chunk."""
