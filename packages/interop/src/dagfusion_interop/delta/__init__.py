"""The Delta log of a table: its folder, its lines, what an export may remove, and the export."""
