"""Merging checkpoints tensor by tensor, without loading models."""
