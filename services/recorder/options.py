"""What `record` was asked for: LeRobot's flags as structs, from a command line, a YAML file, or both. Pure.

A flag is ``--a.b=value`` or ``--a.b value``. Fields that hold text take the value as it stands (a task may contain a colon);
every other value is read as YAML, as LeRobot's own parser does: ``true``, ``30``, ``{top: {type: opencv, …}}``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, get_args, get_type_hints

import msgspec

from services.recorder.cameras.options import CameraOptions
from services.recorder.robots.models import RobotOptions
from shared import settings
from shared.episode import task_problem
from shared.errors import BadConfig
from shared.events import Name, Strategy

Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
REPO_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}\Z")
COMMAND_LINE = "command line"


class DatasetOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``--dataset.*``: the growing dataset, and how its episodes are recorded.

    Attributes:
        repo_id: ``user/name``.
        single_task: the instruction in words, for every episode of this run.
        root: the dataset's own folder; None: where LeRobot keeps it.
        fps: rows per second.
        episode_time_s: longest time of an episode.
        reset_time_s: time to bring the scene back between two episodes.
        num_episodes: how many the dataset shall have in all.
        resume: go on with a dataset that is there.
        push_to_hub: upload the whole dataset to the Hugging Face Hub at the end.
        private: a repository that is made for it is private.
        tags: of the dataset card.
        strategy: how joints are aligned with frames.
        vcodec: codec of the videos; None: that of the dataset, or of the strategy file, or h264.
        video: False (images inside parquet) is refused.
        video_encoding_batch_size: accepted; episodes are encoded beside the recording.
        num_image_writer_processes: accepted and without a meaning here.
        num_image_writer_threads_per_camera: the same.
    """

    repo_id: str
    single_task: str
    root: str | None = None
    fps: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 30
    episode_time_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 60.0
    reset_time_s: Seconds = 60.0
    num_episodes: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 50
    resume: bool = False
    push_to_hub: bool = False
    private: bool = False
    tags: tuple[str, ...] | None = None
    strategy: Strategy = "nearest"
    vcodec: str | None = None
    video: bool = True
    video_encoding_batch_size: Annotated[int, msgspec.Meta(ge=1)] = 1
    num_image_writer_processes: Annotated[int, msgspec.Meta(ge=0)] = 0
    num_image_writer_threads_per_camera: Annotated[int, msgspec.Meta(ge=1)] = 4


class RecordOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything `record` can be told.

    Attributes:
        robot: the followers.
        teleop: the leaders.
        cameras: by name, ``--robot.cameras``; the first one gives the timeline.
        dataset: what is recorded for.
        display_data: show images and joints in Rerun; a path ``*.rrd`` keeps them in a file instead.
        play_sounds: say what happens; otherwise it is only printed.
        control_rate_hz: how often the followers get the leaders' position, and joints are recorded.
        hold_during_reset: keep an episode back until the reset phase is over, so that it can still be re-recorded then.
        keep_raw: keep raw episodes on this host after they are in the dataset; only with servers of its own.
        source: the name under which episodes are published; None: the only configured one, or that of the embedded stack.
    """

    robot: RobotOptions
    teleop: RobotOptions
    cameras: dict[str, CameraOptions]
    dataset: DatasetOptions
    display_data: bool | str = False
    play_sounds: bool = True
    control_rate_hz: Annotated[float, msgspec.Meta(ge=1, le=1000)] = 200.0
    hold_during_reset: bool = False
    keep_raw: bool = True
    source: Name | None = None

    @property
    def display(self) -> str | None:
        """Where data are displayed: None nowhere, empty in a viewer, else a file or an address."""
        if isinstance(self.display_data, str):
            return self.display_data
        return "" if self.display_data else None

    @property
    def episode_bytes(self) -> int:
        """What the raw files of the longest episode may take."""
        seconds, num_arms = self.dataset.episode_time_s, 4
        images = sum(camera.width * camera.height * camera.fps * _BYTES_PER_PIXEL for camera in self.cameras.values())
        return round(seconds * (images + self.control_rate_hz * num_arms * _BYTES_PER_SAMPLE))


_BYTES_PER_PIXEL = 0.35
"""Of a JPEG with much detail at high quality."""
_BYTES_PER_SAMPLE = 64

CODECS = {"h264": "h264", "hevc": "hevc", "av1": "av1", "libsvtav1": "av1", "libx264": "h264", "libx265": "hevc"}
"""Our codec by what people write; LeRobot names encoders."""

_LISTS = {"dataset.tags"}
_TOP = (
    "robot",
    "teleop",
    "dataset",
    "display_data",
    "play_sounds",
    "control_rate_hz",
    "hold_during_reset",
    "keep_raw",
    "source",
    "resume",
    "policy",
)
_ACCEPTED = {
    "num_image_writer_processes": "images are written by one thread for each camera",
    "num_image_writer_threads_per_camera": "images are written by one thread for each camera",
    "video_encoding_batch_size": "episodes are encoded beside the recording, one by one",
}


def record_options(arguments: Sequence[str], *, file: Mapping[str, Any] | None = None, place: str = "") -> RecordOptions:
    """Return the options of a command line, laid over those of a file.

    Args:
        arguments: flags as they were typed.
        file: the content of the YAML file.
        place: its path, for messages.

    Raises:
        BadConfig: an unknown or missing flag, a wrong value; the sentence names it and what was expected.
    """
    document = settings.merged(file or {}, {})
    for key, text in _flags(arguments):
        # The last flag holds as a whole: cameras that are named anew are not laid over those of the file.
        document = settings.merged(settings.merged(document, {key: None}), {key: _value(key, text)})
    return _decoded(document, place or COMMAND_LINE)


def notices(options: RecordOptions) -> list[str]:
    """Return a sentence for every flag that is accepted and changes nothing."""
    defaults = {field.name: field.default for field in msgspec.structs.fields(DatasetOptions)}
    return [
        f"--dataset.{name} is accepted and changes nothing: {reason}"
        for name, reason in _ACCEPTED.items()
        if getattr(options.dataset, name) != defaults[name]
    ]


def _flags(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield key and text of every flag; a flag without a value means ``true``."""
    rest = list(arguments)
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--") or flag == "--":
            raise BadConfig(COMMAND_LINE, "", f"{flag!r} is no flag, expected --name=value; put a value with spaces in quotes")
        key, equals, text = flag[2:].partition("=")
        if not equals:
            text = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        yield _known(key), text


