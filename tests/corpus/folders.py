"""Defective folders: cameras, names, times of frames, links, and things that are no files."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

from tests.corpus.cases import Corpus
from tests.corpus.images import BAD, BAD_US
from tests.services.converter.episodes import START_US, jpeg

CAMERAS = Corpus("Cameras and frames")
LINKS = Corpus("Links and what is no file")
SIDE = "images/cam_side"
BASE = "images/cam_base"


def frames(folder: Path, camera: str = BASE) -> list[Path]:
    """Return a camera's files in time order."""
    return sorted((folder / camera).iterdir())


def spread(folder: Path, camera: str, interval_us: int) -> None:
    """Give a camera's frames other times."""
    for index, path in enumerate(frames(folder, camera)):
        path.rename(path.with_name(f"{START_US + 10_000 + index * interval_us}.jpg.new"))
    for path in frames(folder, camera):
        path.rename(path.with_suffix(""))


@CAMERAS.refused("camera cam_side has no frames; record it again, or set filtering.require_all_cameras: false", error_type="Filtered")
def camera_missing(folder: Path) -> None:
    """One camera's folder is missing."""
    shutil.rmtree(folder / SIDE)


@CAMERAS.refused("camera cam_side has no frames; record it again, or set filtering.require_all_cameras: false", error_type="Filtered")
def camera_empty(folder: Path) -> None:
    """One camera's folder is empty."""
    for path in frames(folder, SIDE):
        path.unlink()


@CAMERAS.refused(
    "camera cam_base, cam_side has no frames; record it again, or set filtering.require_all_cameras: false", error_type="Filtered"
)
def images_missing(folder: Path) -> None:
    """No images at all."""
    shutil.rmtree(folder / "images")


@CAMERAS.refused(
    "images/cam_base: has no frames, but it is the base camera that gives the timeline", overrides={"filtering.require_all_cameras": False}
)
def camera_base_missing(folder: Path) -> None:
    """The base camera is missing where cameras may be missing."""
    shutil.rmtree(folder / BASE)


@CAMERAS.refused("images/cam_side: is a file, expected a folder")
def camera_is_a_file(folder: Path) -> None:
    """A file in the place of a camera's folder."""
    shutil.rmtree(folder / SIDE)
    (folder / SIDE).write_bytes(b"")


@CAMERAS.refused("alignment made 1 rows, filtering.min_frames is 2", error_type="Filtered", overrides={"filtering.min_frames": 2})
def frames_only_one(folder: Path) -> None:
    """One frame only, where two are asked for."""
    for path in frames(folder)[1:]:
        path.unlink()


@CAMERAS.refused(
    "cam_base: begins at 1700000000010000 us, after cam_side has ended at 1700000000003000 us: the streams have no time in common"
)
def frames_only_one_between(folder: Path) -> None:
    """A side camera with a single frame: no base frame lies in the time in common."""
    for path in frames(folder, SIDE)[1:]:
        path.unlink()


@CAMERAS.refused(
    "images/cam_base/00000000000005.jpg: has the same timestamp as 000000000000005.jpg, expected one frame per timestamp: remove one"
)
def frames_at_one_instant(folder: Path) -> None:
    """All frames at one instant: 5.jpg, 05.jpg, 005.jpg, …."""
    for index, path in enumerate(frames(folder)):
        path.rename(path.with_name(f"{'0' * index}5.jpg"))


@CAMERAS.refused(
    "images/cam_base/1700000000210000.jpg: has the same timestamp as 1700000000210000.jpeg, expected one frame per timestamp: remove one"
)
def frames_twice(folder: Path) -> None:
    """One timestamp twice, as .jpg and .jpeg."""
    shutil.copy(folder / BAD, (folder / BAD).with_suffix(".jpeg"))


