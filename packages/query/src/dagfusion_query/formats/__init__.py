"""The result formats: their table in `format_table`, and the encoders."""

from dagfusion_query.formats.format_table import Format

__all__ = ["Format"]
