"""Best-of-n of a policy over a tiny vocabulary: every response can be enumerated, so everything is known exactly."""

import itertools

import numpy as np
import pytest

from trueup.divergences.best_of_n import kl_with_ties, nominal_kl
from trueup.measure.best_of_n import best_of_n

TOKENS, LENGTH = 3, 3
N = np.array([1, 2, 4, 8])


def responses() -> tuple[list[tuple[int, ...]], np.ndarray]:
    """All responses of three tokens, and their probabilities under an autoregressive policy."""
    generator = np.random.default_rng(3)
    first = generator.dirichlet(np.ones(TOKENS))
    then = generator.dirichlet(np.ones(TOKENS), size=TOKENS)
    texts = list(itertools.product(range(TOKENS), repeat=LENGTH))
    mass = [first[t[0]] * np.prod([then[a, b] for a, b in itertools.pairwise(t)]) for t in texts]
    return texts, np.asarray(mass)


def exact(texts, mass, proxy, gold) -> tuple[np.ndarray, np.ndarray]:
    """KL(best-of-n || policy) and expected gold, by summing over all responses; ties are broken at random."""
    kl, value = [], []
    for n in N:
        chosen = np.zeros(len(texts))
        for level in np.unique(proxy):
            here, below = proxy == level, mass[proxy < level].sum()
            share = (below + mass[here].sum()) ** n - below**n
            chosen[here] = share * mass[here] / mass[here].sum()
        assert chosen.sum() == pytest.approx(1)
        kl.append(np.sum(chosen * np.log(chosen / mass)))
        value.append(chosen @ gold)
    return np.asarray(kl), np.asarray(value)


@pytest.mark.parametrize("tied", [False, True])
def test_pools_agree_with_enumeration(tied: bool) -> None:
    texts, mass = responses()
    generator = np.random.default_rng(0)
    proxy = np.asarray([sum(t) for t in texts], float) if tied else generator.normal(size=len(texts))
    gold = generator.normal(size=len(texts))
    kl, value = exact(texts, mass, proxy, gold)
    drawn = generator.choice(len(texts), size=(40, 4_000), p=mass)
    found_kl = kl_with_ties(proxy[drawn], N).mean(axis=0)
    found_gold = best_of_n(proxy[drawn], gold[drawn], N)
    error = found_gold.std(axis=0) / np.sqrt(len(found_gold))
    assert found_kl == pytest.approx(kl, abs=0.01)
    assert np.all(np.abs(found_gold.mean(axis=0) - value) < 4 * error + 1e-12)
    assert np.all(kl <= nominal_kl(N) + 1e-12)
    # 27 responses are far from a continuum, so that the nominal value overstates what best-of-n does.
    assert nominal_kl(N)[-1] - kl[-1] > (0.1 if tied else 0.01)
