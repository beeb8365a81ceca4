"""Real parts for the suite: PostgreSQL, Redis, the simulator, Celery workers; see `tests/README.md`."""
