"""Runs a script of this folder by the python of a LeRobot environment."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def output_of(python: Path, script: str, *arguments: str, **environment: str) -> Any:
    """Return the JSON in the last line the script prints; a failure shows its end."""
    command = [str(python), str(HERE / script), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=110, env={**os.environ, **environment})
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])
