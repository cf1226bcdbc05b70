"""Decision processes, boards and gardens: what follows from their rules by hand."""

import pytest
import torch

from trueup.divergences.occupancy import normalized_return
from trueup.lab.tabular.gridworld import Board, arrivals, gridworld, reachable, varied_board
from trueup.lab.tabular.mdp import Mdp, explorative, optimal_return, soft_optimal
from trueup.lab.tabular.tomato import MAP, Garden, tomato_world, varied_garden

UP, DOWN, LEFT, RIGHT, STAY = range(5)


def one_state(rewards):
    """A bandit: whatever is done leads back."""
    reward = torch.tensor([rewards], dtype=torch.float64)
    return Mdp(
        transition=torch.ones(1, len(rewards), 1).double(),
        start=torch.ones(1).double(),
        gamma=0.9,
        true=reward,
        proxy=reward,
    )


# Processes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": torch.ones(2).double()}, r"start must have shape \(1,\), got \(2,\)"),
        ({"proxy": torch.ones(1, 3).double()}, "proxy must have shape"),
        ({"transition": torch.full((1, 2, 1), 0.5).double()}, "transition must hold probabilities that sum to one"),
        ({"start": -torch.ones(1).double()}, "start must hold probabilities"),
    ],
)
def test_what_is_not_a_process_is_refused(change, message):
    fields = {name: getattr(one_state([0.0, 1.0]), name) for name in ("transition", "start", "gamma", "true", "proxy")}
    with pytest.raises(ValueError, match=message):
        Mdp(**{**fields, **change})


def test_a_bandit_s_soft_optimum_is_a_softmax():
    rewards = [0.0, 0.3, 1.0]
    expected = torch.softmax(torch.tensor([rewards]).double() / 0.2, -1)
    assert torch.allclose(soft_optimal(one_state(rewards), temperature=0.2), expected)
    with pytest.raises(ValueError, match="temperature must be positive"):
        soft_optimal(one_state(rewards), temperature=0.0)


def test_a_cold_soft_optimum_is_the_optimum():
    mdp = gridworld().mdp
    cold = soft_optimal(mdp, temperature=1e-3)
    assert float(normalized_return(mdp.occupancy(cold), mdp.true)) == pytest.approx(optimal_return(mdp), abs=1e-6)


def test_exploration_is_a_mixture():
    policy = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).double()
    assert explorative(policy, share=0.2).tolist() == [pytest.approx([0.85, 0.05, 0.05, 0.05])]


# The board


def test_moves_stop_at_walls_and_edges():
    cells = ((0, 0), (0, 1), (1, 1))
    assert arrivals(cells).tolist() == [[0, 0, 0, 1, 0], [1, 2, 0, 1, 1], [1, 2, 2, 2, 2]]


def test_returns_of_the_standard_board():
    """The nearest goal is six steps away: paid from the sixth on. The trap is four steps away and pays 2."""
    mdp = gridworld().mdp
    assert mdp.shape == (25, 5)
    assert optimal_return(mdp) == pytest.approx(0.95**5)
    straight = torch.zeros(25, 5).double()
    straight[:, DOWN] = 1
    mu = mdp.occupancy(straight)
    assert float(normalized_return(mu, mdp.proxy)) == pytest.approx(2 * 0.95**3)
    assert float(normalized_return(mu, mdp.true)) == 0


def test_the_proxy_correlates_almost_perfectly():
    quality = gridworld().quality
    assert quality.correlation == pytest.approx(0.998, abs=0.002)
    assert quality.sigma_proxy == pytest.approx(0.48, abs=0.01)


def test_slipping_goes_anywhere():
    transition = gridworld(Board(slip=0.2)).mdp.transition
    assert transition[12, STAY].nonzero().flatten().tolist() == [7, 11, 12, 13, 17]
    assert float(transition[12, UP, 7]) == pytest.approx(0.8 + 0.05)
    assert float(transition[12, STAY, 12]) == pytest.approx(0.8)


@pytest.mark.parametrize("seed", range(20))
def test_varied_boards_can_be_walked(seed):
    board = varied_board(seed)
    assert reachable(board.cells, (0, 0)) == set(board.cells)
    assert board == varied_board(seed)
    assert (board == Board()) == (seed == 0)
    problem = gridworld(board)
    assert problem.reference.min() > 0
    assert problem.quality.correlation > 0.9


# The garden


def test_arriving_waters_and_distance_dries():
    garden = Garden(drying=0.25)
    first, second, third = garden.plants
    assert garden.arrive(first, frozenset()) == {(first, frozenset({0})): 1.0}
    far = garden.arrive(garden.bucket, frozenset({0, 1}))
    assert {len(wet): 0.0 for _, wet in far} == {0: 0.0, 1: 0.0, 2: 0.0}
    assert far[garden.bucket, frozenset()] == pytest.approx(0.25**2)
    assert far[garden.bucket, frozenset({0, 1})] == pytest.approx(0.75**2)
    assert garden.arrive(second, frozenset({2})).keys() >= {(second, frozenset({1}))}
    assert len({first, second, third}) == 3


def test_a_near_tomato_stays_wet():
    garden = Garden(reach=10.0)
    assert garden.arrive(garden.bucket, frozenset({0, 1, 2})) == {(garden.bucket, frozenset({0, 1, 2})): 1.0}


def test_the_bucket_looks_like_wet_tiles_everywhere():
    problem = tomato_world()
    garden, mdp = Garden(), problem.mdp
    claims = sorted(set(mdp.proxy[mdp.proxy != mdp.true].tolist()))
    assert claims == pytest.approx([len(garden.tiles) / 3])
    assert len(garden.tiles) == sum(mark != "#" for line in MAP for mark in line)
    assert sorted(set(mdp.true.flatten().tolist())) == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_states_are_those_that_can_come_about():
    """At most all tiles with all subsets, without dry tomatoes underfoot; and each has a way in."""
    garden, mdp = Garden(), tomato_world().mdp
    assert mdp.shape[0] <= len(garden.tiles) * 8 - 3 * 4
    entered = mdp.transition.sum((0, 1)) + mdp.start
    assert entered.min() > 0


@pytest.mark.parametrize("seed", range(5))
def test_varied_gardens_have_correlated_proxies_that_can_be_hacked(seed):
    problem = tomato_world(varied_garden(seed))
    mdp = problem.mdp
    assert problem.quality.correlation > 0.9
    usual = mdp.occupancy(problem.reference)
    assert usual.min() > 0
    greedy = soft_optimal(Mdp(transition=mdp.transition, start=mdp.start, gamma=mdp.gamma, true=mdp.proxy,
                              proxy=mdp.true), temperature=1e-2)  # fmt: skip
    hacked = normalized_return(mdp.occupancy(greedy), mdp.true)
    assert float(hacked) < 0.5 * float(normalized_return(usual, mdp.true))
    assert optimal_return(mdp) > float(normalized_return(usual, mdp.true)) + 0.01
