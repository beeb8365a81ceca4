"""Guard the way of a request: its size, its number, its headers, and who may read `/metrics`."""