def _known(key: str) -> str:
    top, _, below = key.partition(".")
    names = _names_below(top)
    if top in _TOP and (not below or not names or below.split(".")[0] in names):
        return key
    known = [*(name for name in _TOP if not _names_below(name)), *(f"{name}.{each}" for name in _TOP for each in _names_below(name))]
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean --{near[0]}?" if near else "; `episodeflow record --help` lists them"
    raise BadConfig(COMMAND_LINE, f"--{key}", f"unknown flag{hint}")


def _names_below(top: str) -> tuple[str, ...]:
    arm_names = RobotOptions.__struct_fields__
    return {"robot": (*arm_names, "cameras"), "teleop": arm_names, "dataset": DatasetOptions.__struct_fields__}.get(top, ())


def _value(key: str, text: str) -> Any:
    if _holds_text(key):
        return text
    try:
        value = msgspec.yaml.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        problem = f"is neither a plain value nor YAML: {' '.join(str(error).split())[:200]} (found {text[:200]!r})"
        raise BadConfig(COMMAND_LINE, f"--{key}", problem) from error
    return value.split(",") if key in _LISTS and isinstance(value, str) else value


def _holds_text(key: str) -> bool:
    """Say whether a flag takes its value as it stands."""
    top, _, below = key.partition(".")
    struct = {"robot": RobotOptions, "teleop": RobotOptions, "dataset": DatasetOptions, "": RecordOptions}.get(top if below else "")
    wanted = get_type_hints(struct).get(below or top) if struct else None
    return wanted is str or set(get_args(wanted)) == {str, type(None)}


def _decoded(document: dict[str, Any], place: str) -> RecordOptions:
    document = _sections(document, place)
    robot = dict(document.get("robot") or {})
    cameras = robot.pop("cameras", None) or {}
    _check_present(document, robot, place)
    for name, camera in cameras.items() if isinstance(cameras, dict) else ():
        # One by one, because the sentence for all of them could not say which.
        settings.decode(camera, CameraOptions, place=f"{place}: --robot.cameras.{name}")
    options = settings.decode({**document, "robot": robot, "cameras": cameras}, RecordOptions, place=place)
    _check(options, place)
    return options


def _sections(document: dict[str, Any], place: str) -> dict[str, Any]:
    """Return the document with LeRobot's own ``--resume`` in its place; refuse what cannot be recorded with."""
    unknown = [key for key in document if key not in _TOP]
    if unknown:
        raise BadConfig(place, unknown[0], f"unknown key, expected one of {', '.join(_TOP)}")
    if document.get("policy"):
        raise BadConfig(place, "policy", "a policy cannot drive the robot here: record with --teleop.type=…")
    dataset = document.get("dataset")
    if not isinstance(dataset, dict):
        raise BadConfig(place, "dataset", "is missing: give --dataset.repo_id=user/name and --dataset.single_task=…")
    resume = document.get("resume", False)
    kept = {key: value for key, value in document.items() if key not in {"resume", "policy"}}
    return {**kept, "dataset": {**dataset, "resume": resume}} if resume else kept


def _check_present(document: Mapping[str, Any], robot: Mapping[str, Any], place: str) -> None:
    task = document["dataset"].get("single_task")
    needed = {
        "robot.type": (robot.get("type"), "name the followers, for example --robot.type=bi_so100_follower"),
        "teleop.type": ((document.get("teleop") or {}).get("type"), "name the leaders, for example --teleop.type=bi_so100_leader"),
        "dataset.repo_id": (document["dataset"].get("repo_id"), "name the dataset: --dataset.repo_id=user/name"),
        "dataset.single_task": (str(task or "").strip(), 'say what is done: --dataset.single_task="Stack blocks."'),
    }
    for key, (value, advice) in needed.items():
        if not value:
            raise BadConfig(place, f"--{key}", f"is missing: {advice}")


def _check(options: RecordOptions, place: str) -> None:
    dataset = options.dataset
    if not REPO_ID.match(dataset.repo_id):
        problem = f"expected user/name of letters, digits, '.', '_' and '-' with exactly one slash (found {dataset.repo_id!r})"
        raise BadConfig(place, "--dataset.repo_id", problem)
    unfit = task_problem(dataset.single_task)
    if unfit:
        raise BadConfig(place, "--dataset.single_task", unfit)
    if dataset.vcodec is not None and dataset.vcodec not in CODECS:
        raise BadConfig(place, "--dataset.vcodec", f"expected one of {', '.join(CODECS)} (found {dataset.vcodec!r})")
    if not dataset.video:
        raise BadConfig(place, "--dataset.video", "false is not supported: datasets hold videos, expected true")
    if not options.cameras:
        example = "{top: {type: opencv, index_or_path: 0, width: 640, height: 480, fps: 30}}"
        raise BadConfig(place, "--robot.cameras", f"is missing: a dataset needs a camera, for example --robot.cameras='{example}'")
    for name in options.cameras:
        if not re.match(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z", name):
            raise BadConfig(place, f"--robot.cameras.{name}", "expected a name of letters, digits, '_' and '-', at most 64")
