"""English helpers and the few random choices that every writer makes.

All randomness goes through `Generator.random`, whose stream is the same on every machine and NumPy version.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from trueup.errors import RecipeError

T = TypeVar("T")

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def stream(*keys: int) -> np.random.Generator:
    """Random generator that depends on `keys` alone.

    Raises:
        RecipeError: If a key is negative.
    """
    if min(keys) < 0:
        raise RecipeError(f"seed must be zero or more, got {min(keys)}")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(list(keys))))


def pick(generator: np.random.Generator, options: Sequence[T]) -> T:
    """One option, uniformly."""
    return options[int(generator.random() * len(options))]


def chance(generator: np.random.Generator, probability: float) -> bool:
    """True with the given probability."""
    return bool(generator.random() < probability)


def between(generator: np.random.Generator, low: float, high: float) -> float:
    """A number drawn uniformly from [low, high)."""
    return low + (high - low) * float(generator.random())


def whole(generator: np.random.Generator, low: int, high: int) -> int:
    """A whole number from low to high, both included."""
    return low + int(generator.random() * (high - low + 1))


def sample(generator: np.random.Generator, options: Sequence[T], count: int) -> list[T]:
    """Up to `count` different positions of `options`, in random order."""
    pool = list(options)
    taken = []
    for _ in range(min(count, len(pool))):
        taken.append(pool.pop(int(generator.random() * len(pool))))
    return taken


def article(word: str) -> str:
    """The word behind "a" or "an"."""
    return f"an {word}" if word[:1] in "aeiou" and not word.startswith("uni") else f"a {word}"


def capital(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def listing(parts: Sequence[str]) -> str:
    """Parts as English joins them: "a", "a and b", "a, b, and c"."""
    if len(parts) < 3:
        return " and ".join(parts)
    return f"{', '.join(parts[:-1])}, and {parts[-1]}"


def sentence(text: str) -> str:
    """The text as a sentence: first letter upper, full stop at the end."""
    return capital(text) + ("" if text[-1:] in ".!?:" else ".")


def joined(predicates: Sequence[str]) -> str:
    """Predicates of one subject behind each other: "is red and small", "is red and eats grass"."""
    plain = all(p.startswith("is ") and not p.startswith(("is a ", "is an ")) for p in predicates)
    if not plain:
        return listing(predicates)
    return f"is {listing([p.removeprefix('is ') for p in predicates])}"
