"""Do a verb to all rows of a list: recorded at once, done by workers, with a line for each row."""
