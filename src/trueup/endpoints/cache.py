"""Answers kept on disk, so that nothing is asked, or paid for, twice."""

import json
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import uuid4

from trueup.errors import OutputError
from trueup.files import output_errors

T = TypeVar("T")
logger = logging.getLogger(__name__)

FILE = "answers.sqlite3"
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_AT_ONCE = 500


def answer_key(url: str, body: str) -> str:
    """Name of an answer: a digest of what was asked of whom. Credentials have no part in it."""
    return sha256(f"{url}\n{body}".encode()).hexdigest()


class AnswerCache:
    """A file of answers by key; open it with `with`. Threads and processes may share one.

    A damaged file is moved aside with a warning and begun anew.

    Args:
        folder: Where the file lies; made if missing.

    Raises:
        OutputError: The file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._lock = threading.Lock()
        self._file: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        with output_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self._guarded(lambda file: None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._close()

    def find(self, keys: Iterable[str]) -> dict[str, Any]:
        """Answers to those of the keys that have one."""
        wanted = list(dict.fromkeys(keys))
        found: dict[str, Any] = {}
        for start in range(0, len(wanted), _AT_ONCE):
            part = wanted[start : start + _AT_ONCE]
            query = f"SELECT key, answer FROM answers WHERE key IN ({','.join('?' * len(part))})"
            for key, text in self._guarded(partial(_rows, query=query, values=part)):
                try:
                    found[key] = json.loads(text)
                except ValueError:  # a damaged row is asked for again and then replaced
                    logger.warning("%s: one kept answer is damaged and will be asked for again", self.path)
        return found

    def put(self, key: str, answer: Any) -> None:
        """Keep an answer."""
        row = (key, json.dumps(answer))
        self._guarded(lambda file: file.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", row))

    def _guarded(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do something with the file; where it is damaged, once more with a new one."""
        with self._lock:
            try:
                try:
                    return work(self._connection())
                except sqlite3.DatabaseError as error:
                    if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
                        raise
                    self._move_aside(error)
                    return work(self._connection())
            except sqlite3.Error as error:
                raise OutputError(
                    f"{self.path}: cannot be used ({error}); name another cache_folder, or set cache to false"
                ) from error

    def _connection(self) -> sqlite3.Connection:
        if self._file is None:
            # autocommit: each answer is kept as soon as it arrives
            self._file = sqlite3.connect(self.path, timeout=60, isolation_level=None, check_same_thread=False)
            self._opened = _identity(self.path)
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = NORMAL")
            self._file.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT) WITHOUT ROWID")
        return self._file

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _move_aside(self, error: sqlite3.DatabaseError) -> None:
        self._close()
        if _identity(self.path) != self._opened:
            return  # another process has done it
        aside = self.path.with_name(f"damaged-{uuid4().hex[:8]}-{FILE}")
        with output_errors(self.path):
            for ending in ("-wal", "-shm", ""):
                part = Path(f"{self.path}{ending}")
                if part.exists():
                    part.replace(f"{aside}{ending}")
        logger.warning("%s: damaged (%s); moved to %s, answers are asked for anew", self.path, error, aside.name)


def _rows(file: sqlite3.Connection, *, query: str, values: Sequence[str]) -> list[tuple[str, str]]:
    return file.execute(query, values).fetchall()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
