"""The world as data: prompts, scored rows, preferences and the four shifts."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from trueup.data.rows import Message, Origin, Prompt, Response, Row
from trueup.errors import DataError, RecipeError
from trueup.lab.world.gold import breakdown, features, total
from trueup.lab.world.labels import check_noise, label_pair, pick_pair
from trueup.lab.world.language import pick, sample, stream
from trueup.lab.world.ontology import load_ontology
from trueup.lab.world.prompts import CORE_FAMILIES, FRESH_FAMILIES, draw_prompt, known_families, parse_prompt
from trueup.lab.world.records import WorldPrompt
from trueup.lab.world.writers import FRESH_WRITERS, TRAINING_WRITERS, WRITERS, Writer

PROMPTS, ANSWERS, LABELS, PAIRS = range(4)
"""First key of each kind of random stream."""

MOST_MISSES = 3000
"""Draws in a row without a new prompt after which the families count as exhausted."""

MOST_TRIES = 8
"""Answers drawn in the hope of one that its row does not hold yet."""


@dataclass(frozen=True)
class World:
    """The small language world: prompts, writers and a gold reward that is a program.

    The facts are the same for every seed; prompts, answers and labels are drawn from it. Everything depends on the
    seeds alone, and the first n of a longer draw are the draw of n.

    Args:
        seed: Zero or more.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise RecipeError(f"seed must be zero or more, got {self.seed}")

    def prompts(
        self, count: int, *, families: Sequence[str] = CORE_FAMILIES, seed: int = 0, exclude: Collection[str] = ()
    ) -> list[WorldPrompt]:
        """Distinct prompts of the families, in random order.

        Args:
            count: How many.
            families: From `CORE_FAMILIES` and `FRESH_FAMILIES`.
            seed: Of this draw.
            exclude: Texts that must not occur.

        Raises:
            RecipeError: If a family is unknown, or the families do not hold as many prompts.
        """
        names, generator = known_families(families), stream(self.seed, PROMPTS, seed)
        taken: dict[str, WorldPrompt] = {}
        shunned, misses = frozenset(exclude), 0
        while len(taken) < count:
            prompt = draw_prompt(generator, names)
            misses = misses + 1 if prompt.text in taken or prompt.text in shunned else 0
            if misses > MOST_MISSES:
                raise RecipeError(
                    f"count must be at most about {len(taken)} for the families {', '.join(names)}, got {count}; "
                    "add families or ask for fewer prompts"
                )
            if not misses:
                taken[prompt.text] = prompt
        return list(taken.values())

    def answer(
        self, prompts: Sequence[WorldPrompt], *, responses: int = 4, writers: Sequence[str] | None = None, seed: int = 0
    ) -> list[Row]:
        """Let writers answer prompts; gold scores each answer.

        Within a row writers differ as long as there are enough, and texts differ unless every try gave the same.

        Args:
            prompts: What to answer.
            responses: Answers per prompt.
            writers: Names; the training writers if not given.
            seed: Of this draw.

        Raises:
            RecipeError: If a writer is unknown or `responses` is less than one.
        """
        pool = _known_writers(writers if writers is not None else tuple(TRAINING_WRITERS))
        if responses < 1:
            raise RecipeError(f"responses must be at least 1, got {responses}")
        file = f"world(seed={self.seed})"
        return [
            Row(
                prompt=(Message("user", prompt.text),),
                responses=_answers(prompt, responses, pool, generator=stream(self.seed, ANSWERS, seed, index)),
                id=f"world-{self.seed}-{seed}-{index}",
                origin=Origin(file, index + 1),
                subset=prompt.family,
            )
            for index, prompt in enumerate(prompts)
        ]

    def rows(
        self,
        count: int,
        *,
        responses: int = 4,
        writers: Sequence[str] | None = None,
        families: Sequence[str] | None = None,
        seed: int = 0,
        fresh: bool = False,
    ) -> list[Row]:
        """Prompts with scored answers of named writers.

        Args:
            count: How many prompts.
            responses: Answers per prompt.
            writers: Names; where not given, the training writers, or the fresh ones.
            families: Names; where not given, the core families, or the fresh ones.
            seed: Of this draw.
            fresh: Whether writers and families that are not given are the fresh ones.
        """
        asked = families if families is not None else FRESH_FAMILIES if fresh else CORE_FAMILIES
        pool = writers if writers is not None else tuple(FRESH_WRITERS if fresh else TRAINING_WRITERS)
        return self.answer(self.prompts(count, families=asked, seed=seed), responses=responses, writers=pool, seed=seed)

    def preferences(
        self,
        count: int,
        *,
        temperature: float = 0.5,
        flip: float = 0.0,
        writers: Sequence[str] | None = None,
        families: Sequence[str] | None = None,
        seed: int = 0,
        fresh: bool = False,
    ) -> list[Row]:
        """Pairs of answers, labelled by gold with Bradley-Terry noise.

        P(chosen = a) = sigmoid((gold_a - gold_b) / temperature), then turned round with probability `flip`.

        Args:
            count: How many pairs, each with a prompt of its own.
            temperature: In units of gold (standard deviations); 0 always chooses the better one.
            flip: Share of labels turned round afterwards.
            writers: As in `rows`.
            families: As in `rows`.
            seed: Of this draw; the same seed with other noise labels the same pairs.
            fresh: As in `rows`.
        """
        rows = self.rows(count, responses=2, writers=writers, families=families, seed=seed, fresh=fresh)
        return self.label(rows, temperature=temperature, flip=flip, seed=seed)

    def label(self, rows: Sequence[Row], *, temperature: float, flip: float = 0.0, seed: int = 0) -> list[Row]:
        """Label rows of two scored responses; see `preferences`."""
        check_noise(temperature, flip)
        return [
            label_pair(row, temperature=temperature, flip=flip, generator=stream(self.seed, LABELS, seed, index))
            for index, row in enumerate(rows)
        ]

    def four_shifts(
        self,
        train: int,
        *,
        held_out: int,
        temperature: float = 0.0,
        flip: float = 0.0,
        shift: Literal["families", "prompts"] = "families",
        seed: int = 0,
    ) -> dict[str, list[Row]]:
        """Training pairs and the four ways in which test data can differ from them.

        **Source:** Hong, Lee et al. (2025), "On the Robustness of Reward Models for Language Model Alignment",
        arXiv 2505.07271: two of four responses train, the other two are the in-domain test.

        Args:
            train: Prompts that training uses.
            held_out: Prompts that it does not.
            temperature: Of the label noise of the training pairs; the in-domain pairs are labelled by gold itself.
            flip: Share of training labels turned round.
            shift: Whether held-out prompts come from the fresh families, or are other prompts of the core families.
            seed: Of this draw.

        Returns:
            `train` and `in_domain` (labelled pairs), `prompt_disjoint`, `response_disjoint` and `mutual_disjoint` (four
            scored responses each).
        """
        if shift not in ("families", "prompts"):
            raise RecipeError(f"shift must be 'families' or 'prompts', got {shift!r}")
        known = self.prompts(train, seed=seed)
        families = FRESH_FAMILIES if shift == "families" else CORE_FAMILIES
        other = self.prompts(held_out, families=families, seed=seed + 1, exclude=[p.text for p in known])
        full = self.answer(known, seed=seed)
        fresh = tuple(FRESH_WRITERS)
        orders = [sample(stream(self.seed, PAIRS, seed, index), range(4), 4) for index in range(train)]
        seen = [pick_pair(row, order[:2]) for row, order in zip(full, orders, strict=True)]
        unseen = [pick_pair(row, order[2:]) for row, order in zip(full, orders, strict=True)]
        return {
            "train": self.label(seen, temperature=temperature, flip=flip, seed=seed),
            "in_domain": self.label(unseen, temperature=0.0, seed=seed),
            "prompt_disjoint": self.answer(other, seed=seed + 1),
            "response_disjoint": self.answer(known, writers=fresh, seed=seed + 2),
            "mutual_disjoint": self.answer(other, writers=fresh, seed=seed + 3),
        }

    def gold(self, prompt: Prompt, response: str) -> float:
        """Gold reward of any response to a prompt of the world, given as text or chat turns.

        Raises:
            DataError: If the prompt is not one of the world's.
        """
        return total(features(parse_prompt(_question(prompt)), response))

    def gold_features(self, prompt: Prompt, response: str) -> Mapping[str, float]:
        """Gold's breakdown: the five features in their own units, by name."""
        return breakdown(features(parse_prompt(_question(prompt)), response))

    def gold_reward(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> list[float]:
        """Gold rewards of one response per prompt; usable wherever a reward may be a Python function.

        Raises:
            DataError: If the numbers differ or a prompt is not one of the world's.
        """
        if len(prompts) != len(responses):
            found = f"{len(prompts)} prompts and {len(responses)} responses"
            raise DataError(found, expected="one response per prompt")
        return [self.gold(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]


def _question(prompt: Prompt) -> str:
    if isinstance(prompt, str):
        return prompt
    asked = [turn.content for turn in prompt if turn.role == "user"]
    return asked[-1] if asked else ""


def _known_writers(names: Sequence[str]) -> list[Writer]:
    unknown = [name for name in names if name not in WRITERS]
    if unknown or not names:
        raise RecipeError(f"writers must be some of {', '.join(WRITERS)}; got {', '.join(unknown) or 'none'}")
    return [WRITERS[name] for name in names]


def _answers(
    prompt: WorldPrompt, count: int, pool: Sequence[Writer], *, generator: np.random.Generator
) -> tuple[Response, ...]:
    chosen: list[Writer] = []
    while len(chosen) < count:
        chosen += sample(generator, pool, count - len(chosen))
    texts: dict[str, Writer] = {}
    made: list[Response] = []
    for writer in chosen:
        author, text = _new_text(prompt, writer, texts, pool=pool, generator=generator)
        texts[text] = author
        measured = features(prompt, text)
        made.append(Response(text=text, score=total(measured), source=author.name, features=breakdown(measured)))
    return tuple(made)


def _new_text(
    prompt: WorldPrompt,
    writer: Writer,
    texts: Collection[str],
    *,
    pool: Sequence[Writer],
    generator: np.random.Generator,
) -> tuple[Writer, str]:
    author, text = writer, writer(prompt, load_ontology(), generator)
    for attempt in range(2 * MOST_TRIES):
        if text not in texts:
            break
        author = writer if attempt < MOST_TRIES else pick(generator, pool)
        text = author(prompt, load_ontology(), generator)
    return author, text
