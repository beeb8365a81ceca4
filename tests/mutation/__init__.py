"""Change the code in one place at a time, and see which change no test notices.

    pytest -p tests.mutation.plugin --mutate orders/recording/merge.py tests/orders/recording

`docs/proof.md` lists what survived, and why.
"""
