"""How fast requests may follow one another, and how long to wait after a failure."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol

import numpy as np


class Clock(Protocol):
    """Time, in seconds; tests bring their own."""

    def now(self) -> float:
        """Seconds since some fixed moment."""
        ...

    def sleep(self, seconds: float, stop: threading.Event) -> None:
        """Wait, but not beyond `stop`."""
        ...


@dataclass(frozen=True)
class SystemClock:
    """The computer's clock."""

    def now(self) -> float:
        """Seconds, never running backwards."""
        return time.monotonic()

    def sleep(self, seconds: float, stop: threading.Event) -> None:
        """Wait, but not beyond `stop`."""
        stop.wait(seconds)


class Pace:
    """Spaces the starts of requests evenly over all threads, and holds all of them back when a server asks for it.

    Args:
        per_minute: Requests per minute; None sets no limit.
        clock: What time is read from.
    """

    def __init__(self, per_minute: float | None, clock: Clock) -> None:
        self._gap = 60 / per_minute if per_minute else 0.0
        self._clock = clock
        self._next = -np.inf
        self._lock = threading.Lock()

    def wait(self, stop: threading.Event) -> None:
        """Wait for this thread's turn."""
        while not stop.is_set():
            with self._lock:
                delay = self._next - self._clock.now()
                if delay <= 0:
                    self._next = self._clock.now() + self._gap
                    return
            self._clock.sleep(delay, stop)

    def hold(self, seconds: float) -> None:
        """Let no request start for so long."""
        with self._lock:
            self._next = max(self._next, self._clock.now() + seconds)


LONGEST_WAIT = 60.0
"""Seconds between two attempts, at most, where the server does not ask for more."""

LONGEST_HOLD = 600.0
"""A server that asks to be left alone for more seconds than this is taken to have refused."""


def backoff(failures: int, rng: np.random.Generator) -> float:
    """Seconds to wait after so many failures: `u 2^(failures - 1)` with `u` uniform in [0.5, 1), at most a minute.

    Args:
        failures: How often the request failed, from 1.
        rng: Spreads requests that failed together.
    """
    return float(min(LONGEST_WAIT, 2.0 ** min(failures - 1, 30)) * rng.uniform(0.5, 1.0))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to be left alone for; None if it does not say.

    A moment is read against the server's own `Date`, so that clocks need not agree.
    """
    stated = headers.get("retry-after", "").strip()
    try:
        seconds = float(stated)
    except ValueError:
        until = _moment(stated)
        if until is None:
            return None
        seconds = (until - (_moment(headers.get("date", "")) or datetime.now(UTC))).total_seconds()
    return max(seconds, 0.0) if np.isfinite(seconds) else None


def _moment(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
