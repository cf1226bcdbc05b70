"""Gold against proxy: one scale policy, a pool of its samples, gold's comparisons of further ones, and proxies of gold.

The protocol of Gao, Schulman, Hilton (2023), arXiv 2210.10760, with the world's program in the place of the gold model:
proxies learn from gold's comparisons of the initial policy's samples, and are then optimised against by best-of-n.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from trueup.data.pool_files import PoolFolder
from trueup.data.pools import Pool
from trueup.data.rows import Origin, Prompt, Response, Row
from trueup.errors import RecipeError
from trueup.files import cache_folder
from trueup.lab.fitting import Fit, fit_reward
from trueup.lab.policies import PolicyPlan, build_policy, load_scale_policy
from trueup.lab.world import World
from trueup.models.checkpoints import Checkpoint
from trueup.objectives.reward.bradley_terry import BradleyTerry
from trueup.policies.pool_drawing import draw_pool
from trueup.rewards.function import FunctionReward
from trueup.rewards.model import ModelReward
from trueup.rewards.pool_scoring import score_folder, score_pool
from trueup.types import RewardObjective

Array = np.ndarray

GOLD = "gold"
_NORM_ROWS = 500
_POOL_SEED, _COMPARISON_SEED = 70_001, 80_001


@dataclass(frozen=True, kw_only=True)
class SetupPlan:
    """One world of gold against proxy; another seed is another policy, pool and data set.

    Args:
        policy: What the policy is made of.
        prompts: Prompts of the pool that best-of-n chooses from; no proxy is trained on them.
        samples: Samples of each.
        comparisons: Prompts with two samples each for gold to compare; the last `held_out` test proxies.
        held_out: How many comparisons no proxy learns from.
    """

    policy: PolicyPlan = field(default_factory=PolicyPlan)
    prompts: int = 48
    samples: int = 512
    comparisons: int = 6_000
    held_out: int = 600

    def __post_init__(self) -> None:
        if not 0 < self.held_out < self.comparisons:
            raise RecipeError(f"held_out must lie between 0 and comparisons, got {self.held_out}")

    @property
    def key(self) -> str:
        """Name of the pools that depend on these settings; a larger one of the same key extends a smaller."""
        return hashlib.sha256(json.dumps([self.policy.key]).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A plan carried out.

    Args:
        plan: The plan.
        policy: Folder of the policy.
        pool: Samples to choose from, with gold's scores under the name `gold`.
        comparisons: Prompts with two scored responses each, ties left out, for training.
        held_out: The same for testing.
    """

    plan: SetupPlan
    policy: Path
    pool: Pool
    comparisons: tuple[Row, ...]
    held_out: tuple[Row, ...]

    @property
    def gold(self) -> Float[Array, "prompts samples"]:
        """Gold's scores of the pool."""
        return self.pool.score(GOLD)


def set_up(plan: SetupPlan, *, folder: Path | None = None, progress: bool = False) -> Setup:
    """Build the policy, draw its samples and let gold score them; what was made before is read.

    Args:
        plan: What to make.
        folder: Where policies and pools are kept; the user's cache folder by default.
        progress: Whether progress bars are shown.
    """
    home = folder or cache_folder() / "lab"
    place = build_policy(plan.policy, folder=home / "policies")
    world = World(plan.policy.world)
    asked = world.prompts(plan.prompts, families=plan.policy.families, seed=_POOL_SEED)
    texts = [one.text for one in asked]
    others = world.prompts(
        plan.comparisons, families=plan.policy.families, seed=_COMPARISON_SEED, exclude=frozenset(texts)
    )
    pools = home / "pools" / plan.key
    pool = _drawn(pools / "pool", place, texts, world, samples=plan.samples, progress=progress)
    pairs = _drawn(pools / "comparisons", place, [one.text for one in others], world, samples=2, progress=progress)
    rows = [_row(pairs, number) for number in range(len(pairs.ids))]
    learned, kept = rows[: -plan.held_out], rows[-plan.held_out :]
    return Setup(plan=plan, policy=place, pool=pool, comparisons=_without_ties(learned), held_out=_without_ties(kept))


def _drawn(path: Path, policy: Path, prompts: Sequence[str], world: World, *, samples: int, progress: bool) -> Pool:
    """A pool of a policy's samples with gold's scores, drawn or read."""
    folder, ids = PoolFolder(path), [hashlib.sha256(text.encode()).hexdigest()[:16] for text in prompts]
    folder.begin({"policy": policy.name}, created_by={})
    if folder.missing(ids, samples):
        source = load_scale_policy(policy, progress=progress)
        draw_pool(folder, source, prompts, ids=ids, samples=samples, seed=0)
    gold = gold_of(world)
    folder.begin_reward(GOLD, place=f"world {world.seed}", fingerprint=None)
    score_folder(folder, gold, ids=ids, samples=samples)
    return folder.read(ids, samples=samples, rewards=[GOLD])


def gold_of(world: World) -> FunctionReward:
    """The world's program as a reward."""

    def gold(prompts: Sequence[Prompt], completions: Sequence[str]) -> list[float]:
        return world.gold_reward(prompts, completions)

    return FunctionReward(gold, GOLD)


