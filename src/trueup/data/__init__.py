"""Text in, branches out: formats, the data report, splits, token ids."""
