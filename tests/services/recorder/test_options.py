"""LeRobot's flags, from a command line, a file, or both; every wrong one with its sentence."""

from __future__ import annotations

import pytest

from services.recorder.options import notices, record_options
from shared.episode import MAX_TASK_LETTERS
from shared.errors import EpisodeflowError
from tests.services.recorder.arrangements import arguments, options


def test_the_command_line_of_lerobot_is_understood() -> None:
    found = options(display_data="true", dataset__num_episodes="25", dataset__episode_time_s="120", dataset__resume="true")

    assert found.robot.type == "bi_so100_follower"
    assert found.teleop.right_arm_port == "/dev/ttyr"
    assert list(found.cameras) == ["left", "front"]
    assert (found.cameras["front"].width, found.cameras["front"].fps) == (320, 25)
    assert found.cameras["left"].index_or_path == "sim://left"
    assert (found.dataset.num_episodes, found.dataset.episode_time_s, found.dataset.resume) == (25, 120.0, True)
    assert found.display == ""


def test_defaults_are_those_of_lerobot() -> None:
    found = options().dataset

    assert (found.fps, found.episode_time_s, found.reset_time_s, found.num_episodes, found.resume) == (30, 60.0, 60.0, 50, False)


def test_a_text_is_taken_as_it_stands() -> None:
    found = options(dataset__single_task="Step 1: put {red} #2 in, then yes", robot__id="007")

    assert found.dataset.single_task == "Step 1: put {red} #2 in, then yes"
    assert found.robot.id == "007"


def test_a_task_may_be_as_long_as_the_converter_takes_it() -> None:
    assert len(options(dataset__single_task="x" * MAX_TASK_LETTERS).dataset.single_task) == 4096


def test_a_flag_may_be_followed_by_its_value_or_by_nothing() -> None:
    found = record_options([*arguments(), "--dataset.fps", "60", "--dataset.resume", "--play_sounds", "false"])

    assert (found.dataset.fps, found.dataset.resume, found.play_sounds) == (60, True, False)


def test_lerobots_own_resume_means_the_datasets() -> None:
    assert record_options([*arguments(), "--resume=true"]).dataset.resume


def test_flags_lie_over_a_file() -> None:
    file = {"robot": {"type": "so100_follower", "port": "/dev/ttyF"}, "dataset": {"fps": 15, "single_task": "Fold."}, "play_sounds": False}
    found = record_options(arguments(robot__left_arm_port=None, robot__right_arm_port=None, dataset__single_task=None), file=file)

    assert found.robot.port == "/dev/ttyF"
    assert found.robot.type == "bi_so100_follower"
    assert (found.dataset.fps, found.dataset.single_task, found.play_sounds) == (15, "Fold.", False)


def test_one_key_of_a_camera_can_be_changed() -> None:
    assert record_options([*arguments(), "--robot.cameras.left.fps=60"]).cameras["left"].fps == 60


def test_cameras_that_are_named_anew_replace_all_others() -> None:
    again = "{ top: {type: opencv, index_or_path: 0, width: 640, height: 480, fps: 30} }"

    assert list(record_options([*arguments(), f"--robot.cameras={again}"]).cameras) == ["top"]


def test_a_flag_that_changes_nothing_gets_a_notice() -> None:
    (notice,) = notices(options(dataset__num_image_writer_processes="2"))

    assert (
        notice == "--dataset.num_image_writer_processes is accepted and changes nothing: images are written by one thread for each camera"
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dataset.repo_id": "blocks"}, "command line: --dataset.repo_id: expected user/name of letters"),
        ({"dataset.repo_id": "a/b/c"}, "with exactly one slash (found 'a/b/c')"),
        ({"dataset.repo_id": None}, "--dataset.repo_id: is missing: name the dataset"),
        ({"dataset.single_task": None}, "--dataset.single_task: is missing: say what is done"),
        ({"dataset.single_task": "  \n"}, "--dataset.single_task: is missing: say what is done"),
        ({"dataset.single_task": "x" * 4097}, "--dataset.single_task: has 4097 characters, expected an instruction of at most 4096"),
        ({"dataset.single_task": "Stack\x00."}, "--dataset.single_task: has the character '\\x00' at position 5"),
        ({"dataset.single_task": "  "}, "--dataset.single_task: is missing: say what is done"),
        ({"robot.type": None}, "--robot.type: is missing"),
        ({"teleop.type": None}, "--teleop.type: is missing"),
        ({"robot.cameras": None}, "--robot.cameras: is missing: a dataset needs a camera"),
        (
            {"robot.cameras": "{ left: {type: intelrealsense, index_or_path: 1, width: 2, height: 2, fps: 1} }"},
            "--robot.cameras.left: camera type",
        ),
        ({"robot.cameras": "{ left: {type: opencv"}, "command line: --robot.cameras: is neither a plain value nor YAML"),
        ({"robot.cameras": "{ left/2: {type: opencv, index_or_path: 1, width: 2, height: 2, fps: 1} }"}, "expected a name of letters"),
        ({"dataset.fps": "0"}, "command line: dataset.fps: expected `int` >= 1 (found 0)"),
        ({"dataset.fps": "fast"}, "command line: dataset.fps: expected `int`, got `str` (found 'fast')"),
        ({"dataset.video": "false"}, "--dataset.video: false is not supported"),
        ({"dataset.vcodec": "mpeg2"}, "--dataset.vcodec: expected one of h264"),
        ({"dataset.num_episode": "3"}, "--dataset.num_episode: unknown flag; did you mean --dataset.num_episodes?"),
        ({"policy.path": "x/y"}, "policy: a policy cannot drive the robot here"),
    ],
)
def test_a_wrong_flag_is_refused_with_its_name_and_what_was_expected(changes: dict[str, str | None], sentence: str) -> None:
    with pytest.raises(EpisodeflowError) as caught:
        record_options(arguments(**changes))

    assert sentence in str(caught.value)


def test_what_is_no_flag_is_refused() -> None:
    with pytest.raises(EpisodeflowError, match="'blocks' is no flag, expected --name=value"):
        record_options(["blocks"])


def test_an_unknown_key_of_a_file_is_refused() -> None:
    with pytest.raises(EpisodeflowError, match=r"record.yaml: robots: unknown key, expected one of robot, teleop"):
        record_options([], file={"robots": {}}, place="record.yaml")
