"""Families of prompts, one file each: how it asks, how it is answered, how an answer is checked."""
