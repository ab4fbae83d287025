"""Callers with the same rights see the same object, until something changes."""

from types import MappingProxyType

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_client.errors import EnvironmentUnavailableError, QueryError, SettingsError
from dagfusion_contract.naming import TableName, table_name
from dagfusion_query.access.grants import ALL, REMEMBERED, Grants, Scopes
from dagfusion_query.catalog.model import Snapshot, Table
from dagfusion_query.service_settings import EnvironmentSettings

DOWN = EnvironmentUnavailableError("environment prod cannot be read now")


def snapshot(environment: str, *tables: str) -> Snapshot:
    """A catalog with tables of schema `{environment}_s`."""
    empty = pa.schema([])
    named = (TableName(f"{environment}_s", table) for table in tables)
    made = {name: Table(("s", name.table), name, empty, empty, "", pa.table({})) for name in named}
    return Snapshot(1, environment, MappingProxyType(made))


def seen(merged: Snapshot) -> set[str]:
    return {str(name) for name in merged.tables}


def test_environments_are_put_together_as_far_as_they_may_be_seen() -> None:
    snapshots = {"uat": snapshot("uat", "a", "b"), "prod": snapshot("prod", "a")}
    scopes = Scopes()
    assert seen(scopes.merged(snapshots, {}, ALL)) == {"uat_s.a", "uat_s.b", "prod_s.a"}
    assert seen(scopes.merged(snapshots, {}, Grants.parse(["uat"]))) == {"uat_s.a", "uat_s.b"}
    assert seen(scopes.merged(snapshots, {}, Grants.parse(["uat_s.b", "prod_s.*"]))) == {"uat_s.b", "prod_s.a"}
    assert seen(scopes.merged(snapshots, {}, Grants.parse(["other"]))) == set()


def test_identity_is_kept_while_nothing_changes() -> None:
    snapshots = {"uat": snapshot("uat", "a"), "prod": snapshot("prod", "a")}
    scopes = Scopes()
    first = scopes.merged(snapshots, {}, ALL)
    assert scopes.merged(dict(snapshots), {}, ALL) is first
    other = {**snapshots, "uat": snapshot("uat", "a")}
    assert scopes.merged(other, {}, ALL) is not first


def test_grants_that_come_to_the_same_share_one_object() -> None:
    snapshots = {"uat": snapshot("uat", "a", "b")}
    scopes = Scopes()
    everything = scopes.merged(snapshots, {}, ALL)
    assert scopes.merged(snapshots, {}, Grants.parse(["uat"])) is everything
    assert scopes.merged(snapshots, {}, Grants.parse(["uat_s.a"])) is not everything


def test_why_an_environment_is_missing_is_told_to_who_may_know_of_it() -> None:
    down: dict[str, QueryError] = {"prod": DOWN}
    snapshots = {"uat": snapshot("uat", "a")}
    scopes = Scopes()
    assert dict(scopes.merged(snapshots, down, ALL).unavailable) == down
    assert dict(scopes.merged(snapshots, down, Grants.parse(["uat"])).unavailable) == {}
    assert dict(scopes.merged(snapshots, {}, ALL).unavailable) == {}


def test_only_the_scopes_used_last_are_remembered() -> None:
    snapshots = {"uat": snapshot("uat", *(f"t{number}" for number in range(REMEMBERED + 1)))}
    scopes = Scopes()
    grants = [Grants.parse([f"uat_s.t{number}"]) for number in range(REMEMBERED + 1)]
    merged = [scopes.merged(snapshots, {}, grant) for grant in grants]
    assert scopes.merged(snapshots, {}, grants[-1]) is merged[-1]
    assert scopes.merged(snapshots, {}, grants[0]) is not merged[0]


NOTHING = ("", "uat silver", "UAT", "1st", "*.orders", "uat_silver.or*", "uat_silver.", ".orders", "uat_s.a.b")
IMPOSSIBLE = ("Uat_silver.*", "uat silver.*", "uat-silver.*", "uat_silver.taxID", "uat_silver.order", "größe.*")


@pytest.mark.parametrize("name", [*NOTHING, *IMPOSSIBLE])
def test_grants_and_settings_refuse_the_same_names(name: str) -> None:
    with pytest.raises(SettingsError, match="grants must be tables"):
        Grants.parse([name])
    with pytest.raises(SettingsError, match="iceberg_consolidated must be tables"):
        EnvironmentSettings.read("uat", {"iceberg_consolidated": name})


@pytest.mark.parametrize("name", ["*", "uat", "prod_eu", "uat_silver_tax_id.*", "uat_silver.order_", "uat_s._2024"])
def test_grants_and_settings_take_the_same_names(name: str) -> None:
    assert Grants.parse([f" {name} "]).names == {name}
    assert EnvironmentSettings.read("uat", {"iceberg_consolidated": f"{name}, uat"}).iceberg_consolidated == {
        name,
        "uat",
    }


@given(st.text(max_size=8), st.lists(st.text(max_size=8), min_size=1, max_size=3))
def test_each_table_can_be_granted(environment: str, asset_key: list[str]) -> None:
    name = table_name(environment, asset_key)

    assert Grants.parse([str(name), f"{name.schema}.*"]).allow("other", name)
