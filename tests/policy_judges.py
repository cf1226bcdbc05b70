"""Oracles and verifiers by name for audits from the command line: `policy_judges:longer`."""


def longer(prompts: list[str], first: list[str], second: list[str]) -> list[float]:
    """Prefers the longer response, and what stands first by 0.2 in all."""
    return [0.2 + 0.4 * ((len(a) > len(b)) + (len(a) >= len(b))) for a, b in zip(first, second, strict=True)]


def broken(prompts: list[str], first: list[str], second: list[str]) -> list[float]:
    """An oracle that fails."""
    raise ValueError("out of order")


def even(prompts: list[str], completions: list[str]) -> list[int]:
    """Right is what has an even number of characters."""
    return [int(len(text) % 2 == 0) for text in completions]


def half(prompts: list[str], completions: list[str]) -> list[float]:
    """A verifier that cannot make up its mind."""
    return [0.5 for _ in completions]


def parrot(prompts: list[str], count: int, seed: int) -> list[list[str]]:
    """A policy that repeats its prompt."""
    return [[prompt] * count for prompt in prompts]
