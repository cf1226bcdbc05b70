"""Functions that users name as `package.module:function`."""

import contextlib
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from trueup.errors import RecipeError


def import_callable(path: str, *, signature: str) -> tuple[Callable[..., Any], str]:
    """Load a function and its name; modules in the working directory are found too.

    Args:
        path: `package.module:function`.
        signature: What the function should look like, for messages.

    Raises:
        RecipeError: There is no such module or function.
    """
    module_name, _, name = path.partition(":")
    try:
        with _working_directory_first():
            function = getattr(importlib.import_module(module_name), name)
    except Exception as error:  # a user's module may fail in any way
        reason = f"{type(error).__name__}: {error}"
        raise RecipeError(f"{path}: cannot be imported ({reason}); write it as package.module:function") from error
    if not callable(function) or inspect.isclass(function):
        raise RecipeError(f"{path}: is not a function; write a function {signature}")
    return function, name


@contextlib.contextmanager
def _working_directory_first() -> Iterator[None]:
    """A console script's search path lacks the folder it is started in."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def told(error: Exception) -> str:
    """What went wrong, and where in its author's code."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({place.filename}:{place.lineno}, in {place.name})"
