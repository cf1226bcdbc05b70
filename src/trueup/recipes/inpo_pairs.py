"""One round of INPO up to its pairs: draw from the policy, ask the oracle, choose, and write down what was left out."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trueup.data.fingerprint import content_hash, prompt_record
from trueup.data.pool_files import PoolFolder
from trueup.data.pools import Pool, Setting
from trueup.data.rows import Prompt
from trueup.errors import DataError
from trueup.files import write_text
from trueup.policies.model import load_model_policy
from trueup.policies.pool_drawing import draw_pool
from trueup.recipes.inpo_oracle import check_oracle, open_oracle, oracle_fingerprint, says_consistent, with_memory
from trueup.recipes.inpo_settings import PAIRS_FILE, TrainInpo
from trueup.recipes.places import fingerprint_of
from trueup.recipes.provenance import versions
from trueup.rewards.kept_answers import KnownReward
from trueup.rewards.oracle import PreferenceOracle, symmetrized
from trueup.rewards.pool_scoring import score_folder
from trueup.rewards.reward_oracle import RewardOracle
from trueup.train.pair_selection import PairSelection, best_worst, iid, tournament

logger = logging.getLogger(__name__)

DROPPED, PROVENANCE = "dropped.jsonl", "pairs.json"


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one round is made of.

    Args:
        number: Its number, counted from 1.
        start: Where the policy of the round before is.
        folder: Where everything of this round goes.
        policy: Where its whole policy goes.
        ids: Names of its prompts.
        prompts: The prompts.
    """

    number: int
    start: str
    folder: Path
    policy: Path
    ids: tuple[str, ...]
    prompts: tuple[Prompt, ...]

    @property
    def model(self) -> Path:
        """Where training leaves what it made: the policy, or an adapter for it."""
        return self.folder / "model"


