"""Reports: what a session found, as people and programs read it."""
