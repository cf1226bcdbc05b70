"""Preference losses give TRL's own value and gradient on the same tensors."""

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from trueup.objectives import PREFERENCE_OBJECTIVES
from trueup.types import PolicyBatch

trl = pytest.importorskip("trl.trainer.dpo_trainer")
kto = pytest.importorskip("trl.trainer.kto_trainer")

PROMPT = 2
LENGTHS = torch.tensor([4, 2, 3, 1, 2, 4])
"""Tokens of each response: three chosen, then three rejected."""
MASK = torch.arange(4)[None] < LENGTHS[:, None]
PAIRS = len(LENGTHS) // 2


def drawn(seed, dtype=torch.float64):
    """Log-probabilities of all response tokens, one response after another."""
    generator = torch.Generator().manual_seed(seed)
    return -3 * torch.rand(int(LENGTHS.sum()), generator=generator, dtype=torch.float64).to(dtype)


def padded(tokens):
    """As TRL has them: one row for each response, whose position predicts the next token, 0 where it is none."""
    rows = tokens.new_zeros(MASK.shape).masked_scatter(MASK, tokens)
    return torch.cat([tokens.new_zeros(len(rows), PROMPT - 1), rows], dim=1)


def outputs(tokens):
    rows = padded(tokens)
    rest = {name: torch.zeros_like(rows) for name in ("entropy", "mean_logits")}
    return SimpleNamespace(log_probs=rows, is_top1=torch.zeros_like(rows, dtype=torch.bool), **rest)


def inputs(reference):
    sums = padded(reference).sum(1)
    mask = torch.cat([torch.zeros(len(MASK), PROMPT, dtype=torch.long), MASK.long()], dim=1)
    whole = torch.cat([torch.ones(len(MASK), PROMPT, dtype=torch.long), MASK.long()], dim=1)
    return {
        "input_ids": whole,
        "attention_mask": whole,
        "completion_mask": mask,
        "ref_chosen_logps": sums[:PAIRS],
        "ref_rejected_logps": sums[PAIRS:],
    }


def trainer(**settings):
    """What DPOTrainer._compute_loss and KTOTrainer._compute_loss read of a trainer."""
    same = SimpleNamespace(device=torch.device("cpu"), gather=lambda t: t, gather_for_metrics=lambda t: t)
    plain = {
        "model": SimpleNamespace(training=True),
        "accelerator": same,
        "aux_loss_enabled": False,
        "ld_alpha": None,
        "precompute_ref_logps": True,
        "f_divergence_type": "reverse_kl",
        "loss_weights": [1.0],
        "label_smoothing": 0.0,
        "use_weighting": False,
        "_metrics": {"train": defaultdict(list)},
        "_total_train_tokens": 0,
        "_tp_size": 1,
    }
    return SimpleNamespace(**{**plain, **settings})


def dpo_trainer(logprob, reference, **settings):
    """TRL's loss, and what it logs."""
    mine = trainer(**settings)
    loss = trl.DPOTrainer._compute_loss(mine, lambda **_: outputs(logprob), inputs(reference), False)
    return loss, mine._metrics["train"]


def batch_of(logprob, reference):
    count = len(LENGTHS)
    return PolicyBatch(
        logprob=logprob,
        branch=torch.arange(count).repeat_interleave(LENGTHS),
        prompt=torch.arange(count) % PAIRS,
        reference=reference,
        pairs=torch.arange(count).view(2, PAIRS).T,
    )


def compare(term, theirs, *, dtype=torch.float64, seed=0):
    """Value and gradient of our term and of their function of log-probabilities and reference."""
    logprob, reference = drawn(seed, dtype), drawn(seed + 1, dtype)
    ours, other = (logprob.clone().requires_grad_() for _ in range(2))
    batch = batch_of(ours, reference)
    loss = term(batch, term.statistics(batch) if hasattr(term, "statistics") else {})
    value = loss.values.mean()
    expected = theirs(other, reference)
    assert value.item() == pytest.approx(expected.item(), rel=1e-12 if dtype == torch.float64 else 1e-6)
    value.backward()
    expected.backward()
    assert other.grad.abs().max() > 1e-3
    assert torch.allclose(ours.grad, other.grad, rtol=1e-10 if dtype == torch.float64 else 1e-5)
    return loss


@pytest.mark.parametrize(
    ("name", "settings", "theirs"),
    [
        ("dpo", {"beta": 0.3}, {"loss_types": ["sigmoid"]}),
        ("hinge", {"beta": 0.3}, {"loss_types": ["hinge"]}),
        ("ipo_mean", {"beta": 0.3}, {"loss_types": ["ipo"]}),
        ("robust_dpo", {"beta": 0.3, "label_smoothing": 0.2}, {"loss_types": ["robust"], "label_smoothing": 0.2}),
        ("forward_kl_dpo", {"beta": 0.3}, {"loss_types": ["sigmoid"], "f_divergence_type": "forward_kl"}),
        ("js_dpo", {"beta": 0.3}, {"loss_types": ["sigmoid"], "f_divergence_type": "js_divergence"}),
    ],
)
def test_equal_value_and_gradient(name, settings, theirs):
    compare(PREFERENCE_OBJECTIVES[name](**settings), lambda *tensors: dpo_trainer(*tensors, beta=0.3, **theirs)[0])


