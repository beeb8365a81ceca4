"""Simulate everything that can happen to the back office, from one seed.

The services, models, gate, sweep, reconciliation and stream code are the real ones, on a real
PostgreSQL. Time, chance, network, broker and Redis are replaced, each at one place. Workers,
listener and beat are tasks of one scheduler, which runs exactly one of them and may switch at
every boundary: a statement, a commit, a call to the exchange, a call to Redis, a message.

    python manage.py simulate_faults --seeds 200
"""
