"""One trainer on transformers.Trainer; it alone reduces losses."""