@CAMERAS.refused("images/cam_base/frame_0000.jpg: is not named by a timestamp in microseconds, expected for example 1764564821038303.jpg")
def frames_numbered(folder: Path) -> None:
    """Frames named frame_0001.jpg."""
    for index, path in enumerate(frames(folder)):
        path.rename(path.with_name(f"frame_{index:04d}.jpg"))


@CAMERAS.refused(
    "images/cam_base/1700000000010000000.jpg: is not named by a timestamp in microseconds, expected for example 1764564821038303.jpg"
)
def frames_nanoseconds(folder: Path) -> None:
    """Frames named in nanoseconds."""
    for path in frames(folder):
        path.rename(path.with_name(f"{path.stem}000.jpg"))


@CAMERAS.refused(
    "cam_side: begins at 1700000000003000 us, after cam_base has ended at 1700000000570 us: the streams "
    "have no time in common; are the timestamps of cam_base microseconds?"
)
def frames_milliseconds(folder: Path) -> None:
    """Frames named in milliseconds."""
    for path in frames(folder):
        path.rename(path.with_name(f"{int(path.stem) // 1000}.jpg"))


@CAMERAS.refused(
    "images/cam_base/9999999999999999.jpg: is not named by a timestamp in microseconds, expected for example 1764564821038303.jpg"
)
def frames_far_future(folder: Path) -> None:
    """A frame after the year 2100."""
    (folder / BAD).rename((folder / BAD).with_name("9999999999999999.jpg"))


@CAMERAS.refused(
    "images/cam_base/\\udcff\\udcfe.jpg: is not named by a timestamp in microseconds, expected for example 1764564821038303.jpg"
)
def frames_not_utf8(folder: Path) -> None:
    """A frame whose name is not UTF-8."""
    (folder / BAD).rename(folder / BASE / os.fsdecode(b"\xff\xfe.jpg"))


@CAMERAS.refused(
    "images/cam_base/1\\n\\x1b[31m.jpg: is not named by a timestamp in microseconds, expected for example 1764564821038303.jpg"
)
def frames_with_newline(folder: Path) -> None:
    """A frame whose name has a line break and a terminal's colour code."""
    (folder / BAD).rename(folder / BASE / "1\n\x1b[31m.jpg")


@CAMERAS.refused(
    f"{BASE}/{'1' * 120}… (255 characters): is not named by a timestamp in microseconds, expected for example 1764564821038303.jpg"
)
def frames_long_name(folder: Path) -> None:
    """A frame with the longest name a disk takes."""
    (folder / BAD).rename(folder / BASE / f"{'1' * 251}.jpg")


@CAMERAS.refused(
    "images/cam_base: came at 10.00 frames per second, but one row per frame at fps 25 would stretch time"
    " by 60.0%; set alignment.timeline: uniform, or the true rate as video.fps and target_fps"
)
def frames_wrong_rate(folder: Path) -> None:
    """A 25 Hz camera that ran at 10 Hz."""
    for index, path in enumerate(frames(folder)):
        if index % 5 not in {0, 2}:
            path.unlink()
    spread(folder, BASE, 100_000)


@CAMERAS.refused(
    "cam_side: begins at 1700003600003000 us, after cam_base has ended at 1700000000570000 us: the streams have no time in common"
)
def frames_never_overlap(folder: Path) -> None:
    """A camera whose clock is an hour late."""
    for path in frames(folder, SIDE):
        path.rename(path.with_name(f"{int(path.stem) + 3_600_000_000}.jpg"))


@CAMERAS.refused(
    "cam_side: at 1700000000050000 us the nearest sample is 47.0 ms away, the tolerance is 40 ms; raise "
    "it, or set alignment.on_gap to drop or hold",
    overrides={"alignment.on_gap": "reject"},
)
def frames_in_a_gap(folder: Path) -> None:
    """A camera that stood still but for its first and last frame, where gaps are refused."""
    for path in frames(folder, SIDE)[1:-1]:
        path.unlink()


