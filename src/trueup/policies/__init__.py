"""What is optimised, as a source of samples: `Policy.sample(prompts, count) -> Samples`."""
