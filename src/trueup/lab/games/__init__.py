"""Games and bandits small enough to list every response: methods are compared with what can be computed exactly."""
