"""What crosses a process's boundary: frozen dataclasses, with one writer, one reader and one schema for all of them."""
