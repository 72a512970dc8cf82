"""Small synthetic parts: real 64x48 h264 videos and smooth joints, different for every seed."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from shared.lerobot import layout
from shared.lerobot.part import CameraVideo, PartInfo, write_part
from shared.lerobot.stats import ImageStats, sample_indices

HEIGHT, WIDTH = 48, 64


def images(num_frames: int, seed: int = 0) -> list[np.ndarray]:
    """Return RGB images (H, W, 3) whose colours say which frame they are."""
    ramp = np.linspace(0, 120, WIDTH, dtype=np.uint8)[None, :, None].repeat(HEIGHT, axis=0).repeat(3, axis=2)
    return [(ramp + np.array([index * 3 % 130, seed * 17 % 130, 60], dtype=np.uint8)).astype(np.uint8) for index in range(num_frames)]


def write_video(path: Path, frames: list[np.ndarray], *, fps: int = 30, codec: str = "libx264", first: int = 0) -> None:
    """Encode RGB images; ``first`` shifts all presentation times by that many frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options={"crf": "23", "preset": "veryfast"} if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt = frames[0].shape[1], frames[0].shape[0], "yuv420p"
        stream.codec_context.time_base = Fraction(1, fps)
        stream.codec_context.thread_count = 1
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = index + first, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def make_part(
    root: Path,
    *,
    seed: int = 0,
    num_frames: int = 8,
    fps: int = 30,
    cameras: tuple[str, ...] = ("front",),
    task: str = "pick the cube",
    robot_type: str = "bi_so100",
    chunked: bool = False,
    source: str = "lab",
    episode_id: str | None = None,
    digest: str | None = None,
    names: list[str] | None = None,
) -> PartInfo:
    """Write a whole part below ``root``."""
    joints = np.random.default_rng(seed).standard_normal((num_frames, 3)).astype(np.float32)
    action = np.stack([joints + step for step in range(2)], axis=1) if chunked else joints
    columns = {"action": action.astype(np.float32), "observation.state.slave": joints}
    labels = names or ["pan", "lift", "grip"]
    videos = {}
    for number, camera in enumerate(cameras):
        frames = images(num_frames, seed + number)
        write_video(root / layout.video_path(layout.camera_key(camera), 0), frames, fps=fps)
        stats = ImageStats()
        for index in sample_indices(num_frames):
            stats.add(frames[index])
        videos[camera] = CameraVideo(height=HEIGHT, width=WIDTH, codec="h264", pix_fmt="yuv420p", stats=stats.stats())
    manifest = {
        "source": source,
        "episode_id": episode_id or f"ep{seed}",
        "strategy": "nearest",
        "digest": digest or f"sha256:{seed}",
        "more": [seed],
    }
    return write_part(
        root,
        columns=columns,
        names={"action": {"motors": labels} if chunked else labels, "observation.state.slave": labels},
        cameras=videos,
        fps=fps,
        task=task,
        robot_type=robot_type,
        manifest=manifest,
    )


def tree(root: Path) -> dict[str, bytes]:
    """Return every file below ``root`` by relative path, without the state folder of commits."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files if layout.STATE_FOLDER not in path.relative_to(root).parts}
