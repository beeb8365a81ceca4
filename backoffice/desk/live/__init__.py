"""Let open pages notice changes. A bell names a topic, and the page then fetches its content."""
