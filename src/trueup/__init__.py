"""trueup: robust reward models, and measurements of how far a proxy can be trusted."""

__version__ = "0.1.0"
