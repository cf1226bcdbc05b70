"""Expected values and gradients of regularisers, over every response of a small policy, against exact divergences."""

import pytest
import torch

from tabular_policies import Tabular, loss_of
from trueup.objectives import (
    ChiSquared,
    EntropyBonus,
    ForwardKL,
    ForwardKLk3,
    ForwardKLPrior,
    ReleasedChiSquared,
    ReleasedKL,
    ReleasedSqrtChiSquared,
    ReverseKL,
    ReverseKLk2,
    ReverseKLToGo,
    SqrtChiSquared,
    Tsallis,
)

CLOSE = {"atol": 1e-12, "rtol": 1e-9}


@pytest.fixture
def policy():
    return Tabular.make(3)


@pytest.fixture
def equally_long():
    return Tabular.make(2, ends=False)


def reverse_kl(p, q):
    return (p.exp() * (p - q)).sum()


def forward_kl(p, q):
    return (q.exp() * (q - p)).sum()


def chi2(p, q):
    return ((p.exp() - q.exp()) ** 2 / q.exp()).sum()


def tsallis(index):
    return lambda p, q: ((p.exp() ** index * q.exp() ** (1 - index)).sum() - 1) / (index - 1)


SEQUENCES = [
    (ReverseKL(coefficient=0.5), reverse_kl, reverse_kl),
    (ReverseKLToGo(coefficient=0.5), reverse_kl, reverse_kl),
    (Tsallis(coefficient=0.5, index=1), reverse_kl, reverse_kl),
    (ForwardKL(coefficient=0.5), forward_kl, forward_kl),
    (ChiSquared(coefficient=0.5), chi2, chi2),
    (Tsallis(coefficient=0.5, index=2), chi2, chi2),
    (Tsallis(coefficient=0.5, index=0.5), tsallis(0.5), tsallis(0.5)),
    (SqrtChiSquared(coefficient=0.5), lambda p, q: chi2(p, q).sqrt(), lambda p, q: chi2(p, q).sqrt()),
    (ReleasedKL(coefficient=0.5), reverse_kl, forward_kl),
    (ReleasedChiSquared(coefficient=0.5), chi2, lambda p, q: chi2(p, q) / 2 + forward_kl(p, q)),
    (
        ReleasedSqrtChiSquared(coefficient=0.5),
        lambda p, q: chi2(p, q).sqrt(),
        lambda p, q: (chi2(p, q) / 2 + forward_kl(p, q)) / (2 * chi2(p, q).sqrt().detach()),
    ),
]


@pytest.mark.parametrize(("term", "value", "descends"), SEQUENCES, ids=lambda x: type(x).__name__)
def test_of_whole_responses(policy, term, value, descends):
    """The second column is what a term's value estimates, the third what its gradient descends."""
    p, q = policy.sequence(policy.policy), policy.sequence(policy.reference)
    found = loss_of(term, policy.batch(policy.copies())).mean()
    assert found.item() == pytest.approx(0.5 * value(p, q).item())
    assert torch.allclose(policy.gradient(found), 0.5 * policy.gradient(descends(p, q)), **CLOSE)


@pytest.mark.parametrize("term", [ReleasedKL(), ReleasedChiSquared()])
def test_released_terms_do_not_descend_what_they_are_named_after(policy, term):
    p, q = policy.sequence(policy.policy), policy.sequence(policy.reference)
    named = reverse_kl(p, q) if isinstance(term, ReleasedKL) else chi2(p, q)
    found = policy.gradient(loss_of(term, policy.batch(policy.copies())).mean()) / term.coefficient
    assert (found - policy.gradient(named)).abs().max() > 0.05


def test_differentiating_k1_holds_nothing(policy):
    batch = policy.batch(policy.copies())
    assert policy.gradient((batch.logprob - batch.reference).sum()).abs().max() < 1e-12