def make_pairs(recipe: TrainInpo, this: Round) -> None:
    """Write a round's pairs, and what they were made of, unless that was done before.

    Raises:
        DataError: No prompt gives a pair.
        EndpointError: The oracle's server fails; what was drawn and answered is kept.
    """
    if (this.folder / PAIRS_FILE).is_file():
        return
    pool = draw(recipe, this)
    oracle, consistent = _oracle(recipe, this, pool)
    selection = _choose(recipe, this, pool, oracle=oracle if consistent else symmetrized(oracle))
    lines = [_line(id=pool.ids[one.prompt], reason=one.reason, detail=one.detail) for one in selection.left_out]
    write_text(this.folder / DROPPED, "".join(lines))
    _tell(recipe, this, selection)
    if this.number == 1:
        prompts = [pool.prompts[one.prompt] for one in selection.pairs]
        chosen, rejected = _texts(pool, selection)
        check_oracle(recipe, oracle, prompts, first=chosen, second=rejected, consistent=consistent)
    about = _provenance(recipe, this, pool, selection=selection)
    write_text(this.folder / PROVENANCE, json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    write_text(this.folder / PAIRS_FILE, "".join(_records(pool, selection)))


def draw(recipe: TrainInpo, this: Round) -> Pool:
    """The round's samples; only those that are missing are drawn."""
    folder = PoolFolder(this.folder / "samples")
    seed = content_hash("inpo", recipe.seed, this.number) % 2**32
    settings: dict[str, Setting] = {
        "policy": this.start,
        "policy_fingerprint": fingerprint_of(this.start),
        "temperature": recipe.temperature,
        "top_p": recipe.top_p,
        "max_new_tokens": recipe.max_new_tokens,
        "seed": seed,
    }
    folder.begin(settings, created_by=versions())
    if folder.missing(this.ids, recipe.drawn):
        policy = load_model_policy(
            this.start,
            label=f"policy {this.number}",
            max_new_tokens=recipe.max_new_tokens,
            temperature=recipe.temperature,
            top_p=recipe.top_p,
            token_budget=recipe.draw_budget,
            trust_remote_code=recipe.trust_remote_code,
        )
        draw_pool(folder, policy, this.prompts, ids=this.ids, samples=recipe.drawn, seed=seed, progress=True)
    return folder.read(this.ids, samples=recipe.drawn)


def _oracle(recipe: TrainInpo, this: Round, pool: Pool) -> tuple[PreferenceOracle, bool]:
    """The oracle, of which nothing is asked twice, and whether it says that its two orders agree."""
    oracle = open_oracle(recipe)
    if isinstance(oracle, RewardOracle):
        return _scored(recipe, this, pool, oracle=oracle), True
    return with_memory(recipe, oracle), says_consistent(oracle)


def _choose(recipe: TrainInpo, this: Round, pool: Pool, *, oracle: PreferenceOracle) -> PairSelection:
    if recipe.pairs == "best_worst":
        assert isinstance(oracle, RewardOracle)
        return best_worst(oracle.reward.score(pool.prompts, pool.responses).reward.reshape(pool.shape), pool.responses)
    if recipe.pairs == "iid":
        generator = np.random.default_rng([recipe.seed, this.number])
        return iid(oracle, pool.prompts, pool.responses, generator=generator)
    return tournament(oracle, pool.prompts, pool.responses)


def _scored(recipe: TrainInpo, this: Round, pool: Pool, *, oracle: RewardOracle) -> RewardOracle:
    """The same oracle, whose reward has scored the round's samples, each once, and looks them up."""
    folder, name = PoolFolder(this.folder / "samples"), oracle.name
    folder.begin_reward(name, place=recipe.oracle, fingerprint=oracle_fingerprint(recipe))
    score_folder(folder, oracle.reward, ids=this.ids, samples=recipe.drawn, progress=True)
    values = folder.read(this.ids, samples=recipe.drawn, rewards=(name,)).score(name)
    known = {
        (prompt, text): float(value)
        for prompt, texts, row in zip(pool.prompts, pool.responses, values, strict=True)
        for text, value in zip(texts, row, strict=True)
    }
    return RewardOracle(KnownReward(known, name), oracle.scale)


def _tell(recipe: TrainInpo, this: Round, selection: PairSelection) -> None:
    """Log what gives no pair; stop where nothing does.

    Raises:
        DataError: No prompt gives a pair.
    """
    reasons = ", ".join(f"{count} {reason}" for reason, count in selection.summary().items())
    path = this.folder / DROPPED
    if not selection.pairs:
        raise DataError(
            f"none of the {len(this.prompts)} prompts of round {this.number} gives a pair: {reasons}",
            file=path,
            expected="two different responses to some prompt, of which the oracle prefers one",
            cure="look at the samples beside this file: raise samples or max_new_tokens, or ask another oracle",
        )
    if reasons:
        logger.warning("round %d: %d pairs; no pair of: %s (%s)", this.number, len(selection.pairs), reasons, path)


def _texts(pool: Pool, selection: PairSelection) -> tuple[list[str], list[str]]:
    """Chosen and rejected responses."""
    groups = [(pool.responses[one.prompt], one) for one in selection.pairs]
    return [group[one.chosen] for group, one in groups], [group[one.rejected] for group, one in groups]


def _provenance(recipe: TrainInpo, this: Round, pool: Pool, *, selection: PairSelection) -> dict[str, Any]:
    return {
        "round": this.number,
        "prompts": len(pool.ids),
        "pairs": len(selection.pairs),
        "dropped": selection.summary(),
        "comparisons": selection.comparisons,
        "unfinished": float(1 - pool.finished.mean()),
        "chosen_by": recipe.pairs,
        "oracle": recipe.oracle,
        "oracle_fingerprint": oracle_fingerprint(recipe),
        "samples": recipe.drawn,
        "drawn": dict(pool.settings),
        "versions": versions(),
    }


def _records(pool: Pool, selection: PairSelection) -> Sequence[str]:
    chosen, rejected = _texts(pool, selection)
    return [
        _line(
            id=f"{pool.ids[one.prompt]}/{one.chosen + 1}-{one.rejected + 1}",
            prompt=prompt_record(pool.prompts[one.prompt]),
            chosen=good,
            rejected=bad,
        )
        for one, good, bad in zip(selection.pairs, chosen, rejected, strict=True)
    ]


def _line(**record: Any) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def read_provenance(this: Round) -> Mapping[str, Any]:
    """What the round's pairs were made of.

    Raises:
        DataError: The file is damaged.
    """
    path = this.folder / PROVENANCE
    try:
        found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        cure = f"remove {PAIRS_FILE} beside it; the same command with --resume writes both again and asks nothing twice"
        raise DataError(f"cannot be read ({type(error).__name__})", file=path, cure=cure) from error
    return found
