"""Prompts whose answers a program verifies: sums and differences, with short workings and the mistakes made in them."""
