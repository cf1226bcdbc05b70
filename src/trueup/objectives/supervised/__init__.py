"""Losses on demonstrations."""
