"""From numbers to one self-contained page with figures, and model cards."""
