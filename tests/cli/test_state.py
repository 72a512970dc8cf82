"""The folder of an embedded stack."""

from pathlib import Path

import pytest

from cli.state import StateFolder, write_private
from shared.errors import Refused


def test_credentials_are_generated_once_and_kept(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    first = state.credentials()
    state.write_credentials(first.environ(nats_url="nats://127.0.0.1:7"))
    second = StateFolder(tmp_path).credentials()
    other = StateFolder(tmp_path / "other").credentials()

    assert second == first
    assert other.nats_password != first.nats_password
    assert "NATS_URL=nats://127.0.0.1:7\n" in state.credentials_path.read_text()
    assert state.credentials_path.stat().st_mode & 0o777 == 0o600
    assert first.nats_password.reveal() not in repr(first)


def test_private_file_is_replaced_whole_and_stays_private(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, b"new")

    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_folder_is_held_by_one_and_free_again_afterwards(tmp_path: Path) -> None:
    with StateFolder(tmp_path).held(), pytest.raises(Refused, match="in use by another"), StateFolder(tmp_path).held():
        raise AssertionError
    with StateFolder(tmp_path).held():
        assert (tmp_path / "logs").is_dir()


def test_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match="choose another with --state"), StateFolder(tmp_path / "file" / "state").held():
        raise AssertionError


async def test_leftovers_of_a_clean_stop_are_nobody(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    await state.wait_for_leftovers()

    assert not state.endpoints_path.exists()
