"""The engine: sessions, execution, fallback and results of SQL over one catalog generation."""
