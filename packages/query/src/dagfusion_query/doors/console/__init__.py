"""The web console: the files that `packages/query/console` builds, and their routes."""

from dagfusion_query.doors.console.pages import routes

__all__ = ["routes"]
