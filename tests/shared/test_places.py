"""The table of rules: which source reads and writes where."""

from typing import Any

import pytest

from shared.config import StorageConfig, StrategyConfig, decode_storage, decode_strategy
from shared.errors import BadConfig, BadEvent
from shared.events import EpisodeReady
from shared.places import LocalFolders, Places, lerobot_home, resolve

USERS_PATTERN = "./lerobot_datasets/{source}/{episode_id}_{strategy}"


def strategy(**input_paths: str) -> StrategyConfig:
    document = {
        "robot": {"type": "so100", "arms": [{"name": "left", "role": "slave"}], "joints_per_arm": 7},
        "cameras": [{"name": "front", "role": "base", "target_fps": 25}],
        "alignment": {"strategy": "chunking"},
        "input": input_paths,
    }
    return decode_strategy(document, place="test")


def storage(sources: list[Any], **sections: Any) -> StorageConfig:
    return decode_storage({"store": "s3://bucket", "sources": sources, **sections}, {}, place="test")[0]


def places(sources: list[Any], **sections: Any) -> Places:
    return resolve(storage(sources, **sections), strategy(data_path="./raw"), here="/work/here", home="/home/me")


def ready(source: str, **fields: Any) -> EpisodeReady:
    return EpisodeReady(episode_id="ep1", source=source, **fields)


def raw_uri(found: Places, source: str) -> str:
    place = found.raw(ready(source))
    assert not isinstance(place, LocalFolders)
    return place.uri


@pytest.mark.parametrize(
    ("sources", "sections", "raw", "target"),
    [
        (["bos"], {}, "s3://bucket/raw_datas/ep1", "s3://bucket/converted_datas/ep1_chunking"),
        (["local", "bos"], {}, "s3://bucket/raw_datas/ep1", "s3://bucket/converted_datas/ep1_chunking"),
        (["bos"], {"output": {"pattern": USERS_PATTERN}}, "s3://bucket/raw_datas/ep1", "s3://bucket/converted_datas/ep1_chunking"),
        (
            ["bos", "b"],
            {"output": {"pattern": USERS_PATTERN}},
            "s3://bucket/raw_datas/bos/ep1",
            "s3://bucket/converted_datas/bos/ep1_chunking",
        ),
        (["bos"], {"store": "file:///data"}, "file:///data/raw_datas/ep1", "file:///data/converted_datas/ep1_chunking"),
        (["bos"], {"store": "s3://bucket/team"}, "s3://bucket/team/raw_datas/ep1", "s3://bucket/team/converted_datas/ep1_chunking"),
        (["bos"], {"store": None, "bos": {"bucket": "other"}}, "s3://other/raw_datas/ep1", "s3://other/converted_datas/ep1_chunking"),
        (
            ["bos"],
            {"bos": {"paths": {"raw_data_prefix": "r/{source}/x"}}},
            "s3://bucket/r/bos/x/ep1",
            "s3://bucket/converted_datas/ep1_chunking",
        ),
        (
            [{"name": "bos", "raw": "file:///lab/raw", "output": "s3://results/x"}],
            {},
            "file:///lab/raw/ep1",
            "s3://results/x/ep1_chunking",
        ),
        (
            ["bos", "b"],
            {"output": {"pattern": "{source}/{strategy}/{episode_id}"}},
            "s3://bucket/raw_datas/bos/ep1",
            "s3://bucket/converted_datas/bos/chunking/ep1",
        ),
    ],
)
def test_a_source_reads_and_writes_where_the_rules_say(sources: list[Any], sections: dict[str, Any], raw: str, target: str) -> None:
    found = places(sources, **sections)

    assert raw_uri(found, "bos") == raw
    assert found.target(ready("bos")).uri == target


@pytest.mark.parametrize(
    ("pattern", "target"),
    [
        (USERS_PATTERN, "file:///work/here/lerobot_datasets/local/ep1_window"),
        ("~/out/{episode_id}/{strategy}", "file:///home/me/out/ep1/window"),
        ("/abs/../out/{episode_id}_{strategy}", "file:///out/ep1_window"),
        ("file:///o%20o/{episode_id}_{strategy}", "file:///o%20o/ep1_window"),
    ],
)
def test_local_writes_to_folders_when_the_pattern_is_path_like(pattern: str, target: str) -> None:
    assert places(["local"], output={"pattern": pattern}).target(ready("local", strategy="window")).uri == target


def test_local_reads_the_folders_of_the_strategy_file() -> None:
    folders = resolve(storage(["local"]), strategy(data_path="./raw", images_path="~/pics"), here="/work/here", home="/home/me")

    assert folders.raw(ready("local")) == LocalFolders("/work/here/raw", "/home/me/pics")


def test_local_without_folders_says_what_to_set() -> None:
    found = resolve(storage(["local"]), strategy(), here="/work/here", home="/home/me")

    with pytest.raises(BadConfig, match=r"input\.data_path"):
        found.raw(ready("local"))


def test_the_events_own_uri_wins() -> None:
    found = places(["bos"]).raw(ready("bos", raw="s3://elsewhere/a/b"))

    assert not isinstance(found, LocalFolders)
    assert (found.root, found.prefix) == ("s3://elsewhere", "a/b/")


@pytest.mark.parametrize(
    "raw", ["http://x/y", "file://raw/x", "file:///a/../etc", "file:///a/%2e%2e/etc", "/etc", "s3://", "s3://bucket/../x"]
)
def test_a_raw_uri_that_is_not_plain_is_a_bad_event(raw: str) -> None:
    with pytest.raises(BadEvent, match="raw"):
        places(["bos"]).raw(ready("bos", raw=raw))


def test_a_source_that_is_not_configured_is_a_bad_event() -> None:
    with pytest.raises(BadEvent, match="not configured"):
        places(["bos"]).raw(ready("nobody", raw="s3://bucket/x"))
    with pytest.raises(BadEvent, match="not configured"):
        places(["bos"]).target(ready("nobody"))


@pytest.mark.parametrize(
    ("sources", "sections", "key"),
    [
        (["bos"], {"output": {"pattern": "{episode_id}"}}, "output.pattern"),
        (["bos"], {"output": {"pattern": "{strategy}"}}, "output.pattern"),
        (["bos"], {"output": {"pattern": "{episode_id}_{strategy}_{who}"}}, "output.pattern"),
        (["bos"], {"output": {"pattern": "a/../{episode_id}_{strategy}"}}, "output.pattern"),
        (["a", "b"], {"output": {"pattern": "{episode_id}_{strategy}"}}, "output.pattern"),
        (["bos"], {"store": "http://x"}, "store"),
        (["bos"], {"store": None}, "store"),
        ([{"name": "a", "raw": "/plain/path"}], {}, "sources.a.raw"),
        (["bos"], {"bos": {"paths": {"raw_data_prefix": "../x"}}}, "bos.paths.raw_data_prefix"),
    ],
)
def test_a_configuration_that_loses_or_mixes_datasets_is_refused(sources: list[Any], sections: dict[str, Any], key: str) -> None:
    with pytest.raises(BadConfig) as refusal:
        places(sources, **sections)

    assert refusal.value.key == key


@pytest.mark.parametrize(
    ("sections", "uri"),
    [
        ({}, "s3://bucket/datasets/me/stack"),
        ({"store": "s3://bucket/team"}, "s3://bucket/team/datasets/me/stack"),
        ({"store": None, "bos": {"bucket": "other"}}, "s3://other/datasets/me/stack"),
        ({"store": "file:///data"}, "file:///hf/lerobot/me/stack"),
        ({"datasets": {"root": "./sets"}}, "file:///work/here/sets/me/stack"),
        ({"datasets": {"root": "s3://sets/x"}}, "s3://sets/x/me/stack"),
        ({"datasets": {"root": "/elsewhere", "folders": {"me/stack": "~/mine"}}}, "file:///home/me/mine"),
        ({"datasets": {"folders": {"me/stack": "s3://mine/a"}}}, "s3://mine/a"),
        ({"datasets": {"root": "/sets", "folders": {"me/other": "/other"}}}, "file:///sets/me/stack"),
    ],
)
def test_a_growing_dataset_lies_where_the_rules_say(sections: dict[str, Any], uri: str) -> None:
    configured = storage(["bos"], **sections)
    found = resolve(configured, strategy(), here="/work/here", home="/home/me", lerobot_home="/hf/lerobot")

    assert found.dataset("me/stack").uri == uri


def test_a_growing_dataset_without_any_place_says_what_to_set() -> None:
    found = places(["local"], store=None, output={"pattern": USERS_PATTERN})

    with pytest.raises(BadConfig, match=r"datasets\.root.*'me/stack' has no place"):
        found.dataset("me/stack")


def test_two_growing_datasets_in_one_folder_are_refused() -> None:
    with pytest.raises(BadConfig, match=r"datasets\.folders\.b: is the folder of a too"):
        places(["bos"], datasets={"folders": {"a": "/x/y", "b": "file:///x/y"}})


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({}, "~/.cache/huggingface/lerobot"),
        ({"XDG_CACHE_HOME": "/cache"}, "/cache/huggingface/lerobot"),
        ({"XDG_CACHE_HOME": "/cache", "HF_HOME": "/hf"}, "/hf/lerobot"),
        ({"HF_HOME": "/hf", "HF_LEROBOT_HOME": "/robots"}, "/robots"),
    ],
)
def test_lerobots_own_folder_follows_its_own_variables(environ: dict[str, str], folder: str) -> None:
    assert lerobot_home(environ) == folder
