"""Files of an episode are opened without waiting, within limits, and over links only where that is wanted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.converter import files
from services.converter.assignment import RawEpisode
from shared.errors import BadRaw


def episode_at(folder: Path, *, roots: tuple[Path, ...] = ()) -> RawEpisode:
    (folder / "joints").mkdir(parents=True, exist_ok=True)
    return RawEpisode(episode_id=folder.name, joints=folder / "joints", images=folder / "images", roots=roots)


def test_a_file_up_to_the_limit_is_read_and_one_byte_more_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")

    assert files.read(path, "file", is_linkable=False, limit_bytes=5) == b"12345"
    with pytest.raises(BadRaw, match=r"^file: has 5 bytes, the limit is 4$"):
        files.read(path, "file", is_linkable=False, limit_bytes=4)


@pytest.mark.timeout(5)
def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(BadRaw, match=r"^pipe: is a pipe, expected a file$"):
        files.read(tmp_path / "pipe", "pipe", is_linkable=True, limit_bytes=5)


def test_a_link_is_followed_or_refused_as_asked(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "link").symlink_to("file")

    assert files.read(tmp_path / "link", "link", is_linkable=True, limit_bytes=5) == b"1"
    with pytest.raises(BadRaw, match=r"^link: is reached over a symbolic link; a service reads only"):
        files.read(tmp_path / "link", "link", is_linkable=False, limit_bytes=5)


def test_a_link_above_the_root_counts_as_the_hosts_own_and_one_below_is_refused(tmp_path: Path) -> None:
    (tmp_path / "disk" / "real").mkdir(parents=True)
    (tmp_path / "store").symlink_to("disk")
    (tmp_path / "store" / "linked").symlink_to("real")
    root = tmp_path / "store"
    sound, linked = episode_at(root / "real", roots=(root,)), episode_at(root / "linked", roots=(root,))

    assert files.checked_folder(sound, sound.joints) == sound.joints
    with pytest.raises(BadRaw, match=r"^joints: is reached over a symbolic link"):
        files.checked_folder(linked, linked.joints)


def test_nothing_there_is_no_defect_but_a_dangling_link_is(tmp_path: Path) -> None:
    episode = episode_at(tmp_path / "e")
    (episode.joints / "gone").symlink_to("nowhere")

    assert files.checked_folder(episode, episode.images) is None
    assert not files.is_there(episode, episode.joints / "none")
    with pytest.raises(BadRaw, match=r"^joints/gone: is a symbolic link to nowhere, which is not there, expected a file$"):
        files.is_there(episode, episode.joints / "gone")


def test_names_are_shown_printable_and_short() -> None:
    assert files.shown("1\n\x1b.jpg") == r"1\n\x1b.jpg"
    assert files.shown("x" * 500) == "x" * 120 + "… (500 characters)"
    assert files.listing(str(index) for index in range(14)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 2 more"
    assert files.listing([]) == ""
