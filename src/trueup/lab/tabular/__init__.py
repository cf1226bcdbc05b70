"""Finite decision processes in which everything is exact: proxies, references, occupancies, optimised policies."""
