"""The errors of queries: those of `dagfusion_client`, because clients and the embedded engine raise the same."""

from dagfusion_client.errors import *  # noqa: F403
