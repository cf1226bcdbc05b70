"""The generated parts of the world's page: every writer on one prompt, and what was measured of the world."""

from collections.abc import Iterable, Sequence

import numpy as np

from trueup.data.rows import Row
from trueup.lab.world.comparisons import World
from trueup.lab.world.gold import SCALE, WEIGHTS, Features, features, total
from trueup.lab.world.language import stream
from trueup.lab.world.ontology import load_ontology
from trueup.lab.world.phrases import FLATTERY
from trueup.lab.world.prompts import FAMILIES, parse_prompt
from trueup.lab.world.records import Skill
from trueup.lab.world.writers import FRESH_WRITERS, WRITERS

EXAMPLE = "Name three animals that live in the forest."
EXAMPLE_SEED = 4
MEASURED_PROMPTS = 1000
STOCK_PROMPTS = 200
STOCK_RESPONSES = 100


def page() -> str:
    """All generated parts, as they stand in the documentation."""
    return "\n\n".join((families_part(), writers_part(), weights_part(), statistics_part())) + "\n"


def families_part() -> str:
    """A prompt of every family with a complete right answer."""
    generator, world = stream(EXAMPLE_SEED), World(EXAMPLE_SEED)
    rows = []
    for name in FAMILIES:
        (prompt,) = world.prompts(1, families=(name,))
        best = FAMILIES[name].content(load_ontology(), prompt, skill=Skill(1.0, 1.0), generator=generator)
        rows.append((f"`{name}`", prompt.text, best.brief))
    return _table(("family", "prompt", "a complete right answer"), rows)


def writers_part() -> str:
    """Every writer's answer to one prompt, with gold and its breakdown."""
    prompt, rows = parse_prompt(EXAMPLE), []
    for number, (name, writer) in enumerate(WRITERS.items()):
        text = writer(prompt, load_ontology(), stream(EXAMPLE_SEED, number))
        measured = features(prompt, text)
        numbers = [f"{value:.2f}" for value in (total(measured), *measured)]
        rows.append((f"`{name}`" + (" (fresh)" if name in FRESH_WRITERS else ""), text, *numbers))
    return f"Prompt: *{EXAMPLE}*\n\n" + _table(("writer", "response", "gold", *Features._fields), rows)


def weights_part() -> str:
    """Weight, mean and standard deviation of every feature."""
    columns = zip(Features._fields, WEIGHTS, SCALE.mean, SCALE.std, strict=True)
    rows = [(f"`{name}`", f"{weight:.2f}", f"{mean:.3f}", f"{std:.3f}") for name, weight, mean, std in columns]
    return _table(("feature", "weight", "mean", "std"), rows)


def statistics_part() -> str:
    """Gold by writer, what correlates with it, and what shuffling and stock answers cost."""
    world = World(EXAMPLE_SEED)
    groups = {
        "training writers": world.rows(MEASURED_PROMPTS),
        "fresh writers": world.rows(MEASURED_PROMPTS, writers=tuple(FRESH_WRITERS)),
    }
    by_writer = [line for rows in groups.values() for line in _by_writer(rows)]
    hints = [(name, *(f"{value:.2f}" for value in correlations(rows))) for name, rows in groups.items()]
    shuffled, stock = shuffle_cost(world), best_stock(world)
    return "\n\n".join(
        (
            _table(("writer", "mean gold", "std", "mean words"), by_writer),
            _table(("correlation of gold with", "words", "flattery", "bullets", "the longer of two wins"), hints),
            f"Giving each prompt the next prompt's answer costs {shuffled:.2f} standard deviations of gold. The best "
            f"of {STOCK_RESPONSES} responses, given to {STOCK_PROMPTS} prompts alike, has mean gold {stock:.2f}.",
        )
    )


def correlations(rows: Sequence[Row]) -> tuple[float, float, float, float]:
    """Correlation of gold with words, flattery and bullets, and the share of pairs that the longer response wins."""
    answers = [answer for row in rows for answer in row.responses]
    gold = np.asarray([answer.score for answer in answers])
    hints = (
        [len(answer.text.split()) for answer in answers],
        [any(phrase in answer.text for phrase in FLATTERY) for answer in answers],
        ["- " in answer.text for answer in answers],
    )
    words, flattery, bullets = (float(np.corrcoef(gold, np.asarray(hint, float))[0, 1]) for hint in hints)
    pairs = [
        ((one.score or 0.0) > (two.score or 0.0)) == (len(one.text) > len(two.text))
        for row in rows
        for at, one in enumerate(row.responses)
        for two in row.responses[:at]
        if len(one.text) != len(two.text)
    ]
    return words, flattery, bullets, sum(pairs) / len(pairs)


def shuffle_cost(world: World) -> float:
    """Mean gold lost when each prompt gets an answer written for another one."""
    rows = world.rows(MEASURED_PROMPTS, responses=1, seed=1)
    own = [row.responses[0].score or 0.0 for row in rows]
    moved = [row.responses[0].text for row in (*rows[1:], rows[0])]
    return float(np.mean(own) - np.mean(world.gold_reward([row.prompt for row in rows], moved)))


def best_stock(world: World) -> float:
    """Highest mean gold that one response reaches over many prompts."""
    prompts = [row.prompt for row in world.rows(STOCK_PROMPTS, responses=1, seed=2)]
    rows = world.rows(STOCK_RESPONSES, responses=1, seed=3)
    means = (np.mean([world.gold(prompt, row.responses[0].text) for prompt in prompts]) for row in rows)
    return float(max(means))


def _by_writer(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    lines: list[tuple[str, ...]] = []
    for name in WRITERS:
        answers = [answer for row in rows for answer in row.responses if answer.source == name]
        if answers:
            gold = np.asarray([answer.score for answer in answers])
            words = np.mean([len(answer.text.split()) for answer in answers])
            lines.append((f"`{name}`", f"{gold.mean():.2f}", f"{gold.std():.2f}", f"{words:.0f}"))
    return lines


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("\n", "<br>") for cell in line) + " |" for line in lines)
