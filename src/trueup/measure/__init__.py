"""Measurements on arrays: what a reward model gets right, and how it goes wrong. No torch, no models."""
