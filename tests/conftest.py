"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("trueup", deadline=None, print_blob=True)
settings.load_profile("trueup")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data sets that lies beside the repository; absent elsewhere, required in CI."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        reason = f"the real data sets are not at {folder}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder
