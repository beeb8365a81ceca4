"""Reads for people: what the admin shows, finds and says of an order."""
