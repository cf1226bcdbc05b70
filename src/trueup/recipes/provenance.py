"""Which versions made a result."""

import platform
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("trueup", "torch", "transformers", "accelerate", "peft", "datasets", "tokenizers", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that can change a number."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
