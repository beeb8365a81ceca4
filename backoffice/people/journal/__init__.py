"""The journal: an append-only chain of what people, rules and the exchange did."""
