"""What a module's worker leaves, run by one process and by two; a module names its worker as `WORKER`."""

import json
import sys
from pathlib import Path

import pytest

from two_processes import run_in_two

# workers are scripts, which import one another by their file's name
sys.path.insert(0, str(Path(__file__).resolve().parent))


@pytest.fixture(scope="module")
def alone(request, tmp_path_factory):
    """Folder of the run in this process."""
    folder = tmp_path_factory.mktemp("alone")
    request.module.WORKER.run(folder)
    return folder


@pytest.fixture(scope="module")
def together(request, tmp_path_factory):
    """Folder of the run in two processes."""
    return run_in_two(Path(request.module.WORKER.__file__), tmp_path_factory.mktemp("together"))


@pytest.fixture(scope="module")
def told(alone, together):
    """`found-RANK.json` of the run in this process, and of the first and the second of two."""
    places = ((alone, 0), (together, 0), (together, 1))
    return [json.loads((folder / f"found-{rank}.json").read_text()) for folder, rank in places]
