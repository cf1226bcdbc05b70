import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.doubles import FakeClock
from trueup.endpoints.limits import LONGEST_WAIT, Pace, SystemClock, backoff, retry_after

NEVER = threading.Event()


@given(failures=st.integers(1, 5000), seed=st.integers(0, 2**32))
def test_waiting_doubles_up_to_a_minute_and_is_spread_over_half_of_it(failures, seed):
    whole = min(LONGEST_WAIT, 2.0 ** min(failures - 1, 100))
    wait = backoff(failures, np.random.default_rng(seed))
    assert whole / 2 <= wait < whole
    assert wait == backoff(failures, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after": "-4"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT", "date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 -0000", "date": "Wed, 21 Oct 2015 07:27:00 GMT"}, 90.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT"}, 0.0),  # long past
    ],
)
def test_what_a_server_asks_for(headers, seconds):
    assert retry_after(headers) == seconds


def test_starts_are_spaced_evenly():
    clock = FakeClock()
    pace = Pace(120, clock)
    starts = []
    for _ in range(5):
        pace.wait(NEVER)
        starts.append(clock.now())
    assert starts == [0, 0.5, 1.0, 1.5, 2.0]
    clock.time = 100.0  # a pause earns no burst
    pace.wait(NEVER)
    pace.wait(NEVER)
    assert clock.now() == 100.5


def test_all_are_held_back():
    clock = FakeClock()
    pace = Pace(None, clock)
    pace.wait(NEVER)
    pace.hold(7)
    pace.hold(2)  # a shorter wish does not shorten a longer one
    pace.wait(NEVER)
    assert clock.now() == 7


def test_threads_share_one_pace():
    starts, lock = [], threading.Lock()
    pace = Pace(60 / 0.02, SystemClock())

    def work():
        for _ in range(4):
            pace.wait(NEVER)
            with lock:
                starts.append(time.monotonic())

    threads = [threading.Thread(target=work) for _ in range(4)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(starts) == 16
    assert max(starts) - begun >= 15 * 0.02


def test_waiting_ends_when_all_is_stopped():
    pace, stop = Pace(0.001, SystemClock()), threading.Event()
    pace.wait(stop)
    threading.Timer(0.05, stop.set).start()
    begun = time.monotonic()
    pace.wait(stop)  # its turn would be in a thousand minutes
    assert time.monotonic() - begun < 5
