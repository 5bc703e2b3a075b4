"""Fixtures that every test may use; the PostgreSQL server and the adb server start only where a test asks for them."""

pytest_plugins = ["tests.postgres", "tests.adb"]
