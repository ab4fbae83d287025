"""Healthcare: organizations by their tax identity, each state's extract of each day, and the day's aggregates."""
