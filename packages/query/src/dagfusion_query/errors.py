"""The errors of `dagfusion_client` under their older name, for programs; our own modules import them from there."""

from dagfusion_client.errors import *  # noqa: F403
