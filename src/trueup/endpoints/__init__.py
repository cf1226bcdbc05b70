"""HTTP endpoints: bounded retries, a rate limit, and answers kept on disk."""
