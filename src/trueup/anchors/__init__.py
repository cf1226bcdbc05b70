"""What a policy is held to: references, averages of weights, and how weights are merged."""
