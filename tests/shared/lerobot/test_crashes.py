"""A commit that is killed at any step is completed or undone by the next."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shared.lerobot.check import check_dataset
from shared.lerobot.commit import commit, recover
from tests.shared.lerobot.parts import make_part, tree

ROOT = Path(__file__).parents[3]


def crashed_datasets(part: Path, template: Path, folder: Path) -> list[Path]:
    command = [sys.executable, "-m", "tests.shared.lerobot.crashes", str(part), str(template), str(folder)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    assert run.returncode == 0, run.stderr
    return sorted(folder.iterdir())


@pytest.fixture
def second_part(tmp_path: Path) -> Path:
    make_part(tmp_path / "second", seed=2, num_frames=5, task="place it")
    return tmp_path / "second"


def test_append_killed_at_any_step_ends_as_before_or_after(tmp_path: Path, second_part: Path) -> None:
    make_part(tmp_path / "first", seed=1)
    template, undisturbed = tmp_path / "template", tmp_path / "undisturbed"
    commit(tmp_path / "first", template)
    commit(tmp_path / "first", undisturbed)
    before = tree(template)
    commit(second_part, undisturbed)
    after = tree(undisturbed)

    places = crashed_datasets(second_part, template, tmp_path / "crashes")

    states = {place.name: state_of(tree(place / "dataset"), before, after) for place in places}
    row = [states[name] for name in sorted(states) if name.startswith("before")]
    assert row.index("between") > 20, "the slow part comes before the row of renames"
    first, last = row.index("between"), len(row) - row[::-1].index("between")
    assert set(row[:first]) == {"before"}
    assert set(row[first:last]) == {"between"}
    assert last - first <= 8, "nothing but the renames lies between the first and the last"
    assert set(row[last:]) == {"after"}
    for place in places:
        recover(place / "dataset")
        recovered = tree(place / "dataset")
        assert recovered in ((before, after) if states[place.name] == "before" else (after,)), place.name
        assert check_dataset(place / "dataset", quick=True).problems == (), place.name
        commit(second_part, place / "dataset")
        assert tree(place / "dataset") == after, place.name


def state_of(found: dict[str, bytes], before: dict[str, bytes], after: dict[str, bytes]) -> str:
    if found == before:
        return "before"
    return "after" if found == after else "between"


def test_creation_killed_at_any_step_leaves_no_half_dataset(tmp_path: Path, second_part: Path) -> None:
    commit(second_part, tmp_path / "undisturbed")
    after = tree(tmp_path / "undisturbed")

    places = crashed_datasets(second_part, tmp_path / "absent", tmp_path / "crashes")

    assert len(places) > 40
    for place in places:
        assert not (place / "dataset").exists() or tree(place / "dataset") == after, place.name
        recover(place / "dataset")
        assert [path.name for path in place.iterdir()] in ([], ["dataset"]), place.name
        commit(second_part, place / "dataset")
        assert tree(place / "dataset") == after, place.name
