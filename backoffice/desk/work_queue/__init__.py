"""Collect everything that waits for a person, with its evidence."""
