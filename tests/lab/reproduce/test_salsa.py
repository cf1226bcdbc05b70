"""SALSA's claims on hand-made runs, its arms, and soups that are looked at."""

import numpy as np
import pytest
import torch

from trueup.lab.gold_proxy import set_up
from trueup.lab.policies import ContinuedPlan, build_policy
from trueup.lab.policy_runs import _reference
from trueup.lab.reproduce import salsa as module
from trueup.lab.reproduce.policy_arms import PolicyWorld
from trueup.lab.reproduce.salsa import (
    COEFFICIENT,
    FIRST,
    OTHER,
    SHARES,
    SOUP,
    WEAK,
    WEAKER,
    Profile,
    arms,
    evidence_of,
    fine_tuned,
    last_of,
    look_at_soups,
    members,
    profile_of,
)
from trueup.lab.reproduce.scale import full_scale
from trueup.lab.world import World
from trueup.models.policy_checkpoints import load_policy_checkpoint
from trueup.report.evidence import Evidence

from .made_runs import made_looks, made_policy_world

BETTER = made_looks([0, 3, 6, 20], [0, 1, 2, 3], proxy=[0, 3, 6, 8])
USUAL = made_looks([0, 2, 5, 8], [0, 0.5, 1, 1.5], proxy=[0, 1, 2, 3])
RAISED = Profile(gold=(-0.1, 0.3, 0.4, 0.3, 0.1), proxy=(0.0, 0.2, 0.3, 0.2, 0.0), kl=(3.0, 2.0, 1.0, 0.5, 0.0))


def page(soup, usual, profile) -> Evidence:
    looks = {FIRST: usual, SOUP: soup, WEAKER: usual, OTHER: usual}
    worlds = [made_policy_world(seed, looks) for seed in range(3)]
    return evidence_of(worlds, [profile] * 3, scale=fine_tuned(full_scale(seeds=3)), command="trueup")


def verdicts(soup, usual, profile) -> dict[str, str]:
    return {claim.statement: claim.verdict for claim in page(soup, usual, profile).claims}


def test_runs_as_the_paper_has_them_reproduce_its_claims():
    assert set(verdicts(BETTER, USUAL, RAISED).values()) == {"reproduced"}


def test_a_soup_that_does_worse_contradicts_them():
    down = {what: tuple(-value for value in getattr(RAISED, what)) for what in ("gold", "proxy")}
    lowered = Profile(**down, kl=RAISED.kl)
    assert set(verdicts(USUAL, BETTER, lowered).values()) == {"contradicted"}


def test_a_looser_constraint_alone_is_no_gain_at_equal_kl():
    """The soup goes further along the very same path: gold is 2 sqrt(KL)."""
    paths = [[0, 4, 9, 16], [0, 1, 4, 9]]
    further, usual = (made_looks(kl, 2 * np.sqrt(kl)) for kl in paths)
    found = page(further, usual, RAISED)
    assert found.finding.endswith(": 0.00 [0.00, 0.00]")
    assert [claim.verdict for claim in found.claims[2:5]] == ["reproduced"] * 3


def test_the_last_step_is_the_one_that_all_arms_reach():
    short = made_looks([0, 2], [0, 1])
    world = made_policy_world(0, {FIRST: USUAL, SOUP: short}, unit=2.0)
    assert last_of(world, FIRST, what="gold") == pytest.approx(0.25)
    assert last_of(world, FIRST, what="kl") == pytest.approx(2)


def test_a_profile_is_above_the_mean_of_both_ends():
    looks = made_looks([3, 2, 1, 0.5, 0], [1, 2, 4, 2, 3])
    found = profile_of(made_policy_world(0, {FIRST: USUAL}, unit=2.0), looks)
    assert found.gold == pytest.approx((-0.5, 0, 1, 0, 0.5))
    assert found.kl == pytest.approx((3, 2, 1, 0.5, 0))


