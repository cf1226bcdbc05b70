"""Papers' claims, run again at the scale of the small language world."""
