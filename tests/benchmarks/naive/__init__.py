"""A Django project that places orders as most first versions do: one row, one task, ccxt.

It has no gate, no reservation, no claim, no shared limits and no record of what happened, and a
lost answer leaves its order in doubt for good. Only its speed is of interest here.
"""