def test_reward_to_go_varies_less(policy):
    """Same expected gradient, smaller spread over responses, in total over the logits."""

    def spread(term):
        rows = []
        for i in range(len(policy.texts)):
            rows.append(policy.gradient(loss_of(term, policy.batch(torch.tensor([i]))).sum()))
        table, mass = torch.stack(rows), policy.sequence(policy.policy).exp().detach()
        mean = (mass[:, None, None] * table).sum(0)
        return (mass[:, None, None] * (table - mean) ** 2).sum()

    assert spread(ReverseKLToGo()) < 0.95 * spread(ReverseKL())


def next_token(policy, function):
    """Expected sum over tokens of a function of next-token distributions, visits held fixed."""
    rows = [function(p, q) for p, q in zip(policy.policy, policy.reference, strict=True)]
    return (policy.visits() * torch.stack(rows)).sum()


def test_k2_descends_the_next_tokens_kl_with_prefixes_held_fixed(policy):
    batch = policy.batch(policy.copies())
    found = policy.gradient(loss_of(ReverseKLk2(coefficient=1), batch).sum() / len(batch.prompt))
    assert torch.allclose(found, policy.gradient(next_token(policy, reverse_kl)), **CLOSE)
    p, q = policy.sequence(policy.policy), policy.sequence(policy.reference)
    assert (found - policy.gradient(reverse_kl(p, q))).abs().max() > 0.01


def test_k3_reads_the_reverse_and_descends_the_forward_kl_of_the_next_token(equally_long):
    policy = equally_long
    found = loss_of(ForwardKLk3(coefficient=1), policy.batch(policy.copies())).mean()
    assert 2 * found.item() == pytest.approx(next_token(policy, reverse_kl).item())
    assert torch.allclose(2 * policy.gradient(found), policy.gradient(next_token(policy, forward_kl)), **CLOSE)
    assert (2 * policy.gradient(found) - policy.gradient(next_token(policy, reverse_kl))).abs().max() > 0.01


def test_the_prior_is_the_next_tokens_forward_kl(equally_long):
    policy = equally_long
    found = loss_of(ForwardKLPrior(coefficient=1), policy.batch(policy.copies())).mean()
    assert 2 * found.item() == pytest.approx(next_token(policy, forward_kl).item())
    assert torch.allclose(2 * policy.gradient(found), policy.gradient(next_token(policy, forward_kl)), **CLOSE)


def test_the_priors_gradient_at_a_token_is_the_difference_of_distributions(policy):
    """`(p_theta - p_0) / n` for each of a response's n tokens."""
    text = next(i for i, t in enumerate(policy.texts) if len(t) == 3)
    found = policy.gradient(loss_of(ForwardKLPrior(coefficient=1), policy.batch(torch.tensor([text]))).sum())
    expected = torch.zeros_like(found)
    for i in range(3):
        row = policy.prefixes.index(policy.texts[text][:i])
        expected[row] = (policy.policy[row].exp() - policy.reference[row].exp()).detach() / 3
    assert torch.allclose(found, expected, **CLOSE)


def test_the_entropy_bonus_raises_next_token_entropies(policy):
    batch = policy.batch(policy.copies())
    found = loss_of(EntropyBonus(coefficient=1), batch).sum() / len(batch.prompt)
    exact = next_token(policy, lambda p, q: -(p.exp() * p).sum())
    assert found.item() == pytest.approx(-exact.item())
    assert torch.allclose(policy.gradient(found), -policy.gradient(exact), **CLOSE)


def test_chain_rule_of_the_enumeration_itself(policy):
    """The KL of responses is the visited next-token KLs' sum: the two ways of listing agree."""
    p, q = policy.sequence(policy.policy), policy.sequence(policy.reference)
    assert reverse_kl(p, q).item() == pytest.approx(next_token(policy, reverse_kl).item())
    assert p.exp().sum().item() == pytest.approx(1)
    assert len(policy.copies()) == 64
