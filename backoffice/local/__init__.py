"""Run the embedded stack of `make run`: PostgreSQL, Redis, the simulator and our own programs."""
