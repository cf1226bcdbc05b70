"""Histories of watched runs for tests: a gold curve of a known law, with noise over prompts."""

import numpy as np

from trueup.data.watched import Watched, WatchedPoint, history


def run(
    gold: np.ndarray,
    kl: np.ndarray,
    *,
    proxy: np.ndarray | None = None,
    prompts: int = 40,
    samples: int = 4,
    noise: float = 0.3,
    seed: int = 0,
    every: int = 10,
) -> Watched:
    """A run whose mean gold, KL and proxy are given at each point; prompts differ, samples more so."""
    rng = np.random.default_rng(seed)
    shape = (len(gold), prompts, samples)
    difficulty = rng.normal(size=(1, prompts, 1))
    steps = every * np.arange(len(gold))
    promised = gold if proxy is None else proxy
    wide = rng.normal(size=shape)
    log_ratio = kl[:, None, None] + 0.1 * np.sqrt(kl)[:, None, None] * rng.normal(size=shape)
    return Watched(
        steps=steps,
        gold=gold[:, None, None] + difficulty + noise * rng.normal(size=shape),
        proxy=promised[:, None, None] + difficulty + wide,
        kl=np.where(steps[:, None, None] == 0, 0.0, log_ratio),
        tokens=20 + rng.integers(-5, 6, shape).astype(float) + 2 * steps[:, None, None] / every,
        ended=np.ones(shape),
    )


def law_run(alpha: float, beta: float, *, d: np.ndarray, **settings: object) -> Watched:
    """A run that follows the RL law."""
    gold = d * (alpha - beta * np.log(np.where(d > 0, d, 1.0)))
    return run(gold, d**2, proxy=settings.pop("proxy", 1.5 * d), **settings)  # type: ignore[arg-type]


def point(step: int, *, prompts: int = 3, samples: int = 2, gold: bool = True, word: str = "word") -> WatchedPoint:
    """A point as a run writes it."""
    table = tuple(tuple(float(step + 10 * i + j) for j in range(samples)) for i in range(prompts))
    return WatchedPoint(
        step=step,
        prompts=tuple(f"prompt {i}" for i in range(prompts)),
        responses=tuple(tuple(f"{word} {i} {j} at {step}" for j in range(samples)) for i in range(prompts)),
        proxy=table,
        gold=table if gold else None,
        kl=tuple(tuple(0.01 * step for _ in range(samples)) for _ in range(prompts)),
        tokens=tuple(tuple(5.0 for _ in range(samples)) for _ in range(prompts)),
        ended=tuple(tuple(1.0 for _ in range(samples)) for _ in range(prompts)),
    )


def with_texts(watched: Watched, *, longest: int = 6) -> Watched:
    """The same history with texts that repeat themselves more and more."""
    points = len(watched)
    _, prompts, samples = watched.proxy.shape  # type: ignore[union-attr]
    texts = tuple(
        tuple(
            tuple(f"answer {i} {j} says " + "so so so " * min(k, longest) + f"number {i * j}" for j in range(samples))
            for i in range(prompts)
        )
        for k in range(points)
    )
    names = ("steps", "proxy", "gold", "kl", "tokens", "ended")
    series = {name: getattr(watched, name) for name in names}
    return Watched(**series, prompts=tuple(f"prompt {i}" for i in range(prompts)), responses=texts)


__all__ = ["history", "law_run", "point", "run", "with_texts"]
