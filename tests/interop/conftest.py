"""The event logs of tests/deployments.py."""

from tests.deployments import *  # noqa: F403
