"""The page of one order: its timeline, how good it was, its prices, and its message."""
