"""Measure placing beside a bare exchange call, following accounts, and the simulator alone."""

SUBMIT_TASK = "orders.submit_order"
#: Environment variable: the file where the measured workers write when each answer was committed.
STAMPS_FILE = "BENCH_STAMPS_FILE"
