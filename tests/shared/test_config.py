"""Strategy and storage files: those of the repository and the users' old ones load; every mistake is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.config import (
    StorageConfig,
    StrategyConfig,
    decode_storage,
    decode_strategy,
    durable_name,
    load_storage,
    load_strategy,
    source_configs,
)
from shared.errors import BadConfig
from shared.retired import RETIRED_STORAGE_KEYS

REPOSITORY = Path(__file__).parents[2]
STRATEGY: dict[str, Any] = {
    "robot": {"type": "arm", "arms": [{"name": "left", "role": "slave"}, {"name": "lead", "role": "master"}], "joints_per_arm": 7},
    "cameras": [{"name": "base", "role": "base", "target_fps": 25}, {"name": "env", "role": "downsample", "target_fps": 30}],
    "alignment": {"strategy": "nearest"},
}


def strategy(overrides: dict[str, Any] | None = None) -> StrategyConfig:
    return decode_strategy(STRATEGY, place="file.yaml", overrides=overrides)


def storage(document: dict[str, Any], environ: dict[str, str] | None = None) -> tuple[StorageConfig, list[str]]:
    return decode_storage(document, environ or {}, place="storage.yaml")


def strategy_refusal(overrides: dict[str, Any]) -> str:
    with pytest.raises(BadConfig) as caught:
        strategy(overrides)
    return str(caught.value)


def storage_refusal(document: dict[str, Any]) -> str:
    with pytest.raises(BadConfig) as caught:
        storage(document)
    return str(caught.value)


@pytest.mark.parametrize("name", ["nearest", "chunking", "window"])
def test_the_strategy_files_of_the_repository_load(name: str) -> None:
    config = load_strategy(REPOSITORY / f"config/strategies/{name}.yaml", {})

    assert config.alignment.strategy == name
    assert (config.fps, config.base_camera.role, len(config.robot.arms)) == (25, "base", 4)


def test_a_strategy_survives_its_own_yaml(tmp_path: Path) -> None:
    (tmp_path / "file.yaml").write_bytes(msgspec.yaml.encode(strategy()))

    assert load_strategy(tmp_path / "file.yaml", {}) == strategy()


@pytest.mark.parametrize("overrides", [{"alignment.strategy": "window"}, {"alignment": {"strategy": "window"}}])
def test_overrides_change_one_key_and_leave_the_rest(overrides: dict[str, Any]) -> None:
    changed = strategy({**overrides, "video.crf": 30})

    assert (changed.alignment.strategy, changed.video.crf) == ("window", 30)
    assert (changed.robot, changed.cameras, changed.alignment.tolerance_ms) == (strategy().robot, strategy().cameras, 20)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"video.crf": 64}, "video.crf: expected `int` <= 63 (found 64)"),
        ({"video.crf": "low"}, "video.crf: expected `int`, got `str` (found 'low')"),
        ({"video.codec": "vp9"}, "video.codec: invalid enum value 'vp9' (found 'vp9')"),
        ({"video.fps": 0}, "video.fps: expected `int` >= 1 (found 0)"),
        ({"video.preset": "a b"}, r"video.preset: expected `str` matching regex '^[a-z0-9]{1,16}\\Z' (found 'a b')"),
        ({"video.crff": 3}, "video.crff: unknown key; docs/configuration.md lists the keys"),
        ({"alignment.tolerance_ms": 0}, "alignment.tolerance_ms: expected `float` > 0.0 (found 0)"),
        ({"alignment.tolerance_ms": 1e300}, "alignment.tolerance_ms: expected `float` <= 3600000.0 (found 1e+300)"),
        ({"alignment.window_ms": float("inf")}, "alignment.window_ms: expected `float` <= 3600000.0 (found inf)"),
        ({"alignment.tolerance_ms": float("nan")}, "alignment.tolerance_ms: expected `float` > 0.0 (found nan)"),
        ({"alignment.padding_value": float("nan")}, "alignment.padding_value: expected `float` >= -1e+38 (found nan)"),
        ({"alignment.strategy": "best"}, "alignment.strategy: invalid enum value 'best' (found 'best')"),
        ({"alignment.joints_fps": "fast"}, "alignment.joints_fps: invalid enum value 'fast' (found 'fast')"),
        ({"robot.joints_per_arm": 0}, "robot.joints_per_arm: expected `int` >= 1 (found 0)"),
        ({"robot.arms": []}, "robot.arms: expected `array` of length >= 1"),
        ({"cameras": {}}, "cameras: expected `array`, got `object`"),
        ({"filtering.min_frames": -1}, "filtering.min_frames: expected `int` >= 0 (found -1)"),
        ({"surprise": 1}, "surprise: unknown key; docs/configuration.md lists the keys"),
    ],
)
def test_a_wrong_override_is_refused_with_key_value_and_expectation(overrides: dict[str, Any], sentence: str) -> None:
    assert strategy_refusal(overrides) == f"config_overrides: {sentence}"


@pytest.mark.parametrize("name", ["../left", "a/b", "", ".hidden", "a b"])
def test_names_that_become_paths_are_checked(name: str) -> None:
    arm = strategy_refusal({"robot.arms": [{"name": name, "role": "slave"}]})
    file = strategy_refusal({"robot.arms": [{"name": "left", "role": "slave", "file": name}]})
    camera = strategy_refusal({"cameras": [{"name": name, "role": "base", "target_fps": 25}]})

    assert arm.startswith("config_overrides: robot.arms[0].name: expected `str` matching regex ")
    assert file.startswith("config_overrides: robot.arms[0].file: expected `str` matching regex ")
    assert camera.startswith("config_overrides: cameras[0].name: expected `str` matching regex ")
    assert all(sentence.endswith(f"(found {name!r})") for sentence in (arm, file, camera))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            {"robot.arms": [{"name": "a", "role": "slave"}] * 2},
            "robot.arms and cameras: a is there twice, expected every name once",
        ),
        (
            {"robot.arms": [{"name": "a", "role": "slave", "file": "x"}, {"name": "b", "role": "slave", "file": "x"}]},
            "robot.arms: x is there twice, expected every name once",
        ),
        (
            {"robot.joints_per_arm": 2, "robot.arms": [{"name": "a", "role": "slave", "joint_names": ["lift.pos"]}]},
            "robot.arms[0].joint_names: has 1 names, expected robot.joints_per_arm = 2",
        ),
        (
            {"robot.arms": [{"name": "base", "role": "slave"}]},
            "robot.arms and cameras: base is there twice, expected every name once",
        ),
        (
            {"cameras": [{"name": "a", "role": "sync"}]},
            "cameras: 0 cameras have the role base, expected exactly one: it gives the timeline",
        ),
        (
            {"cameras": [{"name": "a", "role": "base"}, {"name": "b", "role": "base"}]},
            "cameras: 2 cameras have the role base, expected exactly one: it gives the timeline",
        ),
        (
            {"cameras": [{"name": "a", "role": "base"}]},
            "video.fps: is not set, and the base camera a has no target_fps: set one of them",
        ),
    ],
)
def test_what_one_key_alone_cannot_show_is_refused(overrides: dict[str, Any], sentence: str) -> None:
    assert strategy_refusal(overrides) == f"config_overrides: {sentence}"


def test_a_mistake_in_the_file_is_not_blamed_on_the_overrides() -> None:
    broken = {**STRATEGY, "video": {"crf": -1}}

    with pytest.raises(BadConfig) as caught:
        decode_strategy(broken, place="file.yaml", overrides={"video.preset": "fast"})

    assert str(caught.value) == "file.yaml: video.crf: expected `int` >= 0 (found -1)"


def test_overrides_nested_without_end_are_refused() -> None:
    assert strategy_refusal({".".join(["alignment"] * 50_000): 1}).startswith("config_overrides: is nested too deeply")


def test_the_rate_is_the_videos_or_else_the_base_cameras() -> None:
    assert strategy().fps == 25
    assert strategy({"video.fps": 30}).fps == 30


# --- storage ---


def nested(dotted: str, value: Any) -> dict[str, Any]:
    key, _, rest = dotted.partition(".")
    return {key: nested(rest, value) if rest else value}


@pytest.mark.parametrize("key", RETIRED_STORAGE_KEYS)
def test_every_retired_key_is_accepted_with_a_notice(key: str) -> None:
    config, notices = storage(nested(key, {"anything": [1, "x"]} if key == "bos.validation" else 1))

    assert config == storage({})[0]
    assert f"storage.yaml: {key} is accepted and ignored: {RETIRED_STORAGE_KEYS[key]}" in notices


OLD_FILE = """
redis:
  host: redis
  port: 6379
  password: ${REDIS_PASSWORD}
  db: 0
  queue_name: lerobot:queue
  max_workers: 4
  poll_interval: 5
