"""Recipes on paper: typed dataclasses to YAML and back, with dotted overrides from the command line.

Fields that choose one of several methods are written `{name: bsr, coefficient: 0.01}`; a bare name takes the method's
defaults. pydantic checks types; this file adds only what it lacks: dotted flags and messages for people.
"""

import dataclasses
import difflib
import inspect
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_origin

import yaml
from pydantic import BeforeValidator, ConfigDict, PlainSerializer, TypeAdapter, ValidationError

from trueup.errors import RecipeError, TrueupError

T = TypeVar("T")


class Recipe:
    """Base of recipe dataclasses: unknown fields are errors."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


def choice(table: Mapping[str, type[Any]], *, default: str) -> Any:
    """Type of a field that holds one of a table's classes, by name; settings without a name are the default's."""

    def build(value: Any) -> Any:
        if value is None or type(value) in table.values():
            return value
        settings = {"name": value} if isinstance(value, str) else dict(value) if isinstance(value, Mapping) else None
        if settings is None:
            raise ValueError(f"expected a name or {{name: ..., ...}}, one of {', '.join(table)}; got {value!r}")
        name = settings.pop("name", default)
        if name in (None, "none"):
            return None
        if not isinstance(name, str) or name not in table:
            raise ValueError(f"unknown name {name!r}; {_did_you_mean(str(name), table)}")
        cls = table[name]
        known = {field.name for field in dataclasses.fields(cls)}
        for key in settings:
            if not isinstance(key, str) or key not in known:
                raise ValueError(f"{name} has no setting {key!r}; {_did_you_mean(str(key), known)}")
        return TypeAdapter(cls).validate_python(settings)

    def dump(value: Any) -> Any:
        if value is None:
            return None
        name = next(name for name, cls in table.items() if type(value) is cls)
        return {"name": name, **dataclasses.asdict(value)}

    return Annotated[Any, BeforeValidator(build), PlainSerializer(dump), Choice(table)]


@dataclasses.dataclass(frozen=True)
class Choice:
    """Marks a field as a choice from a table, for the help text."""

    table: Mapping[str, type[Any]]


MAX_SEED = 2**32 - 1
"""The largest seed that every generator takes."""


def check_range(recipe: Any, *names: str, low: float, high: float = math.inf) -> None:
    """Check that fields, where they are given, lie in `[low, high]`.

    Raises:
        RecipeError: One does not; NaN never does.
    """
    for name in names:
        value = getattr(recipe, name)
        if value is not None and not low <= value <= high:
            bounds = f"at least {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"
            raise RecipeError(f"{name} must be {bounds}, got {value}")


def load(cls: type[T], *, config: Path | None = None, overrides: Sequence[str] = ()) -> T:
    """Build a recipe from a YAML file and command-line words such as `--data.max_length 512`.

    Raises:
        RecipeError: A field is unknown, missing or of the wrong type.
    """
    values = read_yaml(config) if config is not None else {}
    for path, value in _gathered(parse_overrides(overrides, cls), cls):
        _put(values, path, value)
    try:
        return _at_home(TypeAdapter(cls).validate_python(values))
    except ValidationError as error:
        place = f"{config}: " if config is not None else ""
        raise RecipeError(place + "; ".join(_explain(cls, detail) for detail in error.errors()[:5])) from error


def _at_home(recipe: Any) -> Any:
    """The recipe with `~` written out in all its paths."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        if isinstance(value, Recipe):
            changes[field.name] = _at_home(value)
        elif isinstance(value, Path):
            try:
                changes[field.name] = value.expanduser()
            except RuntimeError as error:
                raise RecipeError(f"field `{field.name}`: {value} names no known user's home") from error
    return dataclasses.replace(recipe, **changes)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a recipe file."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8'})") from error
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{path}: holds a value that cannot be read ({error})") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark is not None else ""
        raise RecipeError(
            f"{path}{where}: not valid YAML ({getattr(error, 'problem', None) or 'cannot parse'})"
        ) from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: holds a {type(values).__name__}; expected fields, such as `model: NAME`")
    return values


def dump(recipe: Any) -> str:
    """The complete recipe as YAML; loading it gives the recipe back."""
    values = TypeAdapter(type(recipe)).dump_python(recipe, mode="json")
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def parse_overrides(words: Sequence[str], cls: type[Any]) -> Iterator[tuple[list[str], Any]]:
    """Turn `--a.b 1`, `--a.b=1` and `--flag` into paths and values."""
    position = 0
    while position < len(words):
        word = words[position]
        if not word.startswith("--"):
            raise RecipeError(f"unexpected word {word!r}; fields are written --name value")
        name, equals, text = word[2:].partition("=")
        position += 1
        if not equals:
            following = words[position] if position < len(words) else None
            is_value = following is not None and not re.match(r"--[a-z]", following)
            text = str(following) if is_value else "true"
            position += int(is_value)
        path = name.replace("-", "_").split(".")
        known = {field.name for field in dataclasses.fields(cls)}
        if path[0] not in known:
            raise RecipeError(f"unknown field `--{name}`; {_did_you_mean(path[0], known)}")
        yield path, _value(text)


