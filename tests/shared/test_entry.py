"""What the entry points share: finding the files, and what is said when one is wrong."""

import asyncio
import os
import subprocess
import sys
from contextlib import AsyncExitStack, chdir
from pathlib import Path

import pytest

from shared import entry
from shared.errors import BadConfig
from tests.e2e.stacks import write_config


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    (tmp_path / "lab" / "config").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(("place", "expected"), [("here", "here"), ("lab/config", "lab/config"), ("lab", "lab")])
def test_template_is_found_below_the_current_folder_then_beside_the_storage_file_then_above(
    folders: Path, place: str, expected: str
) -> None:
    (folders / place / "s.yaml").write_text("x")
    with chdir(folders / "here"):
        found = entry.find_template("s.yaml", folders / "lab" / "config" / "storage.yaml")

    assert found == folders / expected / "s.yaml"


def test_current_folder_comes_first(folders: Path) -> None:
    for place in ("here", "lab/config", "lab"):
        (folders / place / "s.yaml").write_text("x")
    with chdir(folders / "here"):
        found = entry.find_template("s.yaml", folders / "lab" / "config" / "storage.yaml")

    assert found == folders / "here" / "s.yaml"


def test_missing_template_names_every_place_tried(folders: Path) -> None:
    with chdir(folders / "here"), pytest.raises(BadConfig) as refused:
        entry.find_template("s.yaml", folders / "lab" / "config" / "storage.yaml")

    assert refused.value.key == "conversion.config_template"
    assert all(f"{folders / place / 's.yaml'}" in str(refused.value) for place in ("here", "lab/config", "lab"))


def test_credentials_beside_the_storage_file_lie_over_the_environment(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    credentials = tmp_path / "credentials.env"
    credentials.write_text("NATS_USER=embedded\nNATS_PASSWORD=a=b\n")
    credentials.chmod(0o600)
    loaded = entry.load(path, {"NATS_USER": "other", "REDIS_PASSWORD": "kept"})

    assert loaded.storage.nats.user == "embedded"
    assert loaded.storage.nats.password is not None
    assert loaded.storage.nats.password.reveal() == "a=b"
    assert loaded.storage.redis.password is not None
    assert loaded.storage.redis.password.reveal() == "kept"


def test_credentials_that_others_can_read_are_refused(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    (tmp_path / "credentials.env").write_text("NATS_USER=x\n")
    (tmp_path / "credentials.env").chmod(0o644)

    with pytest.raises(BadConfig, match="others may read it: chmod 600 it"):
        entry.load(path, {})


async def never(loaded: entry.Loaded, stopping: asyncio.Event, stack: AsyncExitStack) -> object:
    raise AssertionError


def test_service_with_a_wrong_file_says_one_sentence_and_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "storage.yaml"
    path.write_text("sauces: [local]\n")
    status = entry.serve(path, never, service="tester")

    assert status == 1
    assert capsys.readouterr().err.startswith(f"error: {path}: sauces: unknown key")


@pytest.mark.parametrize("service", ["scanner", "uploader", "converter"])
def test_every_service_refuses_a_missing_file_in_one_sentence(tmp_path: Path, service: str) -> None:
    path = tmp_path / "missing.yaml"
    ended = subprocess.run(
        [sys.executable, "-m", f"services.{service}", "-c", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        env=dict(os.environ),
        check=False,
    )

    assert ended.returncode != 0
    assert f"{path}: cannot be read" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_shipped_storage_file_is_sound_without_any_variable() -> None:
    loaded = entry.load(Path(__file__).parents[2] / "config" / "storage.yaml", {})

    assert loaded.notices == ()
    assert loaded.places().sources == ("local", "bos")
    assert loaded.storage.bos.upload.parallel_uploads == 4
