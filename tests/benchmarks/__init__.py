"""What `make bench` measures: placing beside a bare exchange call, following accounts, the simulator by itself."""

SUBMIT_TASK = "orders.submit_order"
#: Environment variable: where the measured workers write when each order's answer was committed.
STAMPS_FILE = "BENCH_STAMPS_FILE"
