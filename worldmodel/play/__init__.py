"""Play a world: a session that steps the dream and the real environment, and a local server with one page."""
