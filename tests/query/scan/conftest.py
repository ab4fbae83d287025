"""The lake of the engine's tests: a scan is one part of a statement."""

from tests.query.engine.conftest import lake, lake_class, new_lake, orgs, written_orgs

__all__ = ["lake", "lake_class", "new_lake", "orgs", "written_orgs"]
