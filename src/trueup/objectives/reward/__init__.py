"""Objectives of reward models: one method, one file."""
