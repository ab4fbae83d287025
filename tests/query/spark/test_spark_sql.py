"""Statements in Spark's SQL: the same strings and names, and the tables of the server."""

import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_contract.naming import TableName
from dagfusion_contract.view import View
from dagfusion_query.errors import EngineChoiceError
from dagfusion_query.spark.spark_sql import SparkNames, check_whole, named_tables, spark_statement, without_pins

ORGS, TOTALS, BOTH = TableName("uat_a", "orgs"), TableName("uat_b", "totals"), TableName("uat_b", "both")
SUM = View("SELECT state, sum(n) AS n FROM uat_a.orgs GROUP BY state", [ORGS], pa.schema([]))
OVER_VIEW = View("FROM uat_b.totals WHERE n > 1", [TOTALS], pa.schema([]))
NAMES = SparkNames("lake", {ORGS: "7-ab"}, {TOTALS: SUM, BOTH: OVER_VIEW})
THERE = "`lake`.`uat_a@7-ab`.`orgs`"
VIEW_THERE = f"`totals` AS (SELECT state, sum(n) AS n FROM {THERE} GROUP BY state)"


def sent(sql: str, **values: pa.Scalar) -> str:
    return spark_statement(sql, values, NAMES)


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("FROM uat_a.orgs;", f"SELECT * FROM {THERE}"),
        ('SELECT "n" FROM "uat_a".ORGS o', f"SELECT `n` FROM {THERE} o"),
        ("SELECT uat_a.orgs.n FROM datafusion.uat_a.orgs", f"SELECT `uat_a@7-ab`.`orgs`.n FROM {THERE}"),
        ("SELECT 'a\\' /*+ hint */ -- '\n, 'it''s'", "SELECT 'a\\\\' , 'it\\'s'"),
        ("SELECT X'4f', '${env:HOME}'", "SELECT X'4f', '\\u0024{env:HOME}'"),
        ("SELECT 1.5, .5, 2., 1e3, 7 LIMIT 5", "SELECT 1.5D, .5D, 2.D, 1e3D, 7L LIMIT 5"),
        ("SELECT n+1, n * 2 - -3", "SELECT n+1L, n * 2L - -3L"),
        ("SELECT n-- c\n-1 -/**/-2", "SELECT n -1L - -2L"),
        ("SELECT CAST(NULL AS VARCHAR), CAST(NULL AS text)", "SELECT CAST(NULL AS STRING), CAST(NULL AS STRING)"),
        (
            "SELECT coalesce(n, 0), substr(a, 2, 3), lag(a, 1) OVER (ORDER BY 5 + n ROWS 1 PRECEDING)",
            "SELECT coalesce(n, 0L), substr(a, 2, 3), lag(a, 1) OVER (ORDER BY 5L + n NULLS LAST ROWS 1 PRECEDING)",
        ),
        (
            "SELECT a, 8 GROUP BY 1, 2 HAVING sum(a) > 2 ORDER BY 2 DESC, 1 LIMIT 3 OFFSET 4",
            "SELECT a, 8L GROUP BY 1, 2 HAVING sum(a) > 2L ORDER BY 2 DESC NULLS FIRST, 1 NULLS LAST LIMIT 3 OFFSET 4",
        ),
        (
            "SELECT a ORDER BY lag(a) IGNORE NULLS OVER (ORDER BY b)",
            "SELECT a ORDER BY lag(a) IGNORE NULLS OVER (ORDER BY b NULLS LAST) NULLS LAST",
        ),
        ("SELECT ü, a$b FROM uat_b.totals", None),
        ("SELECT n FROM uat_b.totals t", f"WITH {VIEW_THERE} SELECT n FROM `totals` t"),
        (
            "WITH x AS (FROM uat_b.totals) FROM x",
            f"WITH {VIEW_THERE} (WITH x AS (SELECT * FROM `totals`) SELECT * FROM x)",
        ),
        ("FROM uat_b.both", f"WITH {VIEW_THERE}, `both` AS (SELECT * FROM `totals` WHERE n > 1L) SELECT * FROM `both`"),
    ],
)
def test_a_statement_is_written_anew(here: str, there: str | None) -> None:
    if there is None:
        with pytest.raises(EngineChoiceError, match=r"has a \$"):
            sent(here)
    else:
        assert sent(here) == there


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("a", "a NULLS LAST"),
        ("a DESC, b NULLS FIRST, c ASC LIMIT 5", "a DESC NULLS FIRST, b NULLS FIRST, c ASC NULLS LAST LIMIT 5"),
        ("sum(a) OVER (PARTITION BY b, c ORDER BY d DESC ROWS 1 PRECEDING), e", None),
    ],
)
def test_null_is_where_it_is_here(here: str, there: str | None) -> None:
    window = "sum(a) OVER (PARTITION BY b, c ORDER BY d DESC NULLS FIRST ROWS 1 PRECEDING) NULLS LAST, e NULLS LAST"
    assert sent(f"SELECT a ORDER BY {here}") == f"SELECT a ORDER BY {there or window}"
    assert sent(f"SELECT a FROM (SELECT a ORDER BY {here}) b, c").endswith(f"{there or window}) b, c")


