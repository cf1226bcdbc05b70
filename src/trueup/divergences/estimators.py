"""Values of divergences from samples of the policy: functions of `l = log pi(y) - log pi_ref(y)`, in nats.

With y drawn from pi, each mean tends to a divergence between pi and the reference:

    k1           l                              KL(pi || ref), any sign
    k2           l^2 / 2                        KL(pi || ref) up to third order in l; never negative
    k3           e^-l - 1 + l                   KL(pi || ref), never negative
    forward_kl   1 - e^-l - l e^-l              KL(ref || pi), never negative
    chi2         (e^l - 1) + (e^-l - 1)         chi2(pi || ref), never negative
    q_log        (e^((q - 1) l) - 1) / (q - 1)  Tsallis D_q(pi || ref), any sign; q = 1 is k1

provided that pi gives weight to all that the reference does: without it E[e^-l] is below 1, and with it k3 and chi2.
They are **values**. Their derivatives take the samples for fixed, and are gradients of something else: those of k3
are the gradient of KL(ref || pi), those of chi2 of chi2(pi || ref) / 2 + KL(ref || pi).

**Source** k1 to k3: Schulman (2020), Approximating KL divergence. `continued_k3` and `continued_chi2` are those of
Laidlaw, Singhal, Dragan (2025), Correlated Proxies, arXiv 2403.03185, as released.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from trueup.functional.exponential import continued_expm1

LIMIT = 10.0
"""Log-ratio beyond which an exponential goes on along its tangent, as released."""


def k1(log_ratio: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """`l`, whose mean is KL(pi || ref)."""
    return log_ratio


def k2(log_ratio: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """`l^2 / 2`, biased as a value; its derivative under fixed samples is the gradient of KL(pi || ref)."""
    return log_ratio.square() / 2


def k3(log_ratio: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """`e^-l - 1 + l`, whose mean is KL(pi || ref).

    >>> round(k3(torch.tensor(1.0)).item(), 6)
    0.367879
    """
    return torch.expm1(-log_ratio) + log_ratio


def continued_k3(log_ratio: Float[Tensor, "*n"], limit: float = LIMIT) -> Float[Tensor, "*n"]:
    """k3 whose exponential goes on along its tangent where -l exceeds `limit`."""
    return continued_expm1(-log_ratio, limit) + log_ratio


def continued_chi2(log_ratio: Float[Tensor, "*n"], limit: float = LIMIT) -> Float[Tensor, "*n"]:
    """`(e^l - 1) + (e^-l - 1)`, each exponential along its tangent beyond `limit`; its mean is chi2(pi || ref)."""
    return continued_expm1(log_ratio, limit) + continued_expm1(-log_ratio, limit)


def forward_kl(log_ratio: Float[Tensor, "*n"], limit: float = LIMIT) -> Float[Tensor, "*n"]:
    """`1 - u - l u` with `u = e^-l`, whose mean is KL(ref || pi); u goes on along its tangent beyond `limit`.

    >>> round(forward_kl(torch.tensor(1.0)).item(), 6)
    0.264241
    """
    above = continued_expm1(-log_ratio, limit)
    return -above - log_ratio * (1 + above)


def q_log(log_ratio: Float[Tensor, "*n"], *, index: float, limit: float = LIMIT) -> Float[Tensor, "*n"]:
    """`(e^((q - 1) l) - 1) / (q - 1)`, whose mean is Tsallis D_q(pi || ref); l itself at q = 1.

    Args:
        log_ratio: l.
        index: q above; 2 gives `e^l - 1`.
        limit: The exponential goes on along its tangent where (q - 1) l exceeds it.
    """
    if index == 1:
        return log_ratio
    return continued_expm1((index - 1) * log_ratio, limit) / (index - 1)
