"""Policies of listed responses are distributions, and batches of them what objectives expect."""

import pytest
import torch

from trueup.lab.games.responders import Speller, Table, Tree, batch_of, now, soup, spellings, whole
from trueup.objectives.preference.dpo import DPO
from trueup.types import PolicyObjective


def speller(*seeds):
    return Speller(letters=3, length=3, width=5, seeds=seeds)


@pytest.mark.parametrize(
    "policy",
    [Table(torch.randn(2, 27, dtype=torch.float64)), Tree(prompts=2, first=3, second=9), speller(0, 1)],
    ids=["table", "tree", "speller"],
)
def test_probabilities_of_all_responses_sum_to_one(policy):
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1 * torch.arange(parameter.numel()).view_as(parameter).sin())
    tokens = now(policy)
    assert tokens.shape[:2] == (2, 27)
    assert torch.allclose(whole(tokens).exp().sum(1), torch.ones(2, dtype=torch.float64))
    assert not tokens.requires_grad
    assert policy().requires_grad


def test_the_tokens_of_a_speller_depend_on_what_stands_before_alone():
    tokens, letters = now(speller(3))[0], spellings(3, 3)
    for place in range(3):
        for beginning in letters[:, : place + 1].unique(dim=0):
            same = (letters[:, : place + 1] == beginning).all(1)
            assert len(tokens[same, place].unique()) == 1
    # What comes next after one beginning is a distribution.
    after = (letters[:, 0] == 1) & (letters[:, 2] == 0)
    assert tokens[after, 1].exp().sum().item() == pytest.approx(1.0)


def test_spellers_side_by_side_are_the_spellers_alone():
    assert torch.allclose(now(speller(4, 5))[1], now(speller(5))[0])


def test_a_tree_by_hand():
    tree = Tree(prompts=1, first=2, second=2)
    with torch.no_grad():
        tree.first[0, 0] = torch.log(torch.tensor(3.0))
        tree.second[0, 1, 1] = torch.log(torch.tensor(4.0))
    assert whole(now(tree)).exp().tolist()[0] == pytest.approx([3 / 8, 3 / 8, 1 / 20, 1 / 5])


def test_a_batch_is_what_objectives_expect():
    """DPO on two responses of two tokens, by hand: margins of log-ratios 0.3 and -0.1."""
    tokens = torch.tensor([[-1.0, -0.5], [-2.0, -0.2]], dtype=torch.float64)
    reference = torch.tensor([[-1.2, -0.6], [-2.0, -0.1]], dtype=torch.float64)
    term: PolicyObjective = DPO(beta=1.0)
    batch = batch_of(tokens, prompt=torch.zeros(2, dtype=torch.long), pairs=torch.tensor([[0, 1]]), reference=reference)
    assert term(batch, {}).values.item() == pytest.approx(torch.log1p(torch.exp(torch.tensor(-0.4))).item(), rel=1e-6)
    advantage = torch.tensor([1.0, 2.0], dtype=torch.float64)
    batch = batch_of(tokens, prompt=torch.zeros(2, dtype=torch.long), advantage=advantage)
    assert batch.advantage.tolist() == [1.0, 1.0, 2.0, 2.0]


def test_a_soup_of_tables_is_the_product_of_their_policies():
    first, second = (Table(torch.randn(1, 4, dtype=torch.float64)) for _ in range(2))
    mixed = whole(now(soup([first, second], [0.3, 0.7], into=Table(torch.zeros(1, 4, dtype=torch.float64)))))
    expected = (0.3 * whole(now(first)) + 0.7 * whole(now(second))).log_softmax(1)
    assert torch.allclose(mixed, expected)
