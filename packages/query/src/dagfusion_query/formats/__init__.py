"""Result formats: one table of their names and media types, and an encoder each."""
