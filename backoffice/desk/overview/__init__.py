"""The desk: a line of verdict, a card for each account, charts of the last hour, last events."""
