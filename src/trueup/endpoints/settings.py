"""How a server is reached, and settings read from a file or from the query of an address."""

import dataclasses
import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import httpx2
import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from trueup.errors import RecipeError, TrueupError

T = TypeVar("T")

FILE_ENDINGS = (".yaml", ".yml", ".json")


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """How a server is reached.

    Args:
        url: Address that requests are posted to.
        api_key_env: Environment variable that holds the API key, sent as a bearer token; the key itself is never
            written or logged.
        timeout_seconds: How long one answer may take.
        attempts: How often a request is tried before the run stops.
        requests_per_minute: Rate limit; none by default.
        concurrent: Requests under way at a time.
        cache: Whether answers are kept, and taken from earlier runs.
        cache_folder: Where they are kept; the user's cache folder by default.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    url: str
    api_key_env: str | None = None
    timeout_seconds: float = 120.0
    attempts: int = 6
    requests_per_minute: float | None = None
    concurrent: int = 8
    cache: bool = True
    cache_folder: Path | None = None

    def __post_init__(self) -> None:
        _check_url(self.url)
        if self.cache_folder is not None:
            object.__setattr__(self, "cache_folder", at_home(self.cache_folder))
        for name in ("timeout_seconds", "requests_per_minute"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise RecipeError(f"{name} must be positive, got {value}")
        for name in ("attempts", "concurrent"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def address(self) -> str:
        """The address without its query, which may hold what nobody should read."""
        return str(httpx2.URL(self.url).copy_with(query=None, fragment=None))

    @property
    def host(self) -> str:
        """Host and port, as a short name."""
        return httpx2.URL(self.url).netloc.decode()

    def api_key(self) -> str | None:
        """The key from the environment.

        Raises:
            RecipeError: The variable is not set, or holds what cannot be sent.
        """
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise RecipeError(f"api_key_env: the environment variable {self.api_key_env} is not set; export the key")
        if not (key.isascii() and key.isprintable()):
            raise RecipeError(f"api_key_env: {self.api_key_env} holds characters that no API key has; copy it again")
        return key


def _check_url(url: str) -> None:
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError) as error:
        raise RecipeError(f"url: {url!r} is no address ({error})") from error
    if parsed.userinfo:
        raise RecipeError("url: holds a user name or password; export the key and name its variable in api_key_env")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise RecipeError(f"url: {url!r} is no address; expected http://HOST... or https://HOST...")


def build(cls: type[T], values: Mapping[str, Any], *, place: str) -> T:
    """Build settings from plain values.

    Args:
        cls: The dataclass of settings.
        values: Its fields.
        place: Where they come from, for messages.

    Raises:
        RecipeError: A field is unknown, missing or of the wrong type.
    """
    known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise RecipeError(f"{place}: unknown field `{key}`; {did_you_mean(str(key), known)}")
    try:
        return TypeAdapter(cls).validate_python(dict(values))
    except ValidationError as error:
        raise RecipeError(f"{place}: " + "; ".join(_explain(detail) for detail in error.errors()[:5])) from error


def _explain(detail: Mapping[str, Any]) -> str:
    field = ".".join(str(part) for part in detail["loc"])
    if detail["type"] in ("missing", "missing_argument"):
        return f"field `{field}` is missing"
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, TrueupError):
        return str(cause)
    return f"field `{field}`: {str(detail['msg']).lower()}, got {detail['input']!r:.80}"


def did_you_mean(word: str, known: list[str]) -> str:
    """The nearest known word, or all of them."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean `{close[0]}`?" if close else f"known: {', '.join(known)}"


def at_home(path: Path) -> Path:
    """A path with `~` written out.

    Raises:
        RecipeError: It names nobody's home.
    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise RecipeError(f"{path}: names no known user's home") from error


def split_label(name: str) -> tuple[str, str]:
    """Label and place of `LABEL=PLACE`; paths, addresses and settings after `?` may hold `=` themselves."""
    label, equals, place = name.partition("=")
    if not equals or "?" in label or "://" in label or os.path.exists(name):
        return "", name
    return label, place


def is_settings_file(place: str) -> bool:
    """Whether a name is that of a file of settings, there or not."""
    return place.endswith(FILE_ENDINGS)


def read_settings(path: Path) -> dict[str, Any]:
    """Read a YAML or JSON file of settings.

    Raises:
        RecipeError: It cannot be read, or holds no fields.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark is not None else ""
        reason = getattr(error, "strerror", None) or getattr(error, "problem", None) or "it is no YAML"
        raise RecipeError(f"{path}{where}: settings cannot be read ({reason})") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: holds no settings; expected fields, such as `url: http://localhost:8000`")
    return values


def read_address(text: str) -> dict[str, Any]:
    """Settings written as an address with a query: `http://localhost:8000?model=NAME` gives `url` and `model`.

    Raises:
        RecipeError: It is no address, or names a setting twice.
    """
    _check_url(text)
    url = httpx2.URL(text)
    pairs = url.params.multi_items()
    twice = next((key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number])), None)
    if twice is not None or "url" in url.params:
        raise RecipeError(f"{url.copy_with(query=None)}: `{twice or 'url'}` is given twice")
    return {"url": str(url.copy_with(query=None)), **dict(pairs)}
