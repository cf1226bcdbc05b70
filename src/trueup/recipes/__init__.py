"""One typed recipe and one function per verb; the command line adds nothing to them."""
