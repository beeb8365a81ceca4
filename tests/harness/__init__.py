"""Real servers and processes for the suite, described in `tests/README.md`."""
