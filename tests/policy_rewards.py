"""Rewards by name for runs of the command line: `policy_rewards:length`."""


def length(prompts: list[str], completions: list[str]) -> list[float]:
    """Characters, which a policy soon learns to write more of."""
    return [float(len(text)) for text in completions]


def shortness(prompts: list[str], completions: list[str]) -> list[float]:
    """The opposite of what `length` wants."""
    return [-float(len(text)) for text in completions]


def remainder(prompts: list[str], completions: list[str]) -> list[float]:
    """Something that has no trend."""
    return [float(len(text) % 7) for text in completions]


def one_too_few(prompts: list[str], completions: list[str]) -> list[float]:
    """A function that forgets a response."""
    return length(prompts, completions)[1:]


def not_a_number(prompts: list[str], completions: list[str]) -> list[float]:
    """A function that divides by zero somewhere."""
    return [*length(prompts, completions)[1:], float("nan")]
