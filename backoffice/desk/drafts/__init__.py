"""Turn a change into a draft where a rule asks for a second person."""
