import re

import duckdb
import pytest
from datafusion import SessionContext
from hypothesis import example, given
from hypothesis import strategies as st

from dagfusion_contract.naming import RESERVED, TableName, identifier, table_name

UNQUOTED = re.compile(r"[a-z_][a-z0-9_]*")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("TaxID", "tax_id"),
        ("raw_organizations", "raw_organizations"),
        ("HTTPServerLog", "http_server_log"),
        ("HTTPServer2Log", "http_server2_log"),
        ("ICD10Codes", "icd10_codes"),
        ("orders2024", "orders2024"),
        ("2024Orders", "_2024_orders"),
        ("rawOrders", "raw_orders"),
        ("RAW", "raw"),
        ("A", "a"),
        ("raw orders (new)", "raw_orders_new"),
        ("raw__orders", "raw_orders"),
        ("_private_", "private"),
        ("Größe", "grosse"),
        ("ÄrzteÜbersicht", "arzte_ubersicht"),
        ("日本", "u65e5_u672c"),
        ('drop"; --', "drop"),
        ("select", "select_"),
        ("Order", "order_"),
        ("", "unnamed"),
        ("!!!", "unnamed"),
    ],
)
def test_an_identifier_is_snake_case_that_knows_acronyms(text: str, name: str) -> None:
    assert identifier(text) == name


@given(st.text())
@example("\x00")
@example("İ")
@example("ǅ")
@example("ﬁ①Ⅻ")
@example("\ud800")
def test_any_text_becomes_an_identifier_once_and_for_all(text: str) -> None:
    name = identifier(text)
    assert UNQUOTED.fullmatch(name)
    assert name not in RESERVED
    assert identifier(name) == name


@given(st.from_regex(r"[a-z]([a-z0-9]|_[a-z0-9])*", fullmatch=True).filter(lambda name: name not in RESERVED))
def test_a_snake_case_name_stays_as_it_is(name: str) -> None:
    assert identifier(name) == name


def test_a_key_names_schema_and_table() -> None:
    name = table_name("uat", ["Silver", "TaxID", "raw_organizations"])
    assert name == TableName("uat_silver_tax_id", "raw_organizations")
    assert str(name) == "uat_silver_tax_id.raw_organizations"
    assert str(table_name("local", ["orders"])) == "local_default.orders"
    assert str(table_name("local", ["order", "select"])) == "local_order.select_"


def test_a_key_without_components_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one component"):
        table_name("uat", [])


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_any_key_names_a_table(key: list[str]) -> None:
    schema, table = table_name("uat", key)
    assert UNQUOTED.fullmatch(schema)
    assert UNQUOTED.fullmatch(table)
    assert schema.startswith("uat_")


QUERIES = [
    "select * from s_x.{w}",
    "select {w}.id from s_x.{w} where {w}.id = 1 and {w}.v > 0 order by {w}.v",
    "select distinct {w}.id from s_x.{w} limit 1",
    "select s_x.{w}.id, - {w}.v from s_x.{w}",
    "select {w}.id from s_x.other join s_x.{w} on {w}.id = other.id left join s_x.{w} b on b.id = {w}.id",
    "select count(*), max({w}.v) from s_x.{w} group by {w}.id having max({w}.v) > 0",
    "select case when {w}.id = 1 then {w}.v else {w}.id end from s_x.{w} where {w}.id in (select {w}.id from s_x.{w})",
    "with {w} as (select * from s_x.{w}) select {w}.id from {w}",
    "select {w}.id from s_x.other {w}",
    "select other.id from s_x.other where exists (select 1 from s_x.{w} where {w}.id = other.id)",
]


@pytest.mark.usefixtures("heavy")
def test_every_keyword_is_usable_as_a_table_without_quotes() -> None:
    keywords = {word for (word,) in duckdb.sql("select keyword_name from duckdb_keywords()").fetchall()} | RESERVED
    context = SessionContext()
    context.sql("create schema s_x").collect()
    context.sql("create table s_x.other(id int, v int) as values (1, 2)").collect()
    for keyword in sorted(keywords - {"other"}):
        name = identifier(keyword)
        context.sql(f'create table s_x."{name}"(id int, v int) as values (1, 2)').collect()
        for query in QUERIES:
            assert context.sql(query.format(w=name)).schema() is not None, (keyword, query)
        context.sql(f'drop table s_x."{name}"').collect()
