"""Scale policies and trunks: small language models of the world's text, made once and kept by what they are made of."""

import hashlib
import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback

from trueup.data.rows import Row, prompt_text
from trueup.files import PARTIAL, cache_folder, move_into_place, write_text
from trueup.lab.fitting import Fit, fit_policy
from trueup.lab.scale_models import Shape, write_scale_model
from trueup.lab.world import CORE_FAMILIES, TRAINING_WRITERS, World, WorldPrompt
from trueup.lab.world.grammar import Grammar
from trueup.models.policy_checkpoints import save_policy
from trueup.policies.model import ModelPolicy, load_model_policy

logger = logging.getLogger(__name__)

# Raised when the same plan would give another policy.
_VERSION = 1
_TEST_SEED = 90_001
_CONTINUED_SEED = 95_001

FAMILIES = tuple(name for name in CORE_FAMILIES if name != "arithmetic")
"""A policy of this size never learns to multiply."""

WRITERS = tuple(name for name in TRAINING_WRITERS if name != "off_topic")


@dataclass(frozen=True, kw_only=True)
class PolicyPlan:
    """What a scale policy is made of.

    Args:
        world: Seed of the world.
        prompts: Prompts it learns from.
        responses: Answers to each.
        families: Families of the prompts.
        writers: Who answers them.
        shape: Size of the model.
        fit: How it is trained.
        seed: Seed of the text, the weights and the order.
    """

    world: int = 0
    prompts: int = 16_000
    responses: int = 3
    families: tuple[str, ...] = FAMILIES
    writers: tuple[str, ...] = WRITERS
    shape: Shape = field(default_factory=lambda: Shape(vocabulary=2600, width=96, layers=3, heads=4, positions=512))
    fit: Fit = field(default_factory=lambda: Fit(learning_rate=4e-3, batch_size=8, epochs=2.0, weight_decay=0.01))
    seed: int = 0

    @property
    def key(self) -> str:
        """Name of everything that the finished policy depends on."""
        text = json.dumps([_VERSION, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def text_seed(self) -> int:
        """Seed of the text."""
        return self.seed

    def rows(self) -> list[Row]:
        """The demonstrations."""
        asked = self.own_prompts()
        return World(self.world).answer(asked, responses=self.responses, writers=self.writers, seed=self.text_seed)

    def own_prompts(self) -> list[WorldPrompt]:
        """The prompts of the demonstrations."""
        return World(self.world).prompts(self.prompts, families=self.families, seed=self.text_seed)

    def seen(self) -> frozenset[str]:
        """Texts of all prompts that the finished policy has learned from."""
        return frozenset(one.text for one in self.own_prompts())


@dataclass(frozen=True, kw_only=True)
class ContinuedPlan(PolicyPlan):
    """A policy fine-tuned from the one of another plan: those of one world differ by `seed`, the order of the text.

    Args:
        base: What it is fine-tuned from; its world and seeds are replaced by this plan's world.
    """

    base: PolicyPlan = field(default_factory=PolicyPlan)

    @property
    def start(self) -> PolicyPlan:
        """The policy that training begins from, the same for every seed."""
        return replace(self.base, world=self.world, seed=self.world)

    @property
    def text_seed(self) -> int:
        """The same for every seed, so that policies differ by the order alone.

        Prompts may be ones that the start has answered: small families have few others, and would be forgotten.
        """
        return _CONTINUED_SEED + self.world

    def seen(self) -> frozenset[str]:
        """Those of the start as well."""
        return super().seen() | self.start.seen()


def build_policy(plan: PolicyPlan, *, folder: Path | None = None, callbacks: Sequence[TrainerCallback] = ()) -> Path:
    """Make a policy, or find the one that was made from the same plan.

    Args:
        plan: What it is made of.
        folder: Where policies are kept; the user's cache folder by default.
        callbacks: Callbacks of the training, such as a progress bar.

    Returns:
        Folder of an ordinary checkpoint, with `quality.json` beside the weights.
    """
    home = folder or cache_folder() / "lab" / "policies"
    target = home / plan.key
    if all((target / name).is_file() for name in ("quality.json", "model.safetensors", "tokenizer.json")):
        logger.info("a policy of this recipe was built before: %s", target)
        return target
    home.mkdir(parents=True, exist_ok=True)
    rows = plan.rows()
    # A name of its own: other processes may be building other policies here, or the same one.
    with tempfile.TemporaryDirectory(dir=home, prefix=f"{PARTIAL}-", ignore_cleanup_errors=True) as temporary:
        done, start = Path(temporary) / "done", plan.start if isinstance(plan, ContinuedPlan) else None
        base = build_policy(start, folder=home) if start else _blank(rows, plan.shape, Path(temporary) / "base")
        made = fit_policy(rows, base, fit=plan.fit, seed=plan.seed, from_scratch=start is None, callbacks=callbacks)
        save_policy(done, made.model, tokenizer=made.tokenizer, form=made.form, provenance={"plan": asdict(plan)})
        quality = measure_quality(load_scale_policy(done), plan)
        write_text(done / "quality.json", json.dumps(quality, indent=2) + "\n")
        move_into_place(done, target)
    return target


def _blank(rows: Sequence[Row], shape: Shape, folder: Path) -> Path:
    """A tokenizer of this text and a configuration, without weights."""
    texts = (f"{prompt_text(row.prompt)}\n{one.text}" for row in rows[:4000] for one in row.responses)
    write_scale_model(folder, texts, shape=shape)
    return folder


def load_scale_policy(folder: Path, *, max_new_tokens: int = 64, progress: bool = False) -> ModelPolicy:
    """A built policy that draws at temperature 1."""
    return load_model_policy(str(folder), max_new_tokens=max_new_tokens, progress=progress)


def measure_quality(policy: ModelPolicy, plan: PolicyPlan, *, prompts: int = 100, samples: int = 8) -> dict[str, Any]:
    """How good samples are on prompts that training has not seen: gold, grammar, length, how many end themselves."""
    world = World(plan.world)
    asked = world.prompts(prompts, families=plan.families, seed=_TEST_SEED, exclude=plan.seen())
    drawn = policy.sample([one.text for one in asked], samples, seed=0)
    gold = np.asarray([[world.gold(p.text, one.text) for one in group] for p, group in zip(asked, drawn, strict=True)])
    flat = [one for group in drawn for one in group]
    grammar = Grammar.of_world(world)
    return {
        "parameters": sum(p.numel() for p in policy.checkpoint.model.parameters()),
        "gold_mean": float(gold.mean()),
        "gold_std": float(gold.std()),
        "gold_std_within_prompt": float(gold.std(axis=1).mean()),
        "grammatical_sentences": grammar.rate([one.text for one in flat]),
        "ended": float(np.mean([one.finished for one in flat])),
        "mean_tokens": float(np.mean([one.tokens for one in flat])),
        "prompts": prompts,
        "samples": samples,
        "sampling": asdict(policy.sampling),
    }
