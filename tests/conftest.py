"""Fixtures that every test may use; the PostgreSQL server and the adb server start only where a test asks for them."""

import os

os.environ["EDGELUT_DASHBOARD"] = "off"  # a service in a test starts one only where the test is about it

pytest_plugins = ["tests.postgres", "tests.adb"]
