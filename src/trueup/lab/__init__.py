"""Scale models of the whole problem: a small language world with a gold reward, and tiny models."""
