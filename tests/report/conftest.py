"""One audit and its page for all tests of the report."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from reading import Reading, read
from sample import sample_audit

from trueup.report.page import render
from trueup.report.reward_audit import audit_page


@pytest.fixture(scope="session")
def audit() -> dict[str, Any]:
    return sample_audit()


@pytest.fixture(scope="session")
def html(audit: dict[str, Any]) -> str:
    return render(audit_page(audit))


@pytest.fixture(scope="session")
def reading(html: str) -> Reading:
    return read(html)
