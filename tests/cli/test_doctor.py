"""`episodeflow doctor` on healthy and broken systems."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from cli.checks_host import clock_findings, folder_findings
from cli.checks_servers import UserInfo, permitted_roles
from cli.servers import NatsServer, NatsUser, ValkeyServer
from shared.config import BosConfig, ConversionConfig, DownloadConfig, NatsConfig, SpoolConfig, StorageConfig
from shared.permissions import users
from shared.provision import provision_plan
from shared.settings import Secret
from tests.cli.labs import Lab, opened_lab

Found = list[tuple[str, str, str]]


@pytest.fixture
async def lab(tmp_path: Path, valkey_server: ValkeyServer) -> AsyncIterator[Lab]:
    async with opened_lab(tmp_path, valkey_server) as opened:
        yield opened


def change(lab: Lab, section: str, **values: object) -> None:
    document = msgspec.yaml.decode(lab.config.read_bytes())
    document.setdefault(section, {}).update(values)
    lab.config.write_bytes(msgspec.yaml.encode(document))


async def diagnosed(lab: Lab, *arguments: str) -> tuple[int, Found]:
    result = await lab.run("doctor", "--json", *arguments)
    return result.exit_code, [
        (found["level"], found["check"], f"{found['found']} → {found['remedy']}") for found in json.loads(result.stdout)
    ]


def failures(found: Found) -> list[str]:
    return [check for level, check, _ in found if level == "FAIL"]


async def test_healthy_system_has_no_fail_and_the_probe_leaves_nothing_behind(lab: Lab) -> None:
    status, found = await diagnosed(lab, "--write")

    assert (status, failures(found)) == (0, [])
    checks = {check for _, check, _ in found}
    assert {
        "storage file",
        "NATS",
        "stream",
        "consumers",
        "permissions",
        "Redis",
        "store",
        "spool",
        "encoder",
        "clock of NATS",
        "versions",
    } <= checks
    assert list((lab.folder / "store").rglob("*.*")) == []
    assert list((lab.folder / "store").rglob("episodeflow-doctor*")) == []


@pytest.mark.parametrize("columns", ["80", "100"])
async def test_lines_fit_the_terminal_and_say_what_to_do(lab: Lab, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    await lab.bus.api("CONSUMER.DELETE.EPISODES.converter-lab", {})

    result = await lab.run("doctor")

    assert result.exit_code == 1
    assert max(map(len, result.stdout.splitlines())) <= int(columns)
    assert "→ run `episodeflow provision`" in result.stdout
    assert "1 FAIL" in result.stdout


async def test_servers_that_are_away_are_named_with_the_remedy(lab: Lab) -> None:
    change(lab, "nats", servers=["nats://127.0.0.1:1"], connect_timeout_s=1)
    change(lab, "redis", port=1)
    change(lab, "conversion", spool={"name": "default", "path": "/proc/nothing"})

    status, found = await diagnosed(lab)

    assert (status, failures(found)) == (1, ["spool", "NATS", "Redis"])
    assert all(text.rpartition("→ ")[2] for level, _, text in found if level == "FAIL")


async def test_wrong_password_is_a_fail(lab: Lab) -> None:
    change(lab, "nats", password="sesame-9")
    change(lab, "redis", password="sesame-9")

    _, found = await diagnosed(lab)

    assert failures(found) == ["NATS", "Redis"]
    assert "sesame-9" not in str(found)


async def test_stream_and_consumers_that_differ_are_warned_about(lab: Lab) -> None:
    change(lab, "nats", max_age_days=7, ack_wait_s=30)

    status, found = await diagnosed(lab)

    warned = [text for level, check, text in found if level == "warn" and check in {"stream", "consumer"}]
    assert status == 0
    assert "EPISODES differs in max_age" in warned[0]
    assert sum("ack_wait" in text for text in warned) == 4


async def test_missing_stream_is_a_fail(tmp_path: Path, valkey_server: ValkeyServer) -> None:
    async with opened_lab(tmp_path, valkey_server) as lab:
        await lab.bus.api("STREAM.DELETE.EPISODES", {})

        status, found = await diagnosed(lab)

    assert (status, failures(found)[0]) == (1, "stream")


async def test_wrong_configuration_is_one_fail_with_the_key(lab: Lab) -> None:
    change(lab, "redis", prot=6379)

    status, found = await diagnosed(lab)

    assert (status, failures(found)) == (1, ["configuration"])
    assert "prot" in found[-1][2]


async def test_missing_store_folder_is_named(lab: Lab) -> None:
    (lab.folder / "store").rmdir()

    _, found = await diagnosed(lab, "--write")

    assert [(level, "is no folder here" in text) for level, check, text in found if check == "store"] == [("warn", True)]
    assert not (lab.folder / "store").exists()


async def test_user_without_the_right_to_look_gets_a_warning_and_no_fail(tmp_path: Path) -> None:
    plan = provision_plan(StorageConfig(sources=("lab", "other")))
    table = users(stream="EPISODES", subject_by_durable={durable.name: durable.subject for durable in plan.durables})
    recorder = NatsUser.of(next(user for user in table if user.name == "recorder"), Secret("secret"))
    async with NatsServer(tmp_path / "limited", users=(recorder,)) as server, opened_lab(tmp_path) as lab:
        change(lab, "nats", servers=[server.url], user="recorder", password="secret")

        _, found = await diagnosed(lab)

    assert "NATS" not in failures(found)
    assert any(level == "warn" and check == "stream" and "may not look" in text for level, check, text in found)


def test_roles_are_read_from_what_the_server_permits() -> None:
    plan = provision_plan(StorageConfig(sources=("lab",)))
    table = users(stream="EPISODES", subject_by_durable={durable.name: durable.subject for durable in plan.durables})
    converter = next(user for user in table if user.name == "converter")
    assert converter.publish is not None

    def roles(*allowed: str) -> list[str]:
        return permitted_roles(UserInfo(user="u", permissions={"publish": {"allow": list(allowed)}}), NatsConfig(), plan)

    assert roles(*converter.publish) == ["converter"]
    assert roles(*converter.publish[1:]) == []
    assert roles("episode.>", "episodeflow.progress.>", "$SYS.REQ.USER.INFO") == ["scanner"]
    assert roles("episode.>", "episodeflow.>", "$SYS.REQ.USER.INFO") == ["recorder", "scanner"]
    assert roles("episode.*", "episodeflow.progress.*", "$SYS.REQ.USER.INFO") == []
    assert "admin" in permitted_roles(UserInfo(user="u"), NatsConfig(), plan)


def test_clock_that_was_never_set_is_a_fail() -> None:
    assert [found.level for found in (*clock_findings(0.0), *clock_findings(1_800_000_000.0))] == ["FAIL", "ok"]


def test_folder_below_a_file_is_a_fail(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    storage = StorageConfig(
        bos=BosConfig(download=DownloadConfig(temp_dir=str(tmp_path / "file" / "temp"))),
        conversion=ConversionConfig(spool=SpoolConfig(path=str(tmp_path / "spool"))),
    )

    levels = {found.check: found.level for found in folder_findings(storage)}

    assert levels["temp folder"] == "FAIL"
    assert levels["spool"] in {"ok", "warn"}


async def test_bucket_that_is_missing_is_a_fail_and_one_that_is_there_can_be_written(lab: Lab, bos: BosConfig) -> None:
    assert bos.access_key is not None
    assert bos.secret_key is not None
    keys = {"access_key": bos.access_key.reveal(), "secret_key": bos.secret_key.reveal()}
    change(lab, "bos", endpoint=bos.endpoint, bucket=bos.bucket, addressing_style=bos.addressing_style, **keys)
    document = msgspec.yaml.decode(lab.config.read_bytes())

    found = {}
    for bucket in (bos.bucket, "no-such-bucket"):
        lab.config.write_bytes(msgspec.yaml.encode({**document, "store": f"s3://{bucket}"}))
        found[bucket] = [level for level, check, _ in (await diagnosed(lab, "--write"))[1] if check == "store"]

    assert found == {bos.bucket: ["ok"], "no-such-bucket": ["FAIL"]}
