"""Policies that learn from given preferences: one method, one file."""
