"""Documents: the frozen dataclasses that are sent between processes, with one writer, one reader and one schema."""