bos:
  endpoint: https://s3.bj.bcebos.com
  bucket: srgdata
  region: bj
  task_name: fold
  paths: {raw_data: raw_datas/, converted: converted_datas/}
  scanner: {interval: 120, min_episode_files: 10, timeout: 30, max_keys: 1000, enable_incremental: true}
  validation: {required_dirs: [images, joints], min_file_count: 10, stable_time: 10}
  download: {temp_dir: "${LEROBOT_TEMP_DIR}", batch_size: 50, concurrent: 4, chunk_size: 8388608, retry: 3, retry_delay: 5}
  upload: {concurrent: 4, overwrite: true, cleanup_local: true}
sources: [local, bos]
output: {pattern: "{source}/{episode_id}_{strategy}", bos_pattern: x}
conversion: {strategy: chunking, config_template: config/strategies/chunking.yaml, output_fps: 25, chunk_size: 10}
logging: {level: INFO, format: "%(asctime)s %(message)s", file: x.log, max_bytes: 1000, backup_count: 3}
"""


def test_an_old_storage_file_loads_with_one_notice_per_retired_key(tmp_path: Path) -> None:
    path = tmp_path / "storage.yaml"
    path.write_text(OLD_FILE)
    config, notices = load_storage(path, {"REDIS_PASSWORD": "hunter2", "BOS_ACCESS_KEY": "AK", "BOS_SECRET_KEY": "SK"})

    assert (config.bos.paths.raw_data_prefix, config.bos.paths.converted_prefix) == ("raw_datas/", "converted_datas/")
    assert (config.redis.max_workers, config.bos.download.temp_dir, config.bos.download.batch_size) == (4, None, 50)
    assert config.output.pattern == "{source}/{episode_id}_{strategy}"
    mentioned = {notice.split(" is accepted")[0].removeprefix(f"{path}: ") for notice in notices}
    assert {"redis.queue_name", "redis.poll_interval", "bos.validation", "bos.scanner.timeout", "conversion.chunk_size"} <= mentioned
    assert len(notices) == len(mentioned) == 20


def test_no_secret_shows_in_a_loaded_file(tmp_path: Path) -> None:
    path = tmp_path / "storage.yaml"
    path.write_text(OLD_FILE)
    environ = {"REDIS_PASSWORD": "hunter2", "BOS_ACCESS_KEY": "AKsecret", "BOS_SECRET_KEY": "SKsecret", "NATS_PASSWORD": "npass"}
    config, notices = load_storage(path, environ)

    assert config.redis.password is not None
    assert config.bos.secret_key is not None
    assert config.nats.password is not None
    revealed = [config.redis.password.reveal(), config.bos.secret_key.reveal(), config.nats.password.reveal()]
    assert revealed == ["hunter2", "SKsecret", "npass"]
    assert not any(secret in f"{config!r}{config}{notices}" for secret in environ.values())


def test_the_storage_file_wins_over_the_environment() -> None:
    config, _ = storage({"redis": {"password": "file"}, "nats": {"user": "me"}}, {"REDIS_PASSWORD": "env", "NATS_USER": "env"})

    assert config.redis.password is not None
    assert (config.redis.password.reveal(), config.nats.user) == ("file", "me")


def test_an_empty_storage_file_is_the_defaults() -> None:
    config, notices = storage({})

    assert (config, notices) == (StorageConfig(), [])
    assert [source.name for source in source_configs(config)] == ["local", "bos"]


def test_an_empty_section_is_the_defaults() -> None:
    assert storage({"redis": None, "bos": None})[0] == StorageConfig()


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({"redis": {"port": 70_000}}, "storage.yaml: redis.port: expected `int` <= 65535 (found 70000)"),
        ({"redis": {"hots": "x"}}, "storage.yaml: redis.hots: unknown key; docs/configuration.md lists the keys"),
        ({"bos": {"upload": {"parallel_uploads": 0}}}, "storage.yaml: bos.upload.parallel_uploads: expected `int` >= 1 (found 0)"),
        ({"bos": {"paths": {"raw": "x"}}}, "storage.yaml: bos.paths.raw: unknown key; docs/configuration.md lists the keys"),
        ({"nats": {"ack_wait_s": -1}}, "storage.yaml: nats.ack_wait_s: expected `float` > 0.0 (found -1)"),
        ({"logging": {"level": "LOUD"}}, "storage.yaml: logging.level: invalid enum value 'LOUD' (found 'LOUD')"),
        ({"redis": {"password": 1.5}}, "storage.yaml: redis.password: expected `str`, got `float`"),
        ({"sources": ["a", "a"]}, "storage.yaml: sources: a is there twice, expected every name once"),
        ({"sources": ["a.b", "a_b"]}, "storage.yaml: sources: a_b is there twice, expected every name once"),
        ({"conversion": {"spool": {"name": "../x"}}}, "storage.yaml: conversion.spool.name: expected `str` matching regex"),
        ({"sources": ["../x"]}, "storage.yaml: sources: name: expected `str` matching regex"),
        ({"sources": [{"name": "a", "roar": 1}]}, "storage.yaml: sources[0].roar: unknown key; docs/configuration.md lists the keys"),
    ],
)
def test_a_wrong_key_type_or_value_of_storage_is_refused(document: dict[str, Any], sentence: str) -> None:
    assert storage_refusal(document).startswith(sentence)


def test_sources_may_say_where_their_raw_episodes_are() -> None:
    config, _ = storage({"sources": ["local", {"name": "lab.2", "raw": "s3://bucket/raw"}]})

    assert [(source.name, source.raw) for source in source_configs(config)] == [("local", None), ("lab.2", "s3://bucket/raw")]
    assert durable_name("lab.2") == "lab_2"
