"""The shared-prompt forward, the reward model and its checkpoints."""