@pytest.mark.parametrize("alpha", [0.5, 0.2])
def test_their_alpha_is_one_minus_ours(alpha):
    settings = {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 1 - alpha}
    compare(
        PREFERENCE_OBJECTIVES["alpha_dpo"](beta=0.3, alpha=alpha),
        lambda *tensors: dpo_trainer(*tensors, beta=0.3, loss_types=["sigmoid"], **settings)[0],
        dtype=torch.float32,
    )


def test_equal_metrics_where_rewards_are_the_same():
    loss = compare(
        PREFERENCE_OBJECTIVES["dpo"](beta=0.3), lambda *t: dpo_trainer(*t, beta=0.3, loss_types=["sigmoid"])[0]
    )
    _, theirs = dpo_trainer(drawn(0), drawn(1), beta=0.3, loss_types=["sigmoid"])
    for name, value in loss.metrics.items():
        assert value.mean().item() == pytest.approx(theirs[name][0]), name


def pair_sums(logprob, reference, *, mean=False):
    """Chosen and rejected log-ratios of whole responses; without a reference where it is None."""
    tokens = logprob if reference is None else logprob - reference
    rows = padded(tokens).sum(1)
    rows = rows / LENGTHS if mean else rows
    return rows[:PAIRS], rows[PAIRS:]


def cpo_loss(chosen, rejected, **settings):
    """TRL's losses of two given scores."""
    cpo = pytest.importorskip("trl.experimental.cpo.cpo_trainer")
    mine = trainer(**{"alpha": 0.0, "simpo_gamma": 0.0, **settings})
    return cpo.CPOTrainer.cpo_loss(mine, chosen, rejected)[0].mean()


def test_conservative_dpo_and_ipo_of_sums():
    """DPOTrainer has neither; CPOTrainer's losses are the same functions of whatever scores they are given."""
    smoothed = {"beta": 0.3, "label_smoothing": 0.2}
    compare(
        PREFERENCE_OBJECTIVES["cdpo"](**smoothed), lambda *t: cpo_loss(*pair_sums(*t), loss_type="sigmoid", **smoothed)
    )
    compare(PREFERENCE_OBJECTIVES["ipo"](beta=0.3), lambda *t: cpo_loss(*pair_sums(*t), loss_type="ipo", beta=0.3))


def test_conservative_dpo_is_the_sorted_loss_of_a_single_pair():
    """TRL's `aot` sorts over the batch; with one pair there is nothing to sort."""
    logprob, reference = drawn(0), drawn(1)
    term = PREFERENCE_OBJECTIVES["cdpo"](beta=0.3, label_smoothing=0.2)
    values = term(batch_of(logprob, reference), {}).values
    for pair in range(PAIRS):
        rows = [pair, pair + PAIRS]
        mine = trainer(beta=0.3, label_smoothing=0.2, loss_types=["aot"])
        one = {key: value[rows] for key, value in inputs(reference).items() if not key.startswith("ref")}
        sums = padded(reference).sum(1)
        one |= {"ref_chosen_logps": sums[rows[:1]], "ref_rejected_logps": sums[rows[1:]]}
        given = SimpleNamespace(**{name: value[rows] for name, value in vars(outputs(logprob)).items()})
        loss = trl.DPOTrainer._compute_loss(mine, lambda given=given, **_: given, one, False)
        assert values[pair].item() == pytest.approx(loss.item())


def test_simpo():
    compare(
        PREFERENCE_OBJECTIVES["simpo"](beta=2.0, gamma=0.7),
        lambda logprob, _: cpo_loss(*pair_sums(logprob, None, mean=True), loss_type="simpo", beta=2.0, simpo_gamma=0.7),
    )


def kto_side(logprob, reference, *, chosen, weights):
    """KTOTrainer's mean loss of one side, with the other side's log-ratios for its estimate of the KL."""
    side, other = (slice(0, PAIRS), slice(PAIRS, None)) if chosen else (slice(PAIRS, None), slice(0, PAIRS))
    sums, rows = padded(reference).sum(1), padded(logprob)
    whole = inputs(reference)
    given = {key: whole[key][side] for key in ("input_ids", "attention_mask", "completion_mask")}
    given |= {"label": torch.full((PAIRS,), chosen), "ref_logps": sums[side], "ref_KL_logps": sums[other]}
    desirable, undesirable = weights
    mine = trainer(
        beta=0.3,
        loss_type="kto",
        calculate_KL=True,
        desirable_weight=desirable,
        undesirable_weight=undesirable,
        _compute_kl_logps=lambda model, batch: rows.detach().sum(1)[other],
        kl_history=None,
    )
    blank = torch.zeros_like(rows[side])
    seen = SimpleNamespace(log_probs=rows[side], entropy=blank, mean_logits=blank, is_top1=blank.bool())
    return kto.KTOTrainer._compute_loss(mine, lambda **_: seen, given, False)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, 1.5)])
@pytest.mark.parametrize("seed", [0, 1])
def test_kto_against_the_other_side(weights, seed):
    """Of the two draws, one has both estimates of the KL above 0, the other both below, where they count as 0."""
    term = PREFERENCE_OBJECTIVES["kto_pair"](beta=0.3, desirable_weight=weights[0], undesirable_weight=weights[1])
    stats = term.statistics(batch_of(drawn(seed), drawn(seed + 1)))
    assert (stats["chosen"] > 0) == (stats["rejected"] > 0) == (seed == 1)
    compare(
        term, lambda *t: sum(kto_side(*t, chosen=chosen, weights=weights) for chosen in (True, False)) / 2, seed=seed
    )
