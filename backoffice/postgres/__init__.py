"""Django's PostgreSQL backend with bounded sessions: no call waits for the database without end."""
