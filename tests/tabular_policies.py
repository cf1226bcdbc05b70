"""Policies over three tokens, all of whose responses can be listed.

Each next-token distribution is (1/2, 1/4, 1/4) in some order, so that a list with as many copies of each response as
its probability asks for is a batch whose mean is the exact expectation.
"""

import itertools
from dataclasses import dataclass

import torch

from trueup.types import PolicyBatch

TOKENS = 3
END = 2


def responses(longest, *, ends):
    """All responses: of exactly so many tokens, or also shorter ones that token 2 ends."""
    full = itertools.product(range(TOKENS), repeat=longest)
    if not ends:
        return list(full)
    cut = {text[: text.index(END) + 1] if END in text else text for text in full}
    return sorted(cut)


@dataclass(frozen=True)
class Tabular:
    """One row of logits for each prefix."""

    texts: list
    prefixes: list
    logits: torch.Tensor
    reference: torch.Tensor

    @classmethod
    def make(cls, longest=3, *, ends=True, seed=0):
        texts = responses(longest, ends=ends)
        prefixes = sorted({text[:i] for text in texts for i in range(len(text))})
        generator = torch.Generator().manual_seed(seed)
        base = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
        rows = [base[torch.randperm(TOKENS, generator=generator)] for _ in prefixes]
        other = torch.randn(len(prefixes), TOKENS, generator=generator, dtype=torch.float64)
        return cls(texts, prefixes, torch.stack(rows).log().requires_grad_(), other.log_softmax(-1))

    @property
    def policy(self):
        """Log-probabilities of the next token after each prefix."""
        return self.logits.log_softmax(-1)

    def sequence(self, table):
        """Log-probability of each response under a table of next-token log-probabilities."""
        return torch.stack([sum(table[self.prefixes.index(t[:i]), t[i]] for i in range(len(t))) for t in self.texts])

    def visits(self):
        """Probability that a response comes past each prefix; not differentiated."""
        mass = self.sequence(self.policy).exp().detach()
        return torch.stack(
            [
                sum(m for m, t in zip(mass, self.texts, strict=True) if len(t) > len(p) and t[: len(p)] == p)
                for p in self.prefixes
            ]
        )

    def copies(self):
        """Numbers of responses, each as often as its probability says."""
        longest = max(len(text) for text in self.texts)
        count = (self.sequence(self.policy).exp().detach() * 4**longest).round().long()
        return torch.arange(len(self.texts)).repeat_interleave(count)

    def batch(self, drawn, prompt=None, *, reward=None, beta=0.0, baseline=None):
        """The batch of the given responses; `reward` is by response, `baseline` by prefix."""
        texts = [self.texts[i] for i in drawn.tolist()]
        at = torch.tensor([self.prefixes.index(t[:i]) for t in texts for i in range(len(t))])
        token = torch.tensor([x for t in texts for x in t])
        length = torch.tensor([len(t) for t in texts])
        policy = self.policy
        logprob, reference = policy[at, token], self.reference[at, token]
        reward = torch.zeros(len(self.texts), dtype=torch.float64) if reward is None else reward
        earned = -beta * (logprob - reference).detach()
        earned[length.cumsum(0) - 1] += reward[drawn]
        value = None if baseline is None else baseline[at]
        return PolicyBatch(
            logprob=logprob,
            branch=torch.arange(len(texts)).repeat_interleave(length),
            prompt=torch.arange(len(texts)) if prompt is None else prompt,
            behaviour=logprob.detach(),
            reference=reference,
            reward=reward[drawn],
            token_reward=earned,
            value=value,
            old_value=value,
            entropy=-(policy.exp() * policy).sum(-1)[at],
            forward_kl=(self.reference.exp() * (self.reference - policy)).sum(-1)[at],
        )

    def pairs(self, **settings):
        """Every ordered pair of draws as a prompt of its own."""
        drawn = self.copies()
        both = torch.cartesian_prod(drawn, drawn).flatten()
        return self.batch(both, torch.arange(len(both)) // 2, **settings)

    def gradient(self, value):
        """Derivative by the logits."""
        return torch.autograd.grad(value, self.logits, retain_graph=True)[0]


def loss_of(term, batch):
    """A term's values for a batch that is a whole step, without the entries that are masked."""
    stats = term.statistics(batch) if hasattr(term, "statistics") else {}
    loss = term(batch, stats)
    return loss.values if loss.mask is None else loss.values[loss.mask]
