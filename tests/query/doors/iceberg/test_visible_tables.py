"""Names of pinned tables are looked up without naming all assets for each request."""

from dataclasses import replace
from types import MappingProxyType
from unittest.mock import Mock

import pytest

from dagfusion_contract.naming import TableName, table_name
from dagfusion_query.doors.iceberg import visible_tables
from dagfusion_query.doors.iceberg.visible_tables import EVERYTHING, VisibleTables
from tests.query.doors.iceberg.conftest import snapshot
from tests.query.fake_service import FakeService, environment

ORDERS = TableName("uat_silver", "orders")


def test_assets_are_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    named = Mock(side_effect=table_name)
    monkeypatch.setattr(visible_tables, "table_name", named)
    whole = snapshot()
    service = FakeService({name: environment(name, replace(whole, environment=name)) for name in ("dev", "uat")})
    visible = VisibleTables(service, ["dev", "uat"])

    def found() -> list[str]:
        visible.check_namespace_of_past(EVERYTHING, "uat_silver")
        return [state.name for state in visible.of_past(EVERYTHING, ORDERS)]

    service.catalog["dev"] = environment("dev", replace(whole, environment="dev", tables=MappingProxyType({})))
    assert found() == ["uat"]
    named.assert_not_called()
    service.catalog["uat"] = environment("uat", replace(whole, tables=MappingProxyType({})))
    assert [found(), found()] == [["uat"], ["uat"]]
    assert named.call_count == len(whole.asset_states)
    service.catalog["uat"] = environment("uat", replace(whole, asset_states=MappingProxyType({})))
    assert found() == ["uat"]
