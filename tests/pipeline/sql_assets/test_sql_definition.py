"""What follows from the SQL of an asset when it is defined."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_contract.environments import ENVIRONMENTS
from dagfusion_contract.naming import table_name
from dagfusion_pipeline import sql_asset
from dagfusion_pipeline.errors import MissingExtraError, SqlError
from dagfusion_pipeline.sql_assets import sql_extra
from dagfusion_pipeline.sql_assets.column_lineage import column_lineage
from dagfusion_pipeline.sql_assets.statement import Reference, parse_statement
from dagfusion_pipeline.sql_assets.table_keys import find_key, names_of

DAYS = dg.DailyPartitionsDefinition("2024-01-01")
HOURS = dg.HourlyPartitionsDefinition("2024-01-01-00:00")
STATES = dg.StaticPartitionsDefinition(["CA", "NY"])
DAYS_BY_STATE = dg.MultiPartitionsDefinition({"date": DAYS, "state": STATES})
ORDERS = dg.AssetSpec(["Silver", "Commerce", "orders"], partitions_def=DAYS_BY_STATE)
ORGS = dg.AssetSpec(["silver", "orgs"], partitions_def=DAYS)
KEYS = st.lists(st.text(min_size=1, max_size=8).filter(str.strip), min_size=1, max_size=3)


def references(sql: str) -> list[str]:
    return [str(reference) for reference in parse_statement(sql, "a").references]


def keys_of(asset: dg.AssetsDefinition) -> list[str]:
    return sorted(key.to_user_string() for key in asset.dependency_keys)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1", []),
        ("SELECT * FROM Silver.Orgs", ["silver.orgs"]),
        ('SELECT * FROM "Silver/TaxID/orgs" o', ["Silver/TaxID/orgs"]),
        ("WITH T AS (SELECT * FROM a.b) SELECT * FROM t JOIN c.d USING (x)", ["a.b", "c.d"]),
        ("WITH a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a, b", ["b"]),
        ("SELECT * FROM a.b WHERE x IN (SELECT y FROM c.d WHERE EXISTS (SELECT 1 FROM e.f))", ["a.b", "c.d", "e.f"]),
        ("SELECT x FROM a.b UNION ALL SELECT y FROM a.b EXCEPT SELECT z FROM c", ["a.b", "c"]),
        ("SELECT * FROM generate_series(1, 3) AS g(n), unnest([1, 2]) AS u(m), a.b", ["a.b"]),
        ("SELECT s.* FROM a.b s LEFT ANTI JOIN c.d t ON s.x = t.x", ["a.b", "c.d"]),
        ("WITH RECURSIVE n AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM n WHERE x < 3) SELECT * FROM n, a.b", ["a.b"]),
        ("VALUES (1, 2)", []),
        ("SELECT * EXCLUDE (x), arrow_cast(y, 'Int64')::int FROM a.b QUALIFY row_number() OVER () = 1", ["a.b"]),
    ],
)
def test_the_tables_of_a_query_are_found(sql: str, expected: list[str]) -> None:
    assert references(sql) == expected


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT date FROM\nWHERE x", r"^the SQL of asset 'a' does not parse: syntax error at line 2, column 5 near"),
        ("SELECT 'open", r"^the SQL of asset 'a' does not parse: "),
        ("", r"must be one statement, got 0"),
        ("SELECT 1; SELECT 2", r"must be one statement, got 2: define an asset for each"),
        ("CREATE TABLE t AS SELECT 1", r"must be a query, got CREATE: write SELECT"),
        ("INSERT INTO t SELECT 1", r"must be a query, got INSERT"),
        ("WITH x AS (DELETE FROM t RETURNING 1) SELECT * FROM x", r"must be a query, got DELETE"),
        ("COPY t TO 'file'", r"must be a query, got COPY"),
        ("SELECT * INTO t FROM s", r"must be a query, got INTO"),
        ("DROP TABLE t", r"must be a query, got DROP"),
        ("SELECT * FROM one.two.three", r"names the table one\.two\.three: a table has one or two parts"),
        ("SELECT * FROM t WHERE x = $day", r"unknown parameter \$day: it can have \$partition_key, \$window_end, "),
        ("SELECT * FROM t WHERE x = $1", r"unknown parameter \$1"),
        ("SELECT * FROM t WHERE x = ?", r"unknown parameter \$\?"),
    ],
)
def test_what_is_not_one_query_is_refused(sql: str, message: str) -> None:
    with pytest.raises(SqlError, match=message):
        sql_asset("a", sql)


def test_explain_is_no_query(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SqlError, match="must be a query, got COMMAND"):
        sql_asset("a", "EXPLAIN SELECT 1")
    assert "unsupported syntax" in caplog.text


@pytest.mark.usefixtures("heavy")
@given(KEYS, st.sampled_from(ENVIRONMENTS))
def test_every_name_of_a_table_means_its_asset(path: list[str], environment: str) -> None:
    key = dg.AssetKey(path)
    others = [dg.AssetKey(["another", "asset"]), dg.AssetKey(["one"])]
    names = names_of(key, [environment])
    assert Reference(*table_name(environment, path)) in names
    for name in names - {name for other in others for name in names_of(other, ENVIRONMENTS)}:
        assert find_key(name, [*others, key], ENVIRONMENTS, "a", is_complete=True) == key
        quoted = ".".join('"' + part.replace('"', '""') + '"' for part in name if part is not None)
        if "\0" not in quoted:
            assert parse_statement(f"SELECT * FROM {quoted}", "a").references == (name,)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("silver.orgs", "silver/orgs"),
        ("uat_silver.orgs", "silver/orgs"),
        ("local_default.orgs", "orgs"),
        ("orgs", "orgs"),
        ('"Silver/TaxID/orgs"', "Silver/TaxID/orgs"),
        ('"Silver"."Orgs"', "Silver/Orgs"),
    ],
)
def test_without_assets_a_name_means_the_key_with_its_words(name: str, key: str) -> None:
    assert keys_of(sql_asset("a", f"SELECT * FROM {name}")) == [key]


def test_a_name_is_looked_for_among_deps_and_assets() -> None:
    sql = "SELECT * FROM uat_silver_commerce.orders JOIN silver.orgs USING (date)"
    assert keys_of(sql_asset("a", sql, assets=[ORDERS, ORGS, "unused"])) == ["Silver/Commerce/orders", "silver/orgs"]
    assert keys_of(sql_asset("a", sql, deps=[ORDERS, "other"])) == ["Silver/Commerce/orders", "other", "silver/orgs"]


def test_a_table_of_no_asset_or_of_two_is_an_error() -> None:
    with pytest.raises(
        SqlError, match=r"'silver.orders', which is of none of its assets; their tables are silver_comm"
    ):
        sql_asset("a", "SELECT * FROM silver.orders", assets=[ORDERS])
    with pytest.raises(SqlError, match=r"their tables are a_b\.c, big: correct"):
        sql_asset("a", "SELECT * FROM nothing", assets=["Big", "A/b/C"])
    twice = [dg.AssetKey(["Silver", "TaxID", "x"]), dg.AssetKey(["silver", "tax_id", "x"])]
    with pytest.raises(SqlError, match=r"the assets 'Silver/TaxID/x' and 'silver/tax_id/x': write the asset's key in"):
        sql_asset("a", "SELECT * FROM silver_tax_id.x", assets=twice)
    chosen = sql_asset("a", 'SELECT * FROM "silver/tax_id/x"', assets=twice)
    assert keys_of(chosen) == ["silver/tax_id/x"]


def mapping(ours: dg.PartitionsDefinition[str] | None, theirs: dg.PartitionsDefinition[str] | None) -> str:
    """The name of the mapping that a code location finds between the asset and what it reads."""
    upstream = dg.AssetSpec("up", partitions_def=theirs)
    asset = sql_asset("down", "SELECT * FROM up", partitions_def=ours, assets=[upstream])
    definitions = dg.Definitions(assets=[upstream, asset], resources={"io_manager": dg.FilesystemIOManager()})
    node = definitions.resolve_asset_graph()
    found = node.get_partition_mapping(dg.AssetKey("down"), dg.AssetKey("up"))
    return type(found).__name__


def test_partition_mappings_follow_from_the_partitions() -> None:
    assert mapping(STATES, STATES) == "IdentityPartitionMapping"
    assert mapping(DAYS_BY_STATE, DAYS_BY_STATE) == "IdentityPartitionMapping"
    assert mapping(DAYS, DAYS_BY_STATE) == "MultiToSingleDimensionPartitionMapping"
    assert mapping(DAYS_BY_STATE, STATES) == "MultiToSingleDimensionPartitionMapping"
    assert mapping(DAYS, HOURS) == "TimeWindowPartitionMapping"
    assert mapping(None, DAYS) == "AllPartitionMapping"
    assert mapping(DAYS, None) == "AllPartitionMapping"


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (DAYS, STATES),
        (STATES, dg.StaticPartitionsDefinition(["TX"])),
        (DAYS_BY_STATE, dg.MultiPartitionsDefinition({"date": DAYS, "store": STATES})),
        (STATES, dg.MultiPartitionsDefinition({"from": STATES, "to": STATES})),
    ],
)
def test_partitions_that_no_mapping_fits_are_an_error(
    ours: dg.PartitionsDefinition[str], theirs: dg.PartitionsDefinition[str]
) -> None:
    upstream = dg.AssetSpec("up", partitions_def=theirs)
    with pytest.raises(
        SqlError, match=r"no partition mapping follows from these; give one with deps=\[AssetDep\(\['up'\]"
    ):
        sql_asset("down", "SELECT * FROM up", partitions_def=ours, assets=[upstream])
    dep = dg.AssetDep("up", partition_mapping=dg.AllPartitionMapping())
    given_one = sql_asset("down", "SELECT * FROM up", partitions_def=ours, assets=[upstream], deps=[dep])
    assert given_one.get_partition_mapping_for_dep(dg.AssetKey("up")) == dg.AllPartitionMapping()


def test_an_asset_reads_itself_with_a_mapping_only() -> None:
    with pytest.raises(SqlError, match="reads the asset itself: name the partitions"):
        sql_asset("gold/x", "SELECT * FROM gold.x", partitions_def=DAYS)
    yesterday = dg.AssetDep(
        ["gold", "x"], partition_mapping=dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1)
    )
    asset = sql_asset("gold/x", "SELECT * FROM gold.x", partitions_def=DAYS, deps=[yesterday])
    assert keys_of(asset) == ["gold/x"]


def test_parameters_need_partitions() -> None:
    with pytest.raises(SqlError, match=r"has \$window_end, and the asset has no partitions by time: give it"):
        sql_asset("a", "SELECT $window_start AS t, $window_end AS u", partitions_def=STATES)
    with pytest.raises(SqlError, match=r"has \$partition_key, and the asset has no partitions: give it"):
        sql_asset("a", "SELECT $partition_key AS k")
    for partitions in (DAYS, DAYS_BY_STATE):
        sql_asset("a", "SELECT $window_start AS t, $window_end AS u", partitions_def=partitions)


def test_the_definition_shows_the_sql_and_the_options() -> None:
    asset = sql_asset(
        "gold/x",
        "SELECT date AS day FROM silver.orgs",
        partitions_def=DAYS,
        assets=[ORGS],
        group_name="gold",
        owners=["team:data"],
        tags={"layer": "gold"},
        description="Days.",
        metadata={"mine": 1},
        retry_policy=dg.RetryPolicy(max_retries=2),
    )
    (spec,) = asset.specs
    assert (spec.group_name, spec.owners, spec.description) == ("gold", ["team:data"], "Days.")
    assert spec.kinds == {"sql", "datafusion"}
    assert spec.tags["layer"] == "gold"
    assert spec.metadata["mine"] == 1
    assert "SELECT date AS day" in spec.metadata["sql"].value
    lineage = spec.metadata["dagster/column_lineage"]
    assert lineage == dg.TableColumnLineage({"day": [dg.TableColumnDep(ORGS.key, "date")]})
    assert asset.op.retry_policy == dg.RetryPolicy(max_retries=2)


def test_the_code_version_is_that_of_the_tokens() -> None:
    def version(sql: str) -> str | None:
        (spec,) = sql_asset("a", sql).specs
        return spec.code_version

    same = version("SELECT x, 'Y' FROM t")
    assert version("select  X, -- a comment\n 'Y'\nfrom T;") == same
    assert (
        len({same, version("SELECT x, 'y' FROM t"), version("SELECT \"X\", 'Y' FROM t"), version("SELECT x FROM t")})
        == 4
    )
    (spec,) = sql_asset("a", "SELECT 1", code_version="7").specs
    assert spec.code_version == "7"


A, B = dg.AssetKey(["a"]), dg.AssetKey(["b"])
COLUMNS = {A: ["x", "y", 'Odd . "name'], B: ["x", "z"]}


def lineage(
    sql: str, columns: Mapping[dg.AssetKey, Sequence[str]], names: Sequence[str] | None = None
) -> dict[str, list[str]] | None:
    statement = parse_statement(sql, "c")
    keys = {reference: dg.AssetKey(reference.table) for reference in statement.references}
    found = column_lineage(statement, keys, columns, names)
    if found is None:
        return None
    return {
        name: [f"{dep.asset_key.to_user_string()}.{dep.column_name}" for dep in deps]
        for name, deps in found.deps_by_column.items()
    }


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT x, sum(y * 2) AS s FROM a GROUP BY x", {"x": ["a.x"], "s": ["a.y"]}),
        (
            "SELECT a.x, b.x AS other, y + z AS t FROM a JOIN b ON a.x = b.x",
            {"x": ["a.x"], "other": ["b.x"], "t": ["a.y", "b.z"]},
        ),
        ("SELECT * FROM b", {"x": ["b.x"], "z": ["b.z"]}),
        ("SELECT * EXCLUDE (x) FROM b", {"z": ["b.z"]}),
        ("WITH c AS (SELECT x, z FROM b) SELECT z AS q FROM c UNION ALL SELECT y FROM a", {"q": ["a.y", "b.z"]}),
        ("SELECT (SELECT max(z) FROM b) AS m, 1 AS one FROM a", {"m": ["b.z"], "one": []}),
        ('SELECT "Odd . ""name" AS odd FROM a', {"odd": ['a.Odd . "name']}),
        ("SELECT l.x FROM a AS l LEFT ANTI JOIN b AS r ON l.x = r.x", {"x": ["a.x"]}),
        ("SELECT n, x FROM generate_series(1, 2) AS g(n), b", {"n": [], "x": ["b.x"]}),
    ],
)
def test_the_lineage_of_columns(sql: str, expected: dict[str, list[str]]) -> None:
    assert lineage(sql, COLUMNS) == expected


def test_lineage_that_does_not_follow_is_left_out() -> None:
    assert lineage("SELECT * FROM a", {}) is None
    assert lineage("SELECT z FROM a JOIN b ON a.x = b.x", {}) is None
    assert lineage("SELECT count(x) FROM a", COLUMNS) is None
    assert lineage("SELECT count(x) FROM a", COLUMNS, ["count(a.x)"]) == {"count(a.x)": ["a.x"]}


def test_a_missing_library_is_an_error_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_extra, "LIBRARIES", ("dagster", "no_such_library"))
    with pytest.raises(
        MissingExtraError, match=r"^sql_asset needs no-such-library, which .*'dagfusion-pipeline\[sql\]'$"
    ):
        sql_asset("a", "SELECT 1")


@pytest.mark.usefixtures("processes")
def test_a_definition_imports_no_engine(tmp_path: Path) -> None:
    program = (
        "import sys, dagfusion_pipeline\n"
        "assert not {'dagster', 'sqlglot'} & sys.modules.keys()\n"
        "dagfusion_pipeline.sql_asset('a', 'SELECT * FROM b')\n"
        "assert not {'datafusion', 'dagfusion_client', 'dagfusion_query'} & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603
    assert (done.returncode, done.stderr) == (0, "")
