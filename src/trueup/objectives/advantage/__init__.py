"""Policies from given responses with a scalar reward each: weighted cloning, without pairs and without sampling."""
