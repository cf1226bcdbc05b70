"""A discriminator between two policies' visits, whose logit estimates the log-ratio of their occupancies.

    min_d  E_mu[softplus(-d)] + E_reference[softplus(d)]   is solved by   d = log(mu / mu_reference);
    then KL = E_mu[d] and chi2 = E_mu[exp(d) - 1].

In a table the solution is known; it is learned by gradient steps all the same, as with samples what matters is how far
learning has come: where one side was never seen the logit goes on growing.

**Source** Laidlaw, Singhal, Dragan (2025), arXiv 2403.03185.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus


def discriminator_loss(
    logit: Float[Tensor, "*b s a"], mu: Float[Tensor, "*b s a"], reference: Float[Tensor, "*b s a"]
) -> Float[Tensor, "*b"]:
    """Logistic loss, nats; `2 log 2` for a logit of 0.

    Args:
        logit: d of each pair.
        mu: The policy's distribution, exact or as frequencies of samples.
        reference: The reference's, likewise.
    """
    return (mu * softplus(-logit) + reference * softplus(logit)).sum((-2, -1))


@dataclass
class Discriminator:
    """A table of logits and its optimiser.

    Args:
        logit: The table, or a batch of them.
        learning_rate: Of Adam.
    """

    logit: Float[Tensor, "*b s a"]
    learning_rate: float = 0.1

    def __post_init__(self) -> None:
        self.logit = self.logit.clone().requires_grad_()
        self._optimizer = torch.optim.Adam([self.logit], lr=self.learning_rate)

    def learn(
        self, mu: Float[Tensor, "*b s a"], reference: Float[Tensor, "*b s a"], *, steps: int
    ) -> Float[Tensor, "*b"]:
        """Take gradient steps; returns the loss before the last."""
        loss = discriminator_loss(self.logit.detach(), mu, reference)
        for _ in range(steps):
            self._optimizer.zero_grad()
            loss = discriminator_loss(self.logit, mu, reference)
            loss.sum().backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
        return loss.detach()


def frequencies(mu: Float[Tensor, "*b s a"], samples: int, *, generator: torch.Generator) -> Float[Tensor, "*b s a"]:
    """Relative frequencies of independent visits, as at geometrically distributed times of rollouts."""
    flat = mu.detach().flatten(-2)
    drawn = torch.multinomial(flat.reshape(-1, flat.shape[-1]), samples, replacement=True, generator=generator)
    counts = torch.zeros(len(drawn), flat.shape[-1], dtype=mu.dtype)
    counts.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=mu.dtype))
    return (counts / samples).reshape(mu.shape)
