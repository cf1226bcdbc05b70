"""What a name on the command line stands for: its label, and whether what is there has changed."""

import hashlib
import re
from importlib import util
from pathlib import Path

from trueup.endpoints.settings import split_label
from trueup.errors import RecipeError

_ENDS = 2**20
_WEIGHTS = (".safetensors", ".json", ".yaml", ".yml", ".jinja")


def named_places(names: str | list[str] | dict[str, str]) -> dict[str, str]:
    """Places by label, from `LABEL=place` or bare places, which are labelled by their last part.

    Raises:
        RecipeError: Two places have one label, or a label is empty or has a slash.
    """
    if isinstance(names, dict):
        pairs = list(names.items())
    else:
        pairs = [_split(name) for name in ([names] if isinstance(names, str) else names)]
    found: dict[str, str] = {}
    for label, place in pairs:
        if not label or "/" in label or "=" in label:
            raise RecipeError(f"{label!r} cannot be a label; write LABEL={place} with some other word")
        if found.setdefault(label, place) != place:
            message = f"{found[label]} and {place} are both called {label!r}; write LABEL=place to tell them apart"
            raise RecipeError(message)
    return found


def _split(name: str) -> tuple[str, str]:
    label, place = split_label(name)
    last = next((part for part in reversed(re.split(r"[/:]", place.partition("?")[0])) if part), "")
    return label or last, place


def fingerprint_of(place: str) -> str | None:
    """A hash that changes when the weights, the settings file or the module at a place do; None where it is elsewhere.

    Of each file it reads the size, the first and the last MiB. Of a Python function it reads the function's module
    alone, and not what that imports.
    """
    path = Path(place)
    if path.is_dir():
        folder = path / "model" if (path / "model").is_dir() else path
        files = sorted(file for file in folder.rglob("*") if file.suffix in _WEIGHTS and file.is_file())
        return _hash([(str(file.relative_to(folder)), file) for file in files])
    source = path if path.is_file() else _module_file(place)
    return None if source is None else _hash([("", source)])


def _module_file(place: str) -> Path | None:
    module, colon, _ = place.partition(":")
    if not colon or "/" in place:
        return None
    local = Path(*module.split(".")).with_suffix(".py")
    if local.is_file():
        return local
    try:
        found = util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(found.origin) if found is not None and found.origin is not None else None


def _hash(files: list[tuple[str, Path]]) -> str:
    digest = hashlib.sha256()
    for name, path in files:
        size = path.stat().st_size
        with path.open("rb") as handle:
            head = handle.read(_ENDS)
            handle.seek(max(size - _ENDS, 0))
            digest.update(f"{name}\0{size}\0".encode("utf-8", "surrogatepass") + head + handle.read(_ENDS))
    return digest.hexdigest()[:16]