@CAMERAS.works()
def frames_with_strays(folder: Path) -> None:
    """Files that operating systems and people leave among frames."""
    for name in (".DS_Store", "Thumbs.db", "metadata.json", "notes.txt", f"._{BAD_US}.jpg", f"{BAD_US}.jpg.tmp", f"{BAD_US}.png"):
        (folder / BASE / name).write_bytes(b"stray")
    (folder / BASE / os.fsdecode(b"\xff\xfe.txt")).touch()


@CAMERAS.works()
def frames_with_folders(folder: Path) -> None:
    """A folder of thumbnails among frames."""
    (folder / BASE / "thumbnails").mkdir()
    (folder / BASE / "thumbnails" / "1.jpg").write_bytes(jpeg(1))


@CAMERAS.works()
def frames_only_one_allowed(folder: Path) -> None:
    """One base frame only, where no filter asks for more: one row."""
    for path in frames(folder)[1:]:
        path.unlink()


@LINKS.refused(
    "images/cam_base/1700000000210000.jpg: is reached over a symbolic link; a service reads only what "
    "lies in the episode itself: upload the file in its place"
)
def link_frame(folder: Path) -> None:
    """A frame that is a link out of the episode."""
    outside = folder.parent / f"{folder.name}.outside.jpg"
    (folder / BAD).rename(outside)
    (folder / BAD).symlink_to(outside)


@LINKS.refused(
    "images/cam_base/1700000000210000.jpg: is reached over a symbolic link; a service reads only what "
    "lies in the episode itself: upload the file in its place"
)
def link_frame_inside(folder: Path) -> None:
    """A frame that is a link to another frame."""
    (folder / BAD).unlink()
    (folder / BAD).symlink_to(frames(folder)[0].name)


@LINKS.refused(
    "images/cam_side: is reached over a symbolic link; a service reads only what lies in the episode itself: upload the folder in its place"
)
def link_camera(folder: Path) -> None:
    """A camera's folder that is a link out of the episode."""
    outside = folder.parent / f"{folder.name}.outside"
    (folder / SIDE).rename(outside)
    (folder / SIDE).symlink_to(outside)


@LINKS.refused(
    "joints: is reached over a symbolic link; a service reads only what lies in the episode itself: upload the folder in its place"
)
def link_joints(folder: Path) -> None:
    """The joints' folder is a link out of the episode."""
    outside = folder.parent / f"{folder.name}.outside"
    (folder / "joints").rename(outside)
    (folder / "joints").symlink_to(outside)


@LINKS.refused(
    "joints/left_slave.parquet: is reached over a symbolic link; a service reads only what lies in the "
    "episode itself: upload the file in its place"
)
def link_parquet(folder: Path) -> None:
    """A parquet file that is a link out of the episode."""
    (folder / "joints/left_slave.parquet").rename(folder.parent / f"{folder.name}.outside.parquet")
    (folder / "joints/left_slave.parquet").symlink_to(f"../../{folder.name}.outside.parquet")


@LINKS.refused(
    "joints/metadata.json: is reached over a symbolic link; a service reads only what lies in the episode"
    " itself: upload the file in its place"
)
def link_metadata(folder: Path) -> None:
    """A metadata.json that is a link to a file of the host."""
    (folder / "joints/metadata.json").symlink_to("/etc/passwd")


@LINKS.refused(
    "joints: is reached over a symbolic link; a service reads only what lies in the episode itself: upload the folder in its place"
)
def link_episode(folder: Path) -> None:
    """An episode that is itself a link."""
    outside = folder.parent.parent / f"{folder.name}.outside"
    folder.rename(outside)
    folder.symlink_to(outside)


@LINKS.works(is_trusted=True)
def link_frame_on_own_disk(folder: Path) -> None:
    """A frame that is a link, on one's own disk."""
    link_frame(folder)


@LINKS.works(is_trusted=True)
def link_camera_on_own_disk(folder: Path) -> None:
    """A camera's folder that is a link, on one's own disk."""
    link_camera(folder)


