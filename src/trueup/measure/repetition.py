"""How much of a text says again what it said before."""

GRAM = 3
"""Words in a row that count as one sequence."""


def repetition(text: str) -> float:
    """Share of a text's sequences of `GRAM` words that occurred before in it, 0 to 1; 0 for shorter texts.

    Case does not count, and words are what stands between white space.

    >>> repetition("a b c a b c")
    0.25
    """
    words = text.lower().split()
    sequences = list(zip(*(words[start:] for start in range(GRAM)), strict=False))
    return 1 - len(set(sequences)) / len(sequences) if sequences else 0.0
