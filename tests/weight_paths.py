"""Paths of weights for tests: a stand-in for an optimiser, and the anchor's jumps copied back as a trainer does."""

import torch


def follow_path(anchor, start, steps, *, move):
    """Weights before and after the anchor at each step, and its last state.

    `move(weights, step)` returns what the optimiser makes of the weights.
    """
    live = {name: tensor.clone() for name, tensor in start.items()}
    state = anchor.init(live)
    before, after = [], []
    for step in range(1, steps + 1):
        for name, tensor in move(live, step).items():
            live[name].copy_(tensor)
        before.append(copied(live))
        state, jump = anchor.update(state, live, step=step)
        if jump is not None:
            assert jump.keys() == live.keys()
            for name, tensor in jump.items():
                live[name].copy_(tensor)
        after.append(copied(live))
    return before, after, state


def copied(weights):
    return {name: tensor.clone() for name, tensor in weights.items()}


def some_weights(seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return {
        "a.weight": torch.randn(3, 4, generator=generator, dtype=torch.float64).to(dtype),
        "b.bias": torch.randn(5, generator=generator, dtype=torch.float64).to(dtype),
    }


def random_walk(weights, step):
    """A step that depends on nothing but its number."""
    noise = some_weights(seed=1000 + step)
    return {name: tensor + 0.1 * noise[name].to(tensor.dtype) for name, tensor in weights.items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def close(one, other, tolerance=1e-12):
    return one.keys() == other.keys() and all(
        torch.allclose(one[name], other[name], rtol=0, atol=tolerance) for name in one
    )


def places(weights):
    """Addresses of the storages."""
    return {tensor.untyped_storage().data_ptr() for tensor in weights.values()}