@pytest.mark.parametrize(
    "sql",
    [
        "SET x = 1",
        "CREATE TABLE a AS SELECT 1",
        "INSERT INTO a SELECT 1",
        "SELECT 1; SELECT 2",
        "SELECT log(n)",
        "SELECT s.reflect('java.lang.System', 'exit')",
        "SELECT java_method('java.lang.System', 'exit')",
        "SELECT transform(a) USING 'cat'",
        "SELECT a.b USING 'cat'",
        'SELECT * FROM parquet."s3://lake/x"',
        "SELECT * FROM JSON.`/etc/passwd`",
        "SELECT * FROM lake.uat_a.other",
        "SELECT * FROM information_schema.tables",
        "SELECT a / b",
        "SELECT sum(a) / 7",
        "SELECT a[1]",
        "SELECT {'a': 1}",
        "SELECT * FROM a JOIN b USING (k)",
        "SELECT * FROM a NATURAL JOIN b",
        "SELECT trim(a, 'x')",
        "SELECT LTRIM(lower(a), 'x')",
        """SELECT "rtrim"(a, 'x')""",
        "SELECT CAST(a AS DECIMAL)",
        "SELECT CAST(a AS VARCHAR)",
        "SELECT CAST(a AS BIGINT)",
        "SELECT CAST('2024' AS DATE)",
        "SELECT CAST('2024-02-30' AS DATE)",
        "SELECT a::DECIMAL",
        "SELECT TRY_CAST(a AS DATE)",
        "SELECT 'a' 'b'",
        "SELECT $1 'b'",
        "SELECT a AS 'b'",
        "SELECT lower(a) 'b'",
        "SELECT NUMERIC '1.5'",
        "SELECT a || 'x'",
        "SELECT 1 / 0.0",
        "SELECT a / 7",
        "SELECT a / 7.0e-400",
        "SELECT a / b::double",
        "SELECT 7 / real",
        "SELECT count(double) / 2.0e0",
        "SELECT a % 0",
        "SELECT a % b",
        "SELECT sqrt(a)",
        "SELECT floor(a)",
        "SELECT a EXCEPT ALL SELECT b",
        "SELECT a INTERSECT ALL SELECT b",
        "SELECT nulls ORDER BY nulls",
        "SELECT desc ORDER BY desc",
        "SELECT a ORDER BY ALL",
        "SELECT a GROUP BY (1)",
        "SELECT a GROUP BY ROLLUP (1)",
        "SELECT TIMESTAMP '2024-01-01 00:00:00.1234567'",
        "SELECT TIMESTAMP '2024-01-01 00:00:00+02:00'",
        "SELECT a WHERE b > '2024-01-01 00:00:00.1234567'",
        "SELECT a LIKE 'b' ESCAPE '!'",
        "SELECT lag(a, 1, 0) OVER (ORDER BY a)",
        "SELECT substring(a, 0, 2)",
        "SELECT substring(a FROM b FOR 2)",
        "SELECT INTERVAL 5 DAY",
        "SELECT 9223372036854775808",
        'SELECT "A" FROM (SELECT 1 AS a, 2 AS "A")',
        "SELECT rank() OVER (ORDER BY a) - row_number() OVER (ORDER BY a)",
        "SELECT r * r FROM (SELECT row_number() OVER (ORDER BY a) AS r FROM b)",
        "SELECT 10L",
        "SELECT 0x1F",
        "SELECT E'\\''",
        "SELECT r'x'",
        "SELECT r'''a', (SELECT max(n) FROM uat_b.secret), '''",
        'SELECT b"x"',
        "SELECT U&'x'",
        "SELECT $$x$$",
        "SELECT $a$x$a$",
        "SELECT * FROM uat_b.secret",
        "SELECT * FROM uat_a.orgs, uat_b.secret",
        "SELECT * FROM uat_a.orgs JOIN uat_b.secret ON true",
        "SELECT * FROM (uat_b.secret JOIN uat_a.orgs ON true)",
        "SELECT (SELECT max(n) FROM uat_b.secret) FROM uat_a.orgs",
        "WITH a AS (FROM uat_b.secret) FROM a",
        "SELECT X'4'",
        "SELECT a ^ 2",
        "SELECT a ~ 'x'",
        "SELECT EXTRACT(dow FROM d)",
        "SELECT $1",
        'SELECT "${env:HOME}"',
        "WITH totals AS (SELECT 1) SELECT * FROM uat_b.totals, totals",
        "WITH totals (a) AS (SELECT 1) SELECT * FROM uat_b.totals, totals",
        "",
    ],
)
def test_what_spark_may_read_otherwise_is_refused(sql: str) -> None:
    with pytest.raises(EngineChoiceError):
        sent(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a / 7.0, a * 1.0 / 0.5, a % 7, a % 2.5, CAST(7 AS DOUBLE), CAST('2024-02-29' AS DATE)",
        "WITH c (x, y) AS (SELECT 1, 2) SELECT * FROM c AS d (e, f) JOIN (SELECT 1) g (h) ON (e = h) WHERE e IN (1, 2)",
        "SELECT count(*) FILTER (WHERE a > 1), a * 1.0 FROM b GROUP BY GROUPING SETS ((a), ())",
        "SELECT a.x IS NOT DISTINCT FROM b.y FROM c AS a JOIN c AS b ON a.x = b.x WHERE TRIM(BOTH 'x' FROM a.x) = b.z",
        "SELECT *, count(*), a.* FROM (SELECT row_number() OVER (ORDER BY a) AS r FROM b) a",
        "SELECT EXTRACT(YEAR FROM d), substring(a FROM 1 FOR 2) FROM b WHERE EXISTS (SELECT 1) AND NOT (a OR (b))",
    ],
)
def test_what_both_read_alike_is_sent(sql: str) -> None:
    assert sent(sql)


