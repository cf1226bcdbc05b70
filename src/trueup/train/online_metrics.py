"""What is logged of rollouts, and what a user should be warned of."""

from collections.abc import Iterator

import torch

from trueup.functional.segments import branch_sum
from trueup.train.collecting import Collected
from trueup.train.step import Tally

# Nats per token between an engine's and the policy's log-probabilities; half precision alone makes a tenth of it.
_FAR = 0.2


def observe(tally: Tally, found: Collected, *, samples: int) -> None:
    """Record a rollout under the names that other frameworks' panels know."""
    batch, reward = found.batch, found.scores
    groups = reward.view(-1, samples)
    assert batch.finished is not None
    lengths = torch.bincount(batch.branch, minlength=len(reward)).double()
    tally.add("reward", reward)
    tally.add("rollout_reward_square", reward**2)
    tally.add("frac_reward_zero_std", (groups.amax(1) == groups.amin(1)).double())
    tally.add("completions/mean_length", lengths)
    tally.add("completions/clipped_ratio", (~batch.finished).double())
    tally.add("surprise", -batch.logprob)
    if batch.reference is not None:
        tally.add("kl", sequence_kl(found))
    for name, seconds in found.seconds.items():
        tally.add(f"seconds/{name}", torch.tensor([seconds]))
    if found.engine_gap is not None:
        tally.add("engine_gap", found.engine_gap)


def sequence_kl(found: Collected) -> torch.Tensor:
    """k1 of each sequence: the sum of its log-ratios to the reference, in nats."""
    batch = found.batch
    assert batch.reference is not None
    assert batch.behaviour is not None
    ratio = (batch.behaviour - batch.reference).double()
    return branch_sum(ratio, batch.branch, len(found.scores))


def warnings_of(found: Collected, *, samples: int, max_new_tokens: int) -> Iterator[str]:
    """What is wrong with a rollout, and what to do about it."""
    groups = found.scores.view(-1, samples)
    assert found.batch.finished is not None
    if not bool(found.batch.finished.any()):
        yield (
            f"all {len(found.scores)} responses were cut at {max_new_tokens} tokens, so none was judged whole; "
            "raise max_new_tokens, or check that the policy's end-of-sequence token is the one it was trained with"
        )
    if samples > 1 and bool((groups.amax(1) == groups.amin(1)).all()):
        yield (
            "the responses of every prompt have equal rewards, so there is nothing to learn from; raise the "
            "temperature or samples, or use a reward that tells them apart"
        )
    gap = found.engine_gap
    if gap is not None and len(gap) and float(gap.mean()) > _FAR:
        yield (
            f"the rollout engine's log-probabilities are {float(gap.mean()):.2f} nats from the policy's on average: it "
            "does not compute with the policy's weights, or too coarsely; try its dtype float32, or draw without it"
        )
    if found.batch.reference is not None:
        kl = sequence_kl(found)
        mean, error = float(kl.mean()), float(kl.std() / max(len(kl), 2) ** 0.5)
        if mean < -3 * error and mean < -1e-3:
            yield (
                f"the KL to the reference is {mean:.3f} nats on average, which no true KL can be: responses are drawn "
                "from another distribution than is compared (temperature, top_p or a truncated vocabulary)"
            )