def _gathered(overrides: Iterator[tuple[list[str], Any]], cls: type[Any]) -> Iterator[tuple[list[str], Any]]:
    """Values of a list given one by one, `--proxy A --proxy B`, together; of anything else the last one counts."""
    lists = {name for name, hint in _hints(cls) if re.search(r"\b(list|tuple|Sequence)\[", str(hint))}
    seen: dict[str, list[Any]] = {}
    for path, value in overrides:
        name = ".".join(path)
        if name in lists:
            seen.setdefault(name, []).extend(value if isinstance(value, list) else [value])
            value = seen[name] if len(seen[name]) > 1 else value
        yield path, value


def _hints(cls: type[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(cls):
        inner = _nested(field.type)
        yield from _hints(inner, f"{prefix}{field.name}.") if inner else [(prefix + field.name, field.type)]


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # 2024-99-99 and 0x_ are no value of their YAML type
        return text


def _put(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for key in path[:-1]:
        inner = values.get(key)
        # `--regularizer bsr --regularizer.coefficient 0.01`: the name becomes one setting among others
        values[key] = inner if isinstance(inner, dict) else {"name": inner} if isinstance(inner, str) else {}
        values = values[key]
    last = values.get(path[-1])
    if isinstance(last, dict) and isinstance(value, str):
        # settings may come before the name; those of another name in the file are not kept
        value = {"name": value} if last.get("name", value) != value else {**last, "name": value}
    values[path[-1]] = value


def _explain(cls: type[Any], detail: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in detail["loc"] if not str(part).startswith("function-"))
    if detail["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = [name for name, *_ in fields_of(cls)]
        return f"unknown field `{place}`; {_did_you_mean(place, known)}"
    if detail["type"] in ("missing", "missing_argument"):
        return f"field `{place}` is missing; give it in the file or as --{place} VALUE"
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, TrueupError):
        return str(cause)  # it names its field itself
    message = str(cause) if isinstance(cause, ValueError) else str(detail["msg"]).lower()
    return f"field `{place}`: {message}" + ("" if cause else f", got {_short(detail['input'])}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _did_you_mean(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean `{close[0]}`?" if close else f"known: {', '.join(sorted(known))}"


def fields_of(cls: type[Any], prefix: str = "") -> Iterator[tuple[str, str, Any, str]]:
    """All fields of a recipe with dotted names: (name, type, default, meaning)."""
    meanings = _meanings(cls)
    for field in dataclasses.fields(cls):
        name = prefix + field.name
        inner = _nested(field.type)
        default = field.default if field.default is not dataclasses.MISSING else None
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if inner is not None:
            yield from fields_of(inner, f"{name}.")
        else:
            yield name, _type_name(field.type), default, meanings.get(field.name, "")


def _nested(hint: Any) -> type[Any] | None:
    options = [hint, *(get_args(hint) if get_origin(hint) is not Annotated else ())]
    return next((o for o in options if isinstance(o, type) and dataclasses.is_dataclass(o)), None)


def _type_name(hint: Any) -> str:
    if get_origin(hint) is Annotated:
        chosen = next((part for part in get_args(hint) if isinstance(part, Choice)), None)
        if chosen is not None:
            return " | ".join(chosen.table)
    text = hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
    return re.sub(r"typing\.|pathlib\.|Literal\[|\]|'", "", text).replace(", ", " | ")


def _meanings(cls: type[Any]) -> dict[str, str]:
    """Meaning of each argument, from the `Args:` of a class's docstring and its bases'."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        found |= _meanings_in(inspect.cleandoc(base.__doc__ or ""))
    return found


def _meanings_in(doc: str) -> dict[str, str]:
    body = doc.partition("Args:")[2]
    found: dict[str, str] = {}
    name = ""
    for line in body.splitlines():
        start = re.match(r"    (\w+): (.*)", line)
        if start:
            name = start[1]
            found[name] = start[2]
        elif name and line.startswith("        "):
            found[name] += " " + line.strip()
    return found


def help_text(cls: type[Any]) -> str:
    """All fields of a recipe, for the terminal."""
    lines = []
    for name, kind, default, meaning in fields_of(cls):
        shown = f" (default: {_shown(default)})" if default is not None else ""
        lines.append(f"  --{name}  {kind}{shown}\n      {meaning}")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        settings = ", ".join(f"{k}={v}" for k, v in dataclasses.asdict(value).items())
        return f"{type(value).__name__}({settings})"
    return str(value)
