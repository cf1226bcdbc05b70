"""Online optimisation of a policy in one process, or as one of two: `python online_worker.py FOLDER`."""

import json
import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tiny_policies import tiny_policy
from tiny_training import FORM, TOKENIZER, arguments
from trueup.endpoints.failure import EndpointError
from trueup.models.generation import Sampling
from trueup.objectives.policy.ppo import PPO
from trueup.objectives.policy.rloo import RLOO
from trueup.objectives.policy.value_loss import ValueLoss
from trueup.policies.model import ModelPolicy
from trueup.rewards.function import FunctionReward
from trueup.train.online_trainer import OnlineTrainer
from trueup.train.prompt_order import Rhythm
from trueup.train.references import ModelReference
from trueup.train.watching import GoldMonitor, WatchSettings

PROMPTS = [f"{'much longer ' * (i % 3)}prompt number {i}" for i in range(9)]
LENGTH = FunctionReward(lambda prompts, completions: [float(len(text) % 7) for text in completions], "length")


class FailsOnOneDevice:
    """A reward whose server answers all devices but one."""

    name = "failing"

    def __init__(self, rank: int, *, on: int) -> None:
        self.rank, self.on, self.asked = rank, on, 0

    def score(self, prompts, responses):
        self.asked += 1
        if self.asked == 2 and self.rank == self.on:
            raise EndpointError("no answer", url="http://reward", attempts=2)
        return LENGTH.score(prompts, responses)


def reference() -> ModelReference:
    """Another policy than the one that is trained."""
    model = tiny_policy("gpt2", vocab_size=len(TOKENIZER), sharing="trees")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return ModelReference(model, token_budget=120)


def build(folder: Path, reward, **changes) -> OnlineTrainer:
    """Three prompts a step, so that two devices have unequal work."""
    settings = {"terms": (RLOO(),), "rhythm": Rhythm(prompts=3, samples=3), "max_steps": 2} | changes
    return OnlineTrainer(
        tiny_policy("gpt2", vocab_size=len(TOKENIZER), sharing="trees"),
        arguments(folder, max_steps=settings.pop("max_steps")),
        prompts=PROMPTS,
        reward=reward,
        sampling=Sampling(max_new_tokens=6),
        tokenizer=TOKENIZER,
        form=FORM,
        token_budget=120,
        reference=reference(),
        kl_coefficient=0.3,
        **settings,
    )


SCENARIOS = {
    "rloo": {},
    "ppo": {
        "terms": (PPO(), ValueLoss()),
        "rhythm": Rhythm(prompts=6, samples=2, passes=2, minibatches=2),
        "max_steps": 5,
    },
}


def run(folder: Path, *, rank: int = 0) -> None:
    """Every scenario; weights and logs."""
    for name, settings in SCENARIOS.items():
        trainer = build(folder / name, LENGTH, **settings)
        trainer.train()
        torch.save(trainer.accelerator.get_state_dict(trainer.model), folder / f"{name}-{rank}.pt")
        (folder / f"{name}-{rank}.json").write_text(json.dumps(trainer.state.log_history))


def fail(folder: Path, *, rank: int) -> None:
    """A reward that fails on one of the devices, and gold that fails on the only one that asks it."""
    rewarded = build(folder / "failed", FailsOnOneDevice(rank, on=1), max_steps=3)
    _say_how_it_ends(rewarded, folder / f"failed-{rank}.json")
    watched = build(folder / "blind", LENGTH, max_steps=3)
    sample = ModelPolicy(checkpoint=watched.collector.policy.checkpoint, name="p", sampling=Sampling(max_new_tokens=6))
    gold = FailsOnOneDevice(rank, on=0)
    settings = WatchSettings(every=1, samples=1)
    GoldMonitor(sample.sample, PROMPTS[:2], proxy=LENGTH, gold=gold, folder=folder, settings=settings).attach(watched)
    _say_how_it_ends(watched, folder / f"blind-{rank}.json")


def _say_how_it_ends(trainer: OnlineTrainer, path: Path) -> None:
    try:
        trainer.train()
    except Exception as error:
        path.write_text(json.dumps([type(error).__name__, str(error)]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]), rank=int(os.environ["RANK"]))
    fail(Path(sys.argv[1]), rank=int(os.environ["RANK"]))
