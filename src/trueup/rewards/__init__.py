"""What is optimised or audited: `Reward.score(prompts, responses) -> Scores`."""
