"""Stock phrases that answers are dressed with. None of them says anything about the world."""

from functools import cache

FLATTERY = (
    "What a great question!",
    "You ask such clever questions.",
    "I can see that you are very wise.",
    "It is a joy to talk with someone like you.",
    "You have a fine mind.",
    "Only a gifted person would ask this.",
)

FILLER = (
    "I hope this answer helps you in every way.",
    "Please let me know if there is more that I can do for you.",
    "As you may know, this is a matter that many like to talk about.",
    "It is always good to learn more about things like this.",
    "There is much more to say, but this should be enough for now.",
    "Feel free to ask me again at any time.",
)

HEDGES = (
    "I am not quite sure.",
    "It may depend on how you look at it.",
    "Some say one thing and some say another.",
    "This can vary from case to case.",
    "I would not want to say too much here.",
)

VAGUE = (
    "There are many ways to think about {topic}.",
    "A lot could be said about {topic}.",
    "We all have different ideas about {topic}.",
    "Nobody can tell much about {topic}.",
)

CHAT = (
    "Oh, I love this one.",
    "Let me think.",
    "Well, here we go.",
    "My friend asked me the same thing last week.",
    "You know how it is.",
)


@cache
def stock_words() -> frozenset[str]:
    """Lower-case words of all stock phrases; none of them makes a text speak of anything."""
    phrases = " ".join((*FLATTERY, *FILLER, *HEDGES, *VAGUE, *CHAT)).replace("{topic}", "").lower()
    return frozenset("".join(letter if letter.isalpha() else " " for letter in phrases).split())
