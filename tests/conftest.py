"""Fixtures that every test may use; the PostgreSQL server starts only where a test asks for it."""

pytest_plugins = ["tests.postgres"]
