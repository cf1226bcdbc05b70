"""One audit and its page for all tests of the report."""

from typing import Any

import pytest

from trueup.report.page import render
from trueup.report.reward_audit import audit_page

from .page_reading import Reading, read
from .sample_of_audit import sample_audit


@pytest.fixture(scope="session")
def audit() -> dict[str, Any]:
    return sample_audit()


@pytest.fixture(scope="session")
def html(audit: dict[str, Any]) -> str:
    return render(audit_page(audit))


@pytest.fixture(scope="session")
def reading(html: str) -> Reading:
    return read(html)
