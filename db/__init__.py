"""The table and the raw runs in SQL."""
