"""Terms that are added to a method of `objectives/policy`."""
