"""Statements in Spark's SQL: the same strings and names, and the tables of the server."""

import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_client.errors import EngineChoiceError
from dagfusion_contract.naming import TableName
from dagfusion_contract.view import View
from dagfusion_interop.spark.spark_sql import SparkNames, check_whole, named_tables, spark_statement, without_pins

ORGS, TOTALS, BOTH = TableName("uat_a", "orgs"), TableName("uat_b", "totals"), TableName("uat_b", "both")
SUM = View("SELECT state, sum(n) AS n FROM uat_a.orgs GROUP BY state", [ORGS], pa.schema([]))
OVER_VIEW = View("FROM uat_b.totals WHERE n > 1", [TOTALS], pa.schema([]))
COLUMNS = pa.schema({"state": pa.string(), "n": pa.int64(), "ts": pa.timestamp("us"), "tags": pa.list_(pa.string())})
NAMES = SparkNames("lake", {ORGS: "7-ab"}, {TOTALS: SUM, BOTH: OVER_VIEW}, {ORGS: COLUMNS})
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
            "SELECT a ORDER BY last_value(a) IGNORE NULLS OVER (ORDER BY b)",
            "SELECT a ORDER BY last_value(a) IGNORE NULLS OVER (ORDER BY b NULLS LAST) NULLS LAST",
        ),
        ("SELECT a, count(*) GROUP BY 1 ORDER BY 2", "SELECT a, count(*) GROUP BY 1 ORDER BY 2 NULLS LAST"),
        (
            "SELECT o.by, 7 FROM b o ORDER BY o.desc, o.by DESC, o.range",
            "SELECT o.by, 7L FROM b o ORDER BY o.desc NULLS LAST, o.by DESC NULLS FIRST, o.range NULLS LAST",
        ),
        ('SELECT a ORDER BY "a" DESC', "SELECT a ORDER BY `a` DESC NULLS FIRST"),
        ("SELECT a AS text, b AS varchar FROM c", "SELECT a AS text, b AS varchar FROM c"),
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
    ("sql", "reason"),
    [
        ("SET x = 1", "must begin with SELECT"),
        ("CREATE TABLE a AS SELECT 1", "must begin with SELECT"),
        ("INSERT INTO a SELECT 1", "must begin with SELECT"),
        ("SELECT 1; SELECT 2", "cannot be sent ';'"),
        ("SELECT log(n)", "the function log"),
        ("SELECT s.reflect('java.lang.System', 'exit')", "the function reflect"),
        ("SELECT java_method('java.lang.System', 'exit')", "the function java_method"),
        ("SELECT transform(a) USING 'cat'", "the function transform"),
        ("SELECT a.b USING 'cat'", "USING returns other columns"),
        ('SELECT * FROM parquet."s3://lake/x"', "would read parquet"),
        ("SELECT * FROM JSON.`/etc/passwd`", "would read JSON"),
        ("SELECT * FROM lake.uat_a.other", "has no table"),
        ("SELECT * FROM information_schema.tables", "has no table"),
        ("SELECT a / b", "/ by 0"),
        ("SELECT sum(a) / 7", "/ by 0"),
        ("SELECT a[1]", r"cannot be sent '\['"),
        ("SELECT {'a': 1}", "a string after {"),
        ("SELECT * FROM a JOIN b USING (k)", "USING returns other columns"),
        ("SELECT * FROM a NATURAL JOIN b", "NATURAL JOIN returns other columns"),
        ("SELECT trim(a, 'x')", "trim has its two arguments in the opposite order"),
        ("SELECT LTRIM(lower(a), 'x')", "trim has its two arguments in the opposite order"),
        ("SELECT \"rtrim\"(a, 'x')", "trim has its two arguments in the opposite order"),
        ("SELECT CAST(a AS DECIMAL)", "CAST of anything but a constant"),
        ("SELECT CAST(a AS VARCHAR)", "CAST of anything but a constant"),
        ("SELECT CAST(a AS BIGINT)", "CAST of anything but a constant"),
        ("SELECT CAST('2024' AS DATE)", "CAST of anything but a constant"),
        ("SELECT CAST('2024-02-30' AS DATE)", "CAST of anything but a constant"),
        ("SELECT a::DECIMAL", ":: may return"),
        ("SELECT TRY_CAST(a AS DATE)", "TRY_CAST accepts"),
        ("SELECT 'a' 'b'", "a string after 'a'"),
        ("SELECT $1 'b'", r"a string after \$1"),
        ("SELECT a AS 'b'", "a string after AS"),
        ("SELECT lower(a) 'b'", r"a string after \)"),
        ("SELECT NUMERIC '1.5'", "a string after NUMERIC"),
        ("SELECT a || 'x'", r"\|\| converts"),
        ("SELECT 1 / 0.0", "/ by 0"),
        ("SELECT a / 7", "/ by 0"),
        ("SELECT a / 7.0e-400", "/ by 0"),
        ("SELECT a / b::double", "/ by 0"),
        ("SELECT 7 / real", "/ by 0"),
        ("SELECT count(double) / 2.0e0", "/ by 0"),
        ("SELECT a % 0", "% by 0"),
        ("SELECT a % b", "% by 0"),
        ("SELECT sqrt(a)", "the function sqrt"),
        ("SELECT floor(a)", "the function floor"),
        ("SELECT a EXCEPT ALL SELECT b", "EXCEPT ALL counts"),
        ("SELECT a INTERSECT ALL SELECT b", "INTERSECT ALL counts"),
        ("SELECT nulls ORDER BY nulls", "NULLS as a name"),
        ("SELECT desc ORDER BY desc", "DESC as a name"),
        ("SELECT a ORDER BY ALL", "Spark may read BY ALL"),
        ("SELECT a GROUP BY (1)", "may be a column or a number"),
        ("SELECT TIMESTAMP '2024-01-01 00:00:00.1234567'", "is not of the form"),
        ("SELECT TIMESTAMP '2024-01-01 00:00:00+02:00'", "is not of the form"),
        ("SELECT a WHERE b > '2024-01-01 00:00:00.1234567'", "Spark has no nanoseconds"),
        ("SELECT a LIKE 'b' ESCAPE '!'", "DataFusion does not support LIKE ... ESCAPE"),
        ("SELECT lag(a, 1, 0) OVER (ORDER BY a)", "the third argument of lag"),
        ("SELECT substring(a, 0, 2)", "substring counts from the end"),
        ("SELECT substring(a FROM b FOR 2)", "substring counts from the end"),
        ("SELECT INTERVAL 5 DAY", "write INTERVAL '5'"),
        ("SELECT 9223372036854775808", "more than 64 bits"),
        ('SELECT "A" FROM (SELECT 1 AS a, 2 AS "A")', r"differ only in case \(A, a\)"),
        ("SELECT rank() OVER (ORDER BY a) - row_number() OVER (ORDER BY a)", "ranks are signed 32-bit"),
        ("SELECT r * r FROM (SELECT row_number() OVER (ORDER BY a) AS r FROM b)", "ranks are signed 32-bit"),
        ("SELECT 10L", "cannot be sent '10L'"),
        ("SELECT 0x1F", "cannot be sent '0x'"),
        ("SELECT E'\\''", "single quotes with no prefix"),
        ("SELECT r'x'", "a string after r "),
        ("SELECT r'''a', (SELECT max(n) FROM uat_b.secret), '''", "a string after r "),
        ('SELECT b"x"', "no prefix of quotes"),
        ("SELECT U&'x'", "a string after &"),
        ("SELECT $$x$$", "single quotes with no prefix"),
        ("SELECT $a$x$a$", "single quotes with no prefix"),
        ("SELECT * FROM uat_b.secret", "has no table"),
        ("SELECT * FROM uat_a.orgs, uat_b.secret", "has no table"),
        ("SELECT * FROM uat_a.orgs JOIN uat_b.secret ON true", "has no table"),
        ("SELECT * FROM (uat_b.secret JOIN uat_a.orgs ON true)", "has no table"),
        ("SELECT (SELECT max(n) FROM uat_b.secret) FROM uat_a.orgs", "has no table"),
        ("WITH a AS (FROM uat_b.secret) FROM a", "has no table"),
        ("SELECT X'4'", "is not hexadecimal"),
        ("SELECT a ^ 2", r"cannot be sent '\^'"),
        ("SELECT a ~ 'x'", "a string after ~"),
        ("SELECT EXTRACT(dow FROM d)", "extract may return another DOW"),
        ("SELECT $1", "has no value"),
        ('SELECT "${env:HOME}"', r"has a \$"),
        ("WITH totals AS (SELECT 1) SELECT * FROM uat_b.totals, totals", "the name of the view totals"),
        ("WITH totals (a) AS (SELECT 1) SELECT * FROM uat_b.totals, totals", "the name of the view totals"),
        ("", "must begin with SELECT"),
        (f"SELECT {'(' * 101}1{')' * 101}", "at most 100 deep"),
        ("SELECT n) + (n", "are closed"),
        ("SELECT CASE WHEN true THEN 1", "are closed"),
        (f"SELECT {'1' * 5000}", "more than 64 bits"),
        (f"SELECT a % {'0' * 5000}", "more than 64 bits"),
        ("SELECT a GROUP BY GROUPING SETS (1)", "may be a column or a number"),
        ("SELECT {x}", r"cannot be sent '\{'"),
        ("SELECT ~ a", "cannot be sent '~'"),
        ('SELECT U&"x"', "no prefix of quotes"),
        ("SELECT a ? b", r"cannot be sent '\?'"),
        (
            "SELECT sum(n) OVER (ORDER BY d RANGE BETWEEN INTERVAL '7' DAY PRECEDING AND CURRENT ROW)",
            "only window frames with ROWS",
        ),
        ("SELECT sum(n) OVER (ORDER BY n RANGE 7 PRECEDING)", "only window frames with ROWS"),
        ("SELECT sum(n) OVER (ORDER BY n ROWS BETWEEN $1 PRECEDING AND CURRENT ROW)", "only window frames with ROWS"),
        ("SELECT sum(n) OVER (ORDER BY n GROUPS CURRENT ROW)", "only window frames with ROWS"),
        ("SELECT lag(n) IGNORE NULLS OVER (ORDER BY n)", "Spark ignores IGNORE NULLS"),
        ("SELECT lead(n IGNORE NULLS) OVER (ORDER BY n)", "Spark ignores IGNORE NULLS"),
        ("SELECT nth_value(n, 2) RESPECT NULLS OVER (ORDER BY n)", "Spark ignores RESPECT NULLS"),
        ("SELECT a WHERE INTERVAL '24 hours' = INTERVAL '1 day'", "INTERVAL may only be added"),
        ("SELECT a WHERE b - c > INTERVAL '1 day'", "INTERVAL may only be added"),
        ("SELECT a + INTERVAL '36 hours'", "INTERVAL may only be added"),
        ("SELECT a + INTERVAL '1 day' * 2", "INTERVAL may only be added"),
        ("SELECT -INTERVAL '1' DAY", "INTERVAL may only be added"),
        ("SELECT a - TIMESTAMP '2024-01-01 00:00:00'", "anything but a constant INTERVAL"),
        ("SELECT DATE '2024-01-02' - 1", "anything but a constant INTERVAL"),
        ("SELECT date_trunc('day', a) - b", "anything but a constant INTERVAL"),
        ("SELECT ts - m FROM uat_a.orgs", "anything but a constant INTERVAL"),
        ("SELECT n + (CASE WHEN n > 1 THEN ts END) FROM uat_a.orgs", "anything but a constant INTERVAL"),
        ("SELECT max(o.ts) - min(o.ts) FROM uat_a.orgs o", "anything but a constant INTERVAL"),
        (
            "SELECT q.hi - q.lo FROM (SELECT max(ts) AS hi, min(ts) lo FROM uat_a.orgs) q",
            "anything but a constant INTERVAL",
        ),
        (
            "WITH c (hi, lo) AS (SELECT max(ts), min(ts) FROM uat_a.orgs) SELECT hi - lo FROM c",
            "anything but a constant INTERVAL",
        ),
        ("SELECT x - y FROM (VALUES (1, DATE '2024-01-01')) a (x, y)", "anything but a constant INTERVAL"),
        (
            "SELECT x - x FROM (SELECT NULL AS x UNION ALL SELECT ts FROM uat_a.orgs) a",
            "anything but a constant INTERVAL",
        ),
        ("SELECT a + INTERVAL '1 day' - b", "anything but a constant INTERVAL"),
        ("SELECT extract(HOUR FROM a - b)", "extract from anything but a column"),
        ("SELECT by ORDER BY by", "BY as a name"),
        ("SELECT a ORDER BY range", "RANGE as a name"),
        ("SELECT a, limit", "LIMIT as a name"),
        ("SELECT 5 preceding", "PRECEDING as a name"),
        ("SELECT order", "ORDER as a name"),
        ("SELECT x 'ab'", "a string after x differently"),
        ("SELECT o.date 'ab' FROM b o", "a string after date"),
        ("SELECT concat((WITH c(z) AS (SELECT 'a') SELECT max(z) FROM c), w)", "the function concat"),
        ("SELECT a, log((WITH c(z) AS (SELECT 8) SELECT max(z) FROM c)) AS b", "the function log"),
        ("WITH c(z) AS (SELECT 1), log(z + 1) AS (SELECT 2) SELECT 1", "the function log"),
        ("SELECT b BETWEEN false AND true = false", "what follows BETWEEN"),
        ("SELECT b BETWEEN c AND CASE WHEN d THEN b END = false", "what follows BETWEEN"),
        ("SELECT b BETWEEN c = d AND true", "what follows BETWEEN"),
        ("SELECT a IS DISTINCT FROM b AND c", "what follows IS DISTINCT FROM"),
        ("SELECT CASE x WHEN 0.0 THEN 1 END", "CASE x WHEN compares"),
        ("SELECT nullif(x, 0.0)", "the function nullif"),
        ("SELECT count(*) GROUP BY ROLLUP (n)", r"ROLLUP with \(\) has no grand total"),
        ("SELECT count(*) GROUP BY CUBE (n)", r"CUBE with \(\) has no grand total"),
        ("SELECT count(*) GROUP BY GROUPING SETS ((n), ())", r"SETS with \(\) has no grand total"),
        ("SELECT (SELECT sum(a) FROM b WHERE b.c = d.c HAVING count(*) > 1) FROM d", "HAVING in a scalar subquery"),
        ("SELECT current_date", "time is that of another machine"),
        ("SELECT a AT TIME ZONE $1", "only the time zone UTC"),
        (
            'SELECT "N" FROM uat_a.orgs WHERE EXISTS (SELECT 1 FROM uat_b.totals WHERE n = 9)',
            r"differ only in case \(N, n\)",
        ),
        ("SELECT tags FROM uat_a.orgs ORDER BY tags", "names column tags of uat_a.orgs, because it is list"),
    ],
)
def test_what_spark_may_read_otherwise_is_refused(sql: str, reason: str) -> None:
    with pytest.raises(EngineChoiceError, match=reason):
        sent(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a / 7.0, a * 1.0 / 0.5, a % 7, a % 2.5, CAST(7 AS DOUBLE), CAST('2024-02-29' AS DATE)",
        "WITH c (x, y) AS (SELECT 1, 2) SELECT * FROM c AS d (e, f) JOIN (SELECT 1) g (h) ON (e = h) WHERE e IN (1, 2)",
        "SELECT count(*) FILTER (WHERE a > 1), a * 1.0 FROM b GROUP BY GROUPING SETS ((a), (a, c))",
        "SELECT sum(a) OVER (ORDER BY b RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) FROM c",
        "SELECT last_value(a) IGNORE NULLS OVER (ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING) FROM c",
        "SELECT d - INTERVAL '3 months' + INTERVAL '1' DAY FROM b WHERE d < DATE '2024-01-01' + INTERVAL '1' YEAR",
        "SELECT ts + INTERVAL '1 day', n - 1, n - -n, count(ts) - n FROM uat_a.orgs",
        "SELECT sum(CASE WHEN ts > d THEN 1 ELSE 0 END) - n FROM uat_a.orgs",
        "SELECT max(n) FILTER (WHERE ts > d) - sum(n) OVER (ORDER BY ts) FROM uat_a.orgs",
        "SELECT x - z FROM (VALUES (1, DATE '2024-01-01', 2)) a (x, y, z)",
        "SELECT a FROM (SELECT a FROM b GROUP BY a HAVING count(*) > 1) c",
        "SELECT a FROM b WHERE a IN (SELECT a FROM b GROUP BY a HAVING sum(b) > 1)",
        "SELECT a FROM b WHERE a BETWEEN 1 AND (2) AND (a IS DISTINCT FROM d) AND true",
        "SELECT state FROM uat_a.orgs ORDER BY state",
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


def test_the_columns_of_tables_have_the_same_values_there() -> None:
    def check(**columns: pa.DataType) -> None:
        names = SparkNames("lake", {ORGS: "7-ab"}, {}, {ORGS: pa.schema(columns)})
        spark_statement("SELECT count(*) AS c FROM uat_a.orgs o, (SELECT 1 AS n) p WHERE EXISTS (SELECT n)", {}, names)

    check(a=pa.float64(), t=pa.timestamp("us", "UTC"), s=pa.struct({"item": pa.list_(pa.int8())}), item=pa.int8())
    with pytest.raises(EngineChoiceError, match=r"table uat_a\.orgs, because column f is float, and Spark compares"):
        check(a=pa.int8(), f=pa.float32())
    with pytest.raises(EngineChoiceError, match=r"because column s is list<.*Spark compares 32-bit floats"):
        check(s=pa.list_(pa.struct({"f": pa.float32()})))
    with pytest.raises(EngineChoiceError, match="only the time zone UTC"):
        check(t=pa.timestamp("us", "America/New_York"))
    with pytest.raises(EngineChoiceError, match=r"differ only in case \(N, n\)"):
        check(N=pa.int8())
    with pytest.raises(EngineChoiceError, match=r"differ only in case \(N, n\)"):
        check(s=pa.map_(pa.string(), pa.struct({"N": pa.int8()})))
    columns = pa.schema({"b": pa.int8(), "B": pa.int8()})
    with pytest.raises(EngineChoiceError, match=r"differ only in case \(B, b\)"):
        spark_statement("SELECT 1 FROM uat_a.orgs", {}, SparkNames("lake", {ORGS: "7-ab"}, {}, {ORGS: columns}))


def test_the_names_of_views_are_compared_too() -> None:
    columns = pa.schema({"STATE": pa.string(), "n": pa.int64()})
    names = SparkNames("lake", {ORGS: "7-ab"}, {TOTALS: SUM}, {ORGS: columns})
    with pytest.raises(EngineChoiceError, match=r"differ only in case \(STATE, state\)"):
        spark_statement("SELECT n FROM uat_b.totals", {}, names)


def test_a_view_may_have_times() -> None:
    view = View("SELECT max(ts) AS last FROM uat_a.orgs", [ORGS], pa.schema({"last": pa.timestamp("us")}))
    names = SparkNames("lake", {ORGS: "7-ab"}, {TOTALS: view}, {ORGS: COLUMNS})
    assert spark_statement("SELECT last + INTERVAL '1 day' AS x FROM uat_b.totals", {}, names)
    with pytest.raises(EngineChoiceError, match="a time - anything but"):
        spark_statement("SELECT last - b.x AS x FROM uat_b.totals, b", {}, names)
    assert spark_statement("SELECT last - b.x AS x FROM b", {}, names)


def test_parameters_have_the_same_values_there() -> None:
    with pytest.raises(EngineChoiceError, match=r"parameter \$1, because it is float"):
        sent("SELECT $1", **{"1": pa.scalar(0.5, pa.float32())})
    with pytest.raises(EngineChoiceError, match="only the time zone UTC"):
        sent("SELECT $at", at=pa.scalar(0, pa.timestamp("us", "Europe/Berlin")))
    with pytest.raises(EngineChoiceError, match="a time - anything but"):
        sent("SELECT a - $1", **{"1": pa.scalar(0, pa.timestamp("us"))})
