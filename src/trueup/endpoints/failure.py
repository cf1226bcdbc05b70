"""A server that could not be used."""

from trueup.errors import TrueupError


class EndpointError(TrueupError, OSError):
    """A server did not answer, refused, or answered with something that cannot be used.

    Args:
        found: What happened, in a few words.
        url: The address, without its query.
        attempts: How often it was asked.
        status: The last HTTP status; None if there was no answer.
        cure: What the user can do.
    """

    def __init__(
        self, found: str, *, url: str, attempts: int = 1, status: int | None = None, cure: str | None = None
    ) -> None:
        self.found, self.url, self.attempts, self.status, self.cure = found, url, attempts, status, cure
        times = f" ({attempts} attempts)" if attempts > 1 else ""
        super().__init__("; ".join(part for part in (f"{url}: {found}{times}", cure) if part))

    def with_progress(self, answered: int, total: int, *, kept: bool) -> "EndpointError":
        """The same failure, which also says how much had been answered before it."""
        if not (kept and answered):
            return self
        progress = f"{answered} of {total} requests were answered and are kept, so that another run continues there"
        cure = "; ".join(part for part in (self.cure, progress) if part)
        return EndpointError(self.found, url=self.url, attempts=self.attempts, status=self.status, cure=cure)
