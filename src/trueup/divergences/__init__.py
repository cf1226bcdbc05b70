"""How far one policy is from another."""
