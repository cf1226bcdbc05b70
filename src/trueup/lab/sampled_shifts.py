"""The four distribution shifts with a policy's samples in the place of the training writers' answers.

**Source** Hong, Lee et al. (2025), arXiv 2505.07271: two of four responses train, the other two are the in-domain test.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

from trueup.data.rows import Message, Origin, Response, Row
from trueup.lab.policies import load_scale_policy
from trueup.lab.world import FRESH_FAMILIES, FRESH_WRITERS, World, WorldPrompt
from trueup.policies.model import ModelPolicy


def sampled_shifts(
    world: World,
    policy: Path,
    train: int,
    *,
    held_out: int,
    families: Sequence[str],
    exclude: Collection[str] = (),
    seed: int = 0,
) -> dict[str, list[Row]]:
    """Gold's comparisons of a policy's samples, and the four ways in which test data can differ from them.

    Args:
        world: The world.
        policy: A built policy.
        train: Prompts that training uses; pairs that gold cannot tell apart are left out.
        held_out: Prompts that it does not, from fresh families.
        families: Families of the training prompts.
        exclude: Prompts that must not occur.
        seed: Of the draws.

    Returns:
        `train` and `in_domain` (pairs labelled by gold), `prompt_disjoint`, `response_disjoint` and `mutual_disjoint`
        (four scored responses each; the latter two by fresh writers).
    """
    source = load_scale_policy(policy)
    known = world.prompts(train, families=families, seed=seed + 1, exclude=exclude)
    other = world.prompts(held_out, families=FRESH_FAMILIES, seed=seed + 2)
    full, fresh = _sampled(world, source, known, seed=seed), tuple(FRESH_WRITERS)
    return {
        "train": _pairs(full, 0),
        "in_domain": _pairs(full, 2),
        "prompt_disjoint": _sampled(world, source, other, seed=seed + 1),
        "response_disjoint": world.answer(known[:held_out], writers=fresh, seed=seed + 3),
        "mutual_disjoint": world.answer(other, writers=fresh, seed=seed + 4),
    }


def _sampled(world: World, policy: ModelPolicy, prompts: Sequence[WorldPrompt], *, seed: int) -> list[Row]:
    """Four scored samples of each prompt."""
    drawn = policy.sample([prompt.text for prompt in prompts], 4, seed=seed)
    return [
        Row(
            prompt=(Message("user", prompt.text),),
            responses=tuple(
                Response(
                    text=one.text,
                    score=world.gold(prompt.text, one.text),
                    source="policy",
                    features=world.gold_features(prompt.text, one.text),
                )
                for one in group
            ),
            id=f"sampled-{world.seed}-{seed}-{number}",
            origin=Origin(f"samples(world={world.seed})", number + 1),
            subset=prompt.family,
        )
        for number, (prompt, group) in enumerate(zip(prompts, drawn, strict=True))
    ]


def _pairs(rows: Sequence[Row], start: int) -> list[Row]:
    """Two of each row's responses, labelled by gold; those that it cannot tell apart are left out."""
    made = []
    for row in rows:
        first, second = row.responses[start : start + 2]
        if first.score == second.score or first.text == second.text:
            continue
        wins = float(first.score or 0.0) > float(second.score or 0.0)
        pair = (_labelled(first, wins), _labelled(second, not wins))
        made.append(Row(prompt=row.prompt, responses=pair, id=row.id, origin=row.origin, subset=row.subset))
    return made


def _labelled(response: Response, label: bool) -> Response:
    return Response(
        text=response.text, label=label, score=response.score, source=response.source, features=response.features
    )
