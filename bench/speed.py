"""(a) The whole `convert` command against three parallel ffmpeg processes that encode the same JPEGs the same way.

Both turn the same 3 x 1,000 frames into h264 with the same preset, crf and keyframe distance, in turn, several times; the
ratio of each pair is printed, and its median. ffmpeg has one thread per process and nothing else to do; the command also
starts Python, aligns joints, hashes every raw file, takes statistics, writes tables and commits the dataset.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import imageio_ffmpeg
import msgspec
import numpy as np

from bench.raw import make_episode, make_frames, strategy_document
from services.converter.timelines import nearest_indices

NUM_ROWS = 1000
PAIRS = 5
PRESETS = ("medium", "veryfast")


def time_convert(episode_root: Path, work: Path, preset: str) -> float:
    """Run the command on the episode and return its wall seconds."""
    strategy = work / f"{preset}.yaml"
    strategy.write_bytes(msgspec.yaml.encode(strategy_document(preset=preset)))
    output = work / f"out-{time.monotonic_ns()}"
    command = [
        str(Path(sys.executable).with_name("episodeflow")),
        "convert",
        "-c",
        str(strategy),
        "--input",
        str(episode_root),
        "--output",
        str(output),
    ]
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begin


def shown_frames(episode: Path) -> dict[str, list[Path]]:
    """Return for each camera the JPEG of every row: the same frames that the command encodes."""
    times = {camera.name: sorted(camera.iterdir()) for camera in (episode / "images").iterdir()}
    base = np.array([int(path.stem) for path in times["cam_left_wrist"]])
    chosen = {}
    for camera, paths in times.items():
        indices = nearest_indices(np.array([int(path.stem) for path in paths]), base)
        chosen[camera] = [paths[index] for index in indices]
    return chosen


def time_ffmpeg(frames: dict[str, list[Path]], work: Path, preset: str) -> float:
    """Encode every camera by an ffmpeg process of its own, all at once, and return the wall seconds."""
    lists = {}
    for camera, paths in frames.items():
        lists[camera] = work / f"{camera}.txt"
        lists[camera].write_text("".join(f"file '{path}'\nduration 0.04\n" for path in paths))
    begin = time.perf_counter()
    processes = [
        subprocess.Popen(
            [
                *(imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", "-y", "-threads", "1"),
                *("-r", "25", "-f", "concat", "-safe", "0", "-i", str(path), "-r", "25", "-threads", "1", "-filter_threads", "1"),
                *("-c:v", "libx264", "-preset", preset, "-crf", "23", "-g", "25", "-pix_fmt", "yuv420p", str(work / f"{camera}.mp4")),
            ]
        )
        for camera, path in lists.items()
    ]
    if sum(process.wait() for process in processes):
        raise RuntimeError("ffmpeg failed")
    return time.perf_counter() - begin


def main() -> None:
    """Print the wall ratio convert / ffmpeg for each preset."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        episode = make_episode(work / "raw", "episode_0001", make_frames(work / "frames"), num_rows=NUM_ROWS)
        frames = shown_frames(episode)
        for preset in PRESETS:
            time_convert(work / "raw", work, preset)
            pairs = [(time_convert(work / "raw", work, preset), time_ffmpeg(frames, work, preset)) for _ in range(PAIRS)]
            ratios = [ours / theirs for ours, theirs in pairs]
            seconds = ", ".join(f"{ours:.2f}/{theirs:.2f}" for ours, theirs in pairs)
            print(
                f"speed {preset}: convert / 3 x ffmpeg, wall, median of {PAIRS} pairs: {statistics.median(ratios):.2f} "
                f"(min {min(ratios):.2f}, max {max(ratios):.2f}; seconds {seconds}; wanted at most 1.10)",
                flush=True,
            )


if __name__ == "__main__":
    main()
