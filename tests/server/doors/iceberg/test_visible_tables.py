"""A token sees the tables that it sees elsewhere. Pinned ones are found without naming all assets for each request."""

from dataclasses import replace
from types import MappingProxyType
from unittest.mock import Mock

import httpx
import pytest

from dagfusion_contract.naming import TableName, table_name
from dagfusion_query.access.authentication import Tokens
from dagfusion_server.doors.iceberg import visible_tables
from dagfusion_server.doors.iceberg.visible_tables import EVERYTHING, VisibleTables
from tests.server.doors.iceberg.conftest import snapshot
from tests.server.fake_service import FakeService, environment

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


@pytest.mark.parametrize(
    "grants",
    [
        ["*"],
        ["uat"],
        ["prod"],
        ["uat_silver.*"],
        ["uat_gold.sales"],
        ["uat_silver.orders"],
        ["uat_silver.returns", "prod"],
    ],
)
def test_a_token_sees_what_it_sees_elsewhere(client: httpx.Client, tokens: Tokens, grants: list[str]) -> None:
    """Tables and views; those with an error are not listed here."""
    headers = {"Authorization": f"Bearer {tokens.create('ann', grants)}"}
    listed = client.get("/v1/tables", headers=headers).json()["tables"]
    elsewhere = {
        (one["schema"], one["name"]) for one in listed if one["environment"] != "dev" and one["problem"] is None
    }
    here, loaded = set[tuple[str, str]](), set[tuple[str, str]]()
    for [namespace] in client.get("/iceberg/v1/namespaces", headers=headers).json()["namespaces"]:
        for kind in ("tables", "views"):
            path = f"/iceberg/v1/namespaces/{namespace}/{kind}"
            here |= {(namespace, one["name"]) for one in client.get(path, headers=headers).json()["identifiers"]}
    for namespace in ("uat_silver", "uat_gold"):
        for name in ("orders", "returns", "sales", "seen"):
            path = f"/iceberg/v1/namespaces/{namespace}/{'views' if name == 'seen' else 'tables'}/{name}"
            if client.get(path, headers=headers).status_code == 200:
                loaded.add((namespace, name))
    assert here == elsewhere
    assert loaded == elsewhere - {("uat_silver", "half")}, "of which Iceberg has no column"
