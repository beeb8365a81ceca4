"""Show the pages that are no list and no record."""
