"""Act on a record: each verb asks first, has its own right, and gives one line for each object."""
