"""Policies that learn from their own samples."""
