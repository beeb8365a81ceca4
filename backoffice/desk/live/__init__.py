"""Let open pages notice changes. A bell names a topic, and the page fetches what it shows of it."""
