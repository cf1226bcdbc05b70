"""Pure functions that several methods use."""
