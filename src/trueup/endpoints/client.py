"""Posts JSON to a server, many requests at a time, each asked once and for all."""

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2
import numpy as np
from tqdm import tqdm

from trueup.endpoints.cache import AnswerCache, answer_key
from trueup.endpoints.failure import EndpointError
from trueup.endpoints.limits import LONGEST_HOLD, Clock, Pace, SystemClock, backoff, retry_after
from trueup.endpoints.settings import Endpoint
from trueup.errors import RecipeError
from trueup.files import cache_folder

T = TypeVar("T")
Read = Callable[[Any, int], T]
"""Reads one answer, given the number of its request; raises `EndpointError` where it cannot be used."""

logger = logging.getLogger(__name__)

_CURES = {
    401: "check the API key and api_key_env",
    403: "check the API key and api_key_env",
    404: "check the url: is the path right, and is the model served?",
    429: "set requests_per_minute, or a lower concurrent, or run again later",
}
_QUOTED = 300


class Client:
    """A server behind retries, a rate limit and a cache.

    Connection errors, timeouts and the statuses 408, 409, 429 and 5xx are tried again with exponential backoff;
    `Retry-After` is obeyed by all threads. An answer is kept as soon as it has been read without an error.

    Args:
        endpoint: How the server is reached.
        transport: Replaces the network, for tests.
        clock: Replaces the computer's clock, for tests.
    """

    def __init__(
        self, endpoint: Endpoint, *, transport: httpx2.BaseTransport | None = None, clock: Clock | None = None
    ) -> None:
        self.endpoint = endpoint
        self._transport = transport
        self._clock = clock or SystemClock()
        self._pace = Pace(endpoint.requests_per_minute, self._clock)

    def ask(
        self, payloads: Sequence[Mapping[str, Any]], *, read: Read[T], description: str = "ask", progress: bool = False
    ) -> list[T]:
        """Post each payload and read its answer; results come in the order of the payloads.

        Equal payloads are asked once. When one request fails for good no other is begun, and those under way are
        waited for, so that their answers are kept.

        Raises:
            EndpointError: A request failed for good, or `read` could not use its answer.
            RecipeError: The API key is not set, or a payload is no JSON.
            OutputError: The cache cannot be written.
        """
        bodies = [self._body(payload) for payload in payloads]
        keys = [answer_key(self.endpoint.url, body) for body in bodies]
        first = {key: number for number, key in reversed(list(enumerate(keys)))}
        with ExitStack() as stack:
            cache = stack.enter_context(self._cache()) if self.endpoint.cache else None
            found = self._read_kept(cache.find(keys) if cache else {}, read, first)
            todo = [key for key in dict.fromkeys(keys) if key not in found]
            bar = stack.enter_context(tqdm(total=len(first), desc=description, disable=not progress, leave=False))
            bar.update(len(found))
            for key, value in self._answers([(key, bodies[first[key]], first[key]) for key in todo], cache, read):
                found[key] = value
                bar.update()
        return [found[key] for key in keys]

    def _cache(self) -> AnswerCache:
        return AnswerCache(self.endpoint.cache_folder or cache_folder() / "endpoints")

    def _body(self, payload: Mapping[str, Any]) -> str:
        try:
            return json.dumps(payload, sort_keys=True, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise RecipeError(f"{self.endpoint.address}: a request cannot be written as JSON ({error})") from error

    def _read_kept(self, kept: Mapping[str, Any], read: Read[T], first: Mapping[str, int]) -> dict[str, T]:
        found = {}
        for key, answer in kept.items():
            try:
                found[key] = read(answer, first[key])
            except EndpointError as error:
                logger.warning("a kept answer cannot be used and is asked for again: %s", error)
        return found

    def _answers(
        self, todo: Sequence[tuple[str, str, int]], cache: AnswerCache | None, read: Read[T]
    ) -> Iterator[tuple[str, T]]:
        """Ask for what is not known yet; yields as answers arrive."""
        if not todo:
            return
        with self._session(cache) as session, ThreadPoolExecutor(min(self.endpoint.concurrent, len(todo))) as workers:
            futures = {workers.submit(session.answer, key, body, number, read): key for key, body, number in todo}
            try:
                for future in as_completed(futures):
                    if isinstance(future.exception(), _StoppedError):
                        continue  # what stopped it is still to come
                    yield futures[future], future.result()
            except EndpointError as error:
                workers.shutdown(cancel_futures=True)
                done = sum(not future.cancelled() and future.exception() is None for future in futures)
                raise error.with_progress(done, len(todo), kept=cache is not None) from error.__cause__
            finally:
                session.stop.set()
                workers.shutdown(cancel_futures=True)

    @contextmanager
    def _session(self, cache: AnswerCache | None) -> Iterator["_Session"]:
        key = self.endpoint.api_key()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        with httpx2.Client(
            headers=headers,
            timeout=self.endpoint.timeout_seconds,
            transport=self._transport,
            limits=httpx2.Limits(max_connections=self.endpoint.concurrent),
        ) as http:
            yield _Session(
                endpoint=self.endpoint, http=http, cache=cache, pace=self._pace, clock=self._clock, secret=key
            )


class _StoppedError(Exception):
    """Another request failed for good."""


@dataclass
class _Session:
    """One call's connections, and the flag by which its threads stop each other."""

    endpoint: Endpoint
    http: httpx2.Client
    cache: AnswerCache | None
    pace: Pace
    clock: Clock
    secret: str | None

    def __post_init__(self) -> None:
        self.stop = threading.Event()

    def answer(self, key: str, body: str, number: int, read: Read[T]) -> T:
        """Ask until there is an answer; a failure stops the other threads at once."""
        try:
            return self._ask(key, body, number, read)
        except BaseException:
            self.stop.set()
            raise

    def _ask(self, key: str, body: str, number: int, read: Read[T]) -> T:
        rng = np.random.default_rng(int(key[:16], 16))
        for attempt in range(1, self.endpoint.attempts + 1):
            self.pace.wait(self.stop)
            if self.stop.is_set():
                raise _StoppedError
            try:
                response = self.http.post(self.endpoint.url, content=body.encode())
            except httpx2.RequestError as error:
                reason = str(error).strip() or type(error).__name__
                cure = "check that the server runs and that the url is right, or raise timeout_seconds"
                failure = self._failure(f"no answer ({reason})", attempt, cure=cure)
                hold = None
            else:
                if response.is_success:
                    value = self._read(response, number, read)
                    if self.cache:
                        self.cache.put(key, value[0])
                    return value[1]
                failure, hold = self._refusal(response, attempt)
            if attempt < self.endpoint.attempts:
                self._wait_before_another(failure, hold, backoff(attempt, rng))
        raise failure

    def _read(self, response: httpx2.Response, number: int, read: Read[T]) -> tuple[Any, T]:
        try:
            answer = json.loads(response.content)
        except (ValueError, RecursionError) as error:
            found = f"the answer is no JSON: {self._quote(response)}"
            raise self._failure(found, 1, status=response.status_code, cure="check the url") from error
        return answer, read(answer, number)

    def _refusal(self, response: httpx2.Response, attempt: int) -> tuple[EndpointError, float | None]:
        """What an answer without success means, and how long the server wants to be left alone."""
        status = response.status_code
        again = status in (408, 409, 429) or status >= 500
        cure = _CURES.get(status, "look at the server's log, or run again later" if again else None)
        if response.is_redirect:
            cure = f"it points to {response.headers.get('location')}; use that address if it is right"
        failure = self._failure(f"status {status}: {self._quote(response)}", attempt, status=status, cure=cure)
        if not again:
            raise failure
        return failure, retry_after(response.headers)

    def _wait_before_another(self, failure: EndpointError, hold: float | None, delay: float) -> None:
        if hold is not None and hold > LONGEST_HOLD:
            raise EndpointError(
                f"{failure.found} (asks to wait {hold:.0f} seconds)",
                url=failure.url,
                attempts=failure.attempts,
                status=failure.status,
                cure="run again then",
            )
        if hold is not None:
            self.pace.hold(hold)
        logger.info("%s; trying again in %.1f seconds", failure.found, max(delay, hold or 0.0))
        self.clock.sleep(max(delay, hold or 0.0), self.stop)

    def _failure(
        self, found: str, attempt: int, *, status: int | None = None, cure: str | None = None
    ) -> EndpointError:
        return EndpointError(found, url=self.endpoint.address, attempts=attempt, status=status, cure=cure)

    def _quote(self, response: httpx2.Response) -> str:
        """The beginning of an answer, on one line; never the key, which some servers repeat."""
        text = " ".join(response.text.split())
        if self.secret:
            text = text.replace(self.secret, "***")
        return repr(text if len(text) <= _QUOTED else text[:_QUOTED] + "...")
