"""Reward servers and judges by name: an address, or a file of settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trueup.endpoints.settings import at_home, build, is_settings_file, read_address, read_settings
from trueup.errors import RecipeError
from trueup.rewards.base import Reward
from trueup.rewards.http import HttpRewardSettings, open_http_reward
from trueup.rewards.judge import JudgeSettings, open_judge

_ADDRESSES = ("http://", "https://")
_JUDGES = tuple(f"judge:{address}" for address in _ADDRESSES)


def open_server(place: str, *, label: str = "", progress: bool = False) -> Reward | None:
    """A reward server or judge; None where the name is that of something else.

    Args:
        place: `http://HOST/PATH` of a reward server or `judge:http://HOST` of a judge, their settings being the query
            (`?protocol=vllm`, `?model=NAME`); or a YAML or JSON file of settings whose `kind` is `http` or `judge`. A
            template's file is looked for beside it.
        label: What reports call it.
        progress: Whether a progress bar is shown.

    Raises:
        RecipeError: The settings cannot be used.
    """
    if place.startswith(_ADDRESSES):
        return _open("http", read_address(place), place=place.partition("?")[0], label=label, progress=progress)
    if place.startswith(_JUDGES):
        values = read_address(place.removeprefix("judge:"))
        return _open("judge", values, place=place.partition("?")[0], label=label, progress=progress)
    if not is_settings_file(place) or Path(place).is_dir():
        return None
    values = read_settings(Path(place))
    template = values.get("template_file")
    if isinstance(template, str):
        values["template_file"] = str(Path(place).parent / at_home(Path(template)))
    return _open(values.pop("kind", None), values, place=place, label=label, progress=progress)


def _open(kind: object, values: Mapping[str, Any], *, place: str, label: str, progress: bool) -> Reward:
    if kind == "judge":
        return open_judge(build(JudgeSettings, values, place=place), name=label, progress=progress)
    if kind == "http":
        return open_http_reward(build(HttpRewardSettings, values, place=place), name=label, progress=progress)
    reason = "field `kind` is missing" if kind is None else f"field `kind`: unknown {kind!r}"
    raise RecipeError(f"{place}: {reason}; write `kind: http` or `kind: judge`")
