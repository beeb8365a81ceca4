"""The admin site: pages, search, filters and the verbs that people can press."""