def test_parameters_are_constants() -> None:
    assert (
        sent("SELECT $1, $2", **{"1": pa.scalar(5), "2": pa.scalar("o'\\")}) == "SELECT CAST('5' AS BIGINT), 'o\\'\\\\'"
    )
    assert sent("SELECT $a", a=pa.scalar(None)) == "SELECT NULL"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_a_string_ends_where_it_ends_here(text: str) -> None:
    written = text.replace("'", "''")
    found = re.fullmatch(r"SELECT '((?:[^'\\$]|\\.)*)' AS x", sent(f"SELECT '{written}' AS x"), re.DOTALL)
    assert found is not None
    assert (
        re.sub(r"\\(u0024|.)", lambda escape: "$" if escape[1] == "u0024" else escape[1], found[1], flags=re.DOTALL)
        == text
    )


def test_the_tables_of_a_statement_are_those_of_its_views_too() -> None:
    tables = {ORGS: None, TOTALS: SUM, BOTH: OVER_VIEW, TableName("uat_a", "other"): None}
    assert named_tables("SELECT * FROM uat_b.both", tables) == {ORGS}
    assert named_tables('SELECT * FROM "uat_a"."other" AS o -- uat_a.orgs', tables) == {TableName("uat_a", "other")}
    assert named_tables("SELECT 1", tables) == set()


def test_the_names_of_all_tables_are_not_sent() -> None:
    for sql in (
        "SHOW TABLES",
        "SELECT * FROM information_schema.tables",
        "SELECT a.information_schema.b FROM uat_a.orgs a",
    ):
        with pytest.raises(EngineChoiceError):
            named_tables(sql, {ORGS: None})


def test_what_a_worker_leaves_out_is_not_read_elsewhere() -> None:
    check_whole([])
    with pytest.raises(EngineChoiceError, match="the result leaves out 1 partition"):
        check_whole(["the result leaves out 1 partition of uat_a.orgs"])


def test_errors_have_no_versions() -> None:
    assert without_pins("`uat_a@7-ab`.`orgs` is not there", ["7-ab"]) == "`uat_a`.`orgs` is not there"