def test_arms_differ_in_the_reference_alone():
    scale = fine_tuned(full_scale())
    found, (first, second, pretrained) = arms(scale, 2), members(scale, 2)
    assert {name: run.reference for name, run in found.items()} == {
        FIRST: (), SOUP: (first, second), WEAKER: (), OTHER: (first, pretrained)}  # fmt: skip
    assert {name: run.how.kl_coefficient for name, run in found.items()} == {
        FIRST: COEFFICIENT, SOUP: COEFFICIENT, WEAKER: WEAK, OTHER: COEFFICIENT}  # fmt: skip
    assert len({(run.proxies, run.start, run.how.seed) for run in found.values()}) == 1
    assert pretrained == full_scale().plan(2).policy
    assert isinstance(first, ContinuedPlan)
    assert first.start == second.start
    assert first.seed != second.seed
    assert scale.setup.samples == 64
    with pytest.raises(TypeError, match="fine-tuned"):
        members(full_scale(), 0)


def test_fine_tuning_keeps_the_families_of_what_is_watched():
    """Some families have few prompts, so that prompts which the start has not seen are of the others."""
    (plan, _, start), world = members(fine_tuned(full_scale()), 0), World(0)
    watched, tuned = ([one.family for one in asked] for asked in
                      (world.prompts(2000, families=start.families, seed=7), plan.own_prompts()))  # fmt: skip
    for family in start.families:
        assert tuned.count(family) / len(tuned) > 0.6 * watched.count(family) / len(watched) > 0.1


@pytest.fixture(scope="module")
def scale(tiny_scale):
    return fine_tuned(tiny_scale)


def weights(folder) -> dict[str, torch.Tensor]:
    return load_policy_checkpoint(folder, dtype=torch.float32).model.state_dict()


def test_policies_share_start_and_text_and_differ_by_its_order(scale, lab):
    first, second, pretrained = members(scale, 0)
    assert first.rows() == second.rows()
    assert first.rows() != pretrained.rows()
    assert first.seen() == {row.prompt[0].content for plan in (first, pretrained) for row in plan.rows()}
    places = [build_policy(plan, folder=lab / "policies") for plan in (first, second, pretrained)]
    states = [weights(place) for place in places]
    apart = [sum(float((a[name] - b[name]).square().sum()) for name in a) for a, b in
             ((states[0], states[2]), (states[1], states[2]), (states[0], states[1]))]  # fmt: skip
    assert min(apart) > 0
    assert (places[0] / "tokenizer.json").read_bytes() == (places[2] / "tokenizer.json").read_bytes()


def test_the_reference_is_the_average_and_the_start_is_not(scale, lab):
    setup = set_up(scale.plan(0), folder=lab)
    first, second, _ = (build_policy(plan, folder=lab / "policies") for plan in members(scale, 0))
    assert setup.policy == first
    held = _reference(arms(scale, 0)[SOUP], setup, lab).model.state_dict()
    a, b = weights(first), weights(second)
    assert all(torch.allclose(held[name], 0.5 * a[name] + 0.5 * b[name], atol=1e-7) for name in a)
    assert any(not torch.equal(held[name], a[name]) for name in a)


def test_soups_are_looked_at_once(scale, lab, little_drawing, monkeypatch):
    setup = set_up(scale.plan(0), folder=lab)
    world = PolicyWorld(seed=0, setup=setup, looks={})
    found = look_at_soups(scale, world)
    assert found.step.tolist() == list(range(len(SHARES)))
    # A soup that is all of the first policy is the first policy: its KL to itself is 0 response by response.
    assert np.abs(found.kl[SHARES.index(1.0)]).max() < 1e-4
    assert np.abs(found.kl[SHARES.index(0.0)]).max() > 1e-3
    monkeypatch.setattr(module, "look_at_each", None)
    assert np.array_equal(look_at_soups(scale, world).gold, found.gold)