def _row(pool: Pool, number: int) -> Row:
    scores = pool.score(GOLD)[number]
    texts = pool.responses[number]
    return Row(
        prompt=pool.prompts[number],
        responses=tuple(Response(text=text, score=float(s)) for text, s in zip(texts, scores, strict=True)),
        id=pool.ids[number],
        origin=Origin("comparisons", number + 1),
    )


def _without_ties(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Pairs that gold tells apart; equal texts are among the others."""
    return tuple(row for row in rows if row.responses[0].score != row.responses[1].score)


def labelled(rows: Sequence[Row], *, flip: float = 0.0, seed: int = 0) -> list[Row]:
    """Gold's choice in each pair, without noise, and then a share of the labels turned round.

    Args:
        rows: Pairs with gold's scores.
        flip: Probability with which a label is turned round.
        seed: Seed of that.
    """
    turned = np.random.default_rng([seed, 1]).random(len(rows)) < flip
    return [_label(row, bool(turn)) for row, turn in zip(rows, turned, strict=True)]


def _label(row: Row, turn: bool) -> Row:
    first, second = row.responses
    first_wins = (float(first.score or 0.0) > float(second.score or 0.0)) != turn
    answers = (Response(text=first.text, label=first_wins), Response(text=second.text, label=not first_wins))
    return Row(prompt=row.prompt, responses=answers, id=row.id, origin=row.origin)


@dataclass(frozen=True, kw_only=True)
class ProxyPlan:
    """How a proxy is made.

    Args:
        pairs: Comparisons it learns from.
        flip: Share of their labels that are turned round.
        terms: The loss.
        fit: How it is trained.
        seed: Seed of its head, of the order of the data and of the noise.
        data_seed: Which comparisons are taken and which labels turned round; None for the same as `seed`.
    """

    pairs: int = 5_000
    flip: float = 0.0
    terms: tuple[RewardObjective, ...] = (BradleyTerry(),)
    fit: Fit = field(default_factory=lambda: Fit(learning_rate=1e-3, batch_size=32, epochs=2.0))
    seed: int = 0
    data_seed: int | None = None


def train_proxy(setup: Setup, plan: ProxyPlan, *, trunk: Path | None = None) -> Checkpoint:
    """Train a proxy of gold on comparisons of the policy's samples.

    Args:
        setup: Where the comparisons come from.
        plan: How.
        trunk: Language model that it begins from; the policy itself by default.

    Raises:
        RecipeError: There are fewer comparisons than are asked for.
    """
    if plan.pairs > len(setup.comparisons):
        raise RecipeError(f"pairs must be at most {len(setup.comparisons)}, which gold tells apart; got {plan.pairs}")
    seed = plan.seed if plan.data_seed is None else plan.data_seed
    order = np.random.default_rng([seed, 2]).permutation(len(setup.comparisons))[: plan.pairs]
    rows = labelled([setup.comparisons[i] for i in order], flip=plan.flip, seed=seed)
    return fit_reward(rows, trunk or setup.policy, fit=plan.fit, seed=plan.seed, terms=plan.terms)


@dataclass(frozen=True, kw_only=True)
class ProxyScores:
    """What a proxy says of the pool, and how right it is.

    Args:
        score: Its rewards of the pool.
        hidden_norm: Norm of what enters its head.
        training_norm: Mean and standard deviation of that norm over comparisons it may have learned from.
        accuracy: Share of held-out comparisons that it orders as gold does.
        parameters: Its size.
    """

    score: Float[Array, "prompts samples"]
    hidden_norm: Float[Array, "prompts samples"]
    training_norm: tuple[float, float]
    accuracy: float
    parameters: int


def score_proxy(setup: Setup, proxy: Checkpoint) -> ProxyScores:
    """Score the pool and the held-out comparisons."""
    reward = ModelReward(checkpoint=proxy, name="proxy", keep_hidden=True)
    columns = score_pool(setup.pool, reward)
    seen = setup.comparisons[:_NORM_ROWS]
    hidden = reward.score([row.prompt for row in seen], [[r.text for r in row.responses] for row in seen]).hidden
    norms = np.linalg.norm(np.asarray(hidden), axis=1)
    return ProxyScores(
        score=columns["proxy"].astype(np.float32).astype(float),
        hidden_norm=columns["proxy/hidden_norm"],
        training_norm=(float(norms.mean()), float(norms.std())),
        accuracy=accuracy(reward, setup.held_out),
        parameters=sum(p.numel() for p in proxy.model.parameters()),
    )


def accuracy(reward: ModelReward, rows: Sequence[Row]) -> float:
    """Share of scored pairs that a reward orders as gold does."""
    scores = reward.score([row.prompt for row in rows], [[r.text for r in row.responses] for row in rows]).reward
    gold = np.asarray([r.score for row in rows for r in row.responses], float)
    margin, truth = scores[::2] - scores[1::2], gold[::2] - gold[1::2]
    return float(np.mean((margin > 0) == (truth > 0)))


def plan_record(plan: ProxyPlan) -> dict[str, Any]:
    """Plain values of a proxy's plan."""
    terms = [{"name": type(term).__name__, **asdict(term)} for term in plan.terms]  # type: ignore[call-overload]
    return {**asdict(plan), "terms": terms}