@LINKS.refused("images/cam_base/1700000000210000.jpg: is a symbolic link to gone.jpg, which is not there, expected a file", is_trusted=True)
def link_dangling(folder: Path) -> None:
    """A frame that is a link to nothing, on one's own disk."""
    (folder / BAD).unlink()
    (folder / BAD).symlink_to("gone.jpg")


@LINKS.refused("joints/left_slave.parquet: is a symbolic link to gone.parquet, which is not there, expected a file", is_trusted=True)
def link_parquet_dangling(folder: Path) -> None:
    """A parquet file that is a link to nothing, on one's own disk."""
    (folder / "joints/left_slave.parquet").unlink()
    (folder / "joints/left_slave.parquet").symlink_to("gone.parquet")


@LINKS.refused(
    "images/cam_base/1700000000210000.jpg: is a symbolic link to 1700000000210000.jpg that leads back to itself, expected a file",
    is_trusted=True,
)
def link_loop(folder: Path) -> None:
    """A frame that is a link to itself, on one's own disk."""
    (folder / BAD).unlink()
    (folder / BAD).symlink_to(f"{BAD_US}.jpg")


@LINKS.refused("images/cam_side: is a symbolic link to cam_side that leads back to itself, expected a folder", is_trusted=True)
def link_camera_loop(folder: Path) -> None:
    """A camera's folder that is a link to itself, on one's own disk."""
    shutil.rmtree(folder / SIDE)
    (folder / SIDE).symlink_to("cam_side")


@LINKS.refused("images/cam_side: is a symbolic link to gone, which is not there, expected a folder")
def link_camera_dangling(folder: Path) -> None:
    """A camera's folder that is a link to nothing."""
    shutil.rmtree(folder / SIDE)
    (folder / SIDE).symlink_to("gone")


@LINKS.refused("images/cam_base/1700000000210000.jpg: is a pipe, expected a file")
def pipe_frame(folder: Path) -> None:
    """A pipe named like a frame, which nobody ever writes to."""
    (folder / BAD).unlink()
    os.mkfifo(folder / BAD)


@LINKS.refused("joints/left_slave.parquet: is a pipe, expected a file")
def pipe_parquet(folder: Path) -> None:
    """A pipe named like a parquet file."""
    (folder / "joints/left_slave.parquet").unlink()
    os.mkfifo(folder / "joints/left_slave.parquet")


@LINKS.refused("joints/metadata.json: is a pipe, expected a file")
def pipe_metadata(folder: Path) -> None:
    """A pipe named metadata.json."""
    os.mkfifo(folder / "joints/metadata.json")


@LINKS.refused("images/cam_base/1700000000210000.jpg: is a socket, expected a file")
def socket_frame(folder: Path) -> None:
    """A socket named like a frame."""
    (folder / BAD).unlink()
    # The address of a socket has room for a hundred letters: it is made under a short name and moved.
    here = os.open(folder / BASE, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"/proc/self/fd/{here}/s")
    os.close(here)
    (folder / BASE / "s").rename(folder / BAD)


@LINKS.refused("images/cam_base/1700000000210000.jpg: cannot be read: Is a directory, expected a file")
def folder_as_frame(folder: Path) -> None:
    """A folder named like a frame."""
    (folder / BAD).unlink()
    (folder / BAD).mkdir()


@LINKS.refused("joints/left_slave.parquet: cannot be read: Is a directory, expected a file")
def folder_as_parquet(folder: Path) -> None:
    """A folder named like a parquet file."""
    (folder / "joints/left_slave.parquet").unlink()
    (folder / "joints/left_slave.parquet").mkdir()


@LINKS.refused("joints/metadata.json: cannot be read: Is a directory, expected a file")
def folder_as_metadata(folder: Path) -> None:
    """A folder named metadata.json."""
    (folder / "joints/metadata.json").mkdir()
