"""A reward that remembers on disk, so that several runs on one data set compute it once."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from pathlib import Path

import numpy as np

from trueup.data.fingerprint import prompt_record
from trueup.data.rows import Prompt
from trueup.endpoints.cache import AnswerCache, answer_key
from trueup.errors import RecipeError
from trueup.files import write_text
from trueup.rewards.base import Reward, Scores
from trueup.rewards.flat import Asked, flatten, scores_of

PREFIX = "kept:"
FILE = "reward.json"


@dataclass(frozen=True, kw_only=True)
class KeptScores:
    """Scores each response once; the reward itself is loaded only when a response is new.

    Args:
        folder: Where scores are kept, by the reward's place and identity, the prompt and the text.
        place: Where the reward is.
        identity: What tells it from another one at this place, such as a hash of its files.
        name: What reports call it.
        load: What loads the reward.
        at_a_time: Prompts that are scored between two saves.
    """

    folder: Path
    place: str
    identity: str
    name: str
    load: Callable[[str], Reward]
    at_a_time: int = 1024

    @cached_property
    def reward(self) -> Reward:
        """The reward itself."""
        return self.load(self.place)

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Scores:
        """As the reward scores them, or has scored them; a score that is not finite is not kept.

        Raises:
            OutputError: Scores cannot be kept.
        """
        flat = flatten(prompts, responses)
        keys = [_key(f"{self.place} {self.identity}", one) for one in flat]
        with AnswerCache(self.folder) as cache:
            found = {key: float(value) for key, value in cache.find(keys).items() if isinstance(value, int | float)}
            for part in self._missing(dict(zip(keys, flat, strict=True)), found):
                scored = self.reward.score([group[0][1].prompt for group in part], [_texts(group) for group in part])
                new = [key for group in part for key, _ in group]
                for key, value in zip(new, scored.reward.tolist(), strict=True):
                    found[key] = value
                    if isfinite(value):
                        cache.put(key, value)
        return scores_of(np.asarray([found[key] for key in keys], np.float64), flat)

    def _missing(self, asked: Mapping[str, Asked], found: Mapping[str, float]) -> list[list[list[tuple[str, Asked]]]]:
        """Responses that have no score, those to one prompt together, so many prompts at a time."""
        groups: dict[int, list[tuple[str, Asked]]] = {}
        for key, one in asked.items():
            if key not in found:
                groups.setdefault(one.row, []).append((key, one))
        each = list(groups.values())
        return [each[start : start + self.at_a_time] for start in range(0, len(each), self.at_a_time)]


def _texts(group: Sequence[tuple[str, Asked]]) -> list[str]:
    return [one.response for _, one in group]


def _key(asked: str, one: Asked) -> str:
    return answer_key(asked, json.dumps([prompt_record(one.prompt), one.response]))


def keep_scores(folder: Path, *, place: str, identity: str) -> str:
    """Begin a folder of kept scores, or check that it is of this reward; returns its place for `load_reward`.

    Raises:
        RecipeError: The folder is of another reward, or the reward has changed.
    """
    path, wanted = folder / FILE, {"place": place, "identity": identity}
    if not path.is_file():
        write_text(path, json.dumps(wanted) + "\n")
    elif _read(path) != wanted:
        cure = "restore it, or begin anew in another output"
        raise RecipeError(f"{path}: scores of {place} were kept here before it was changed or exchanged; {cure}")
    return f"{PREFIX}{folder}"


def load_kept(place: str, *, name: str, load: Callable[[str], Reward]) -> KeptScores:
    """The reward of `kept:FOLDER`.

    Raises:
        RecipeError: There are no kept scores.
    """
    folder = Path(place.removeprefix(PREFIX))
    known = _read(folder / FILE)
    return KeptScores(
        folder=folder, place=known["place"], identity=known["identity"], name=name or folder.name, load=load
    )


def _read(path: Path) -> dict[str, str]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return {"place": str(known["place"]), "identity": str(known["identity"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecipeError(f"{path}: does not say which reward's scores are kept here; restore it") from error
