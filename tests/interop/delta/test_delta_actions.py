"""What a Delta log says of a table: names of objects, partition values, types and statistics."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagfusion_client.errors import CatalogError, SettingsError, UnsupportedTypeError
from dagfusion_interop.delta.delta_location import default_location, delta_path, has_hive_paths
from dagfusion_interop.delta.delta_log import LogState
from tests.interop.delta.delta_tables import LOCATION, Part, exported, part_of, read
from tests.tiers import examples

STATE = {"state": "string"}
RUN = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"


def only_add(part: Part, kinds: Mapping[str, str] = STATE) -> Any:
    (add,) = exported(LogState(LOCATION), [part], kinds)["add"]
    return add


def types_of(*parts: Part, kinds: Mapping[str, str] = STATE) -> dict[str, Any]:
    (metadata,) = exported(LogState(LOCATION), parts, kinds)["metaData"]
    return {field["name"]: field["type"] for field in orjson.loads(metadata["schemaString"])["fields"]}


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("CA", "state=CA"),
        ("a b", "state=a%20b"),
        ("a/b", "state=a%252Fb"),
        ("50%", "state=50%2525"),
        ("a:b", "state=a%253Ab"),
        ("ü", "state=%C3%BC"),
        (None, "state=__HIVE_DEFAULT_PARTITION__"),
    ],
)
def test_a_path_is_that_of_the_object_escaped_once_more(value: str | None, path: str) -> None:
    add = only_add(part_of(1, (value,)))

    assert add["path"] == f"{path}/data.parquet"
    assert add["partitionValues"] == {"state": value}


@settings(max_examples=examples(50))
@given(key=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), inside=st.booleans())
def test_every_object_has_its_own_path(key: str, inside: bool) -> None:  # noqa: FBT001  # hypothesis draws it
    location = "s3://lake/orgs/"
    uri = f"{location if inside else 's3://other/'}{key}"
    path = delta_path(uri, location)

    assert path.isascii()
    assert path.startswith("s3://") != inside
    assert f"{location if inside else ''}{unquote(path)}" == uri


def test_an_add_has_the_facts_of_the_object() -> None:
    assert only_add(part_of(7)) == {
        "path": "state=CA/data.parquet",
        "partitionValues": {"state": "CA"},
        "size": 1000,
        "modificationTime": 1_705_320_000_123,
        "dataChange": True,
        "stats": '{"numRecords":3}',
        "tags": {"dagster.event-id": "7", "dagster.partition-key": "CA"},
    }


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("int8", -7, "-7"),
        ("uint32", 2**32 - 1, "4294967295"),
        ("uint64", 2**64 - 1, "18446744073709551615"),
        ("bool", True, "true"),
        ("bool", False, "false"),
        ("date32[day]", "0001-01-01", "0001-01-01"),
        ("decimal128(9, 2)", "-99.50", "-99.50"),
        ("timestamp[us]", "2024-01-15T05:00:00.123456", "2024-01-15 05:00:00.123456"),
        ("timestamp[s]", "2024-01-15T05:00:00", "2024-01-15 05:00:00.000000"),
        ("timestamp[ms, tz=America/New_York]", "2024-01-15T05:00:00.123Z", "2024-01-15T05:00:00.123000Z"),
        ("date32[day]", None, None),
    ],
)
def test_partition_values_are_text(kind: str, value: Any, text: str | None) -> None:
    part = part_of(1, (value,), uri=f"{LOCATION}part=x/data.parquet")

    assert only_add(part, {"part": kind})["partitionValues"] == {"part": text}


def test_the_empty_text_is_no_partition_value_of_delta() -> None:
    with pytest.raises(UnsupportedTypeError, match=r"column 'state': .* which Delta takes for NULL"):
        only_add(part_of(1, ("",)))


@pytest.mark.parametrize(
    ("kind", "least", "most", "texts"),
    [
        ("int64", -1, 2**62, ("-1", "4611686018427387904")),
        ("double", -0.5, 0.1, ("-0.5", "0.1")),
        ("double", 0.0, -0.0, ("-0.0", "0.0")),
        ("decimal128(38, 2)", "-0.50", "123456789012345678901234567890123456.78", None),
        ("date32[day]", "2024-02-29", "9999-12-31", ('"2024-02-29"', '"9999-12-31"')),
        ("timestamp[us]", "2024-02-29T12:34:56.123456", "2024-02-29T12:34:56.123457", None),
        ("timestamp[s, tz=UTC]", "2024-02-29T12:34:56Z", "2024-02-29T12:34:57Z", None),
        ("string", '"\\\n', "ü", ('"\\"\\\\\\n"', '"ü"')),
    ],
)
def test_statistics_are_exact(kind: str, least: Any, most: Any, texts: tuple[str, str] | None) -> None:
    stats = only_add(part_of(1, columns={"n": kind}, stats={"n": {"min": least, "max": most, "nulls": 1}}))["stats"]
    is_number = kind.startswith("decimal")
    low, high = texts or ((least, most) if is_number else (f'"{least}"', f'"{most}"'))

    assert stats == f'{{"numRecords":3,"minValues":{{"n":{low}}},"maxValues":{{"n":{high}}},"nullCount":{{"n":1}}}}'


def test_statistics_that_are_not_known_or_not_of_delta_are_left_out() -> None:
    columns = {"flag": "bool", "text": "string", "raw": "binary", "more": "int32"}
    first = part_of(1, columns=columns, stats={"flag": {"min": False, "max": True, "nulls": 0}, "text": {"nulls": 2}})
    second = part_of(2, ("NY",), columns={"text": "string"})
    adds = exported(LogState(LOCATION), [first, second], STATE)["add"]

    assert orjson.loads(adds[0]["stats"]) == {"numRecords": 3, "nullCount": {"flag": 0, "text": 2}}
    assert adds[1]["stats"] == '{"numRecords":3}', "the file has no flag"


def test_statistics_are_of_the_first_columns() -> None:
    columns = {f"c{number:02}": "int64" for number in range(40)}
    stats = {name: {"min": 1, "max": 2, "nulls": 0} for name in columns}
    counted = orjson.loads(only_add(part_of(1, columns=columns, stats=stats))["stats"])

    assert [*counted["nullCount"]] == [*counted["minValues"]] == [*columns][:32]


def test_types() -> None:
    nested = {"struct": [{"name": "x", "type": "uint8", "nullable": True}]}
    kinds = {
        "bool": "boolean",
        "int8": "byte",
        "uint8": "short",
        "uint16": "integer",
        "uint32": "long",
        "float": "float",
        "double": "double",
        "binary": "binary",
        "fixed_size_binary[4]": "binary",
        "date32[day]": "date",
        "decimal128(12, 2)": "decimal(12,2)",
        "timestamp[ms, tz=America/New_York]": "timestamp",
        "timestamp[us]": "timestamp_ntz",
    }
    columns = {
        **{f"c {kind}": kind for kind in kinds},
        "l": {"list": {"name": "item", "type": nested, "nullable": True}},
    }
    found = types_of(part_of(1, columns=columns))
    inner = {"name": "x", "type": "short", "nullable": True, "metadata": {}}

    assert {name.removeprefix("c "): kind for name, kind in found.items() if name.startswith("c ")} == kinds
    assert found["l"]["elementType"] == {"type": "struct", "fields": [inner]}
    assert found["state"] == "string"


@pytest.mark.parametrize(
    "kind",
    [
        *("uint64", "halffloat", "date64[ms]", "time64[us]", "duration[us]", "timestamp[ns]", "null"),
        *("decimal256(50, 2)", "decimal128(5, -2)"),
        {"list": {"name": "item", "type": "uint64", "nullable": True}},
    ],
)
def test_a_type_that_delta_does_not_have_is_an_error_with_the_column(kind: Any) -> None:
    with pytest.raises(UnsupportedTypeError, match=r"column 'odd': its type is .*, which Delta does not have: cast it"):
        types_of(part_of(1, columns={"n": "int64", "odd": kind}))


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ("int8", "int64", "long"),
        ("uint16", "int32", "integer"),
        ("float", "double", "double"),
        ("decimal128(6, 2)", "decimal128(12, 2)", "decimal(12,2)"),
        ("timestamp[ms, tz=UTC]", "timestamp[us, tz=Europe/Paris]", "timestamp"),
    ],
)
def test_a_column_that_got_wider_has_the_wider_type(before: str, after: str, kind: str) -> None:
    assert types_of(part_of(1, columns={"n": before}), part_of(2, ("NY",), columns={"n": after}))["n"] == kind


@pytest.mark.parametrize(
    ("before", "after"), [("int32", "double"), ("int64", "double"), ("decimal128(6, 2)", "decimal128(12, 3)")]
)
def test_a_column_that_readers_do_not_convert_is_an_error(before: str, after: str) -> None:
    with pytest.raises(UnsupportedTypeError, match=r"column 'n': it is .* in some files, which readers do not convert"):
        types_of(part_of(1, columns={"n": before}), part_of(2, ("NY",), columns={"n": after}))


def test_columns_that_differ_in_case_are_an_error() -> None:
    with pytest.raises(UnsupportedTypeError, match="it has 2 columns 'state'"):
        types_of(part_of(1, columns={"State": "int64"}))


def test_fields_that_differ_in_case_are_an_error() -> None:
    fields = [{"name": name, "type": "int64", "nullable": True} for name in ("x", "X")]
    kind = {"list": {"name": "item", "type": {"struct": fields}, "nullable": True}}

    with pytest.raises(UnsupportedTypeError, match="column 'odd': it has 2 fields 'x', because names in Delta"):
        types_of(part_of(1, columns={"odd": kind}))


def test_an_object_of_two_partitions_is_an_error() -> None:
    uri = f"{LOCATION}data.parquet"

    with pytest.raises(CatalogError, match=r"two of its partitions name data\.parquet"):
        exported(LogState(LOCATION), [part_of(1, uri=uri), part_of(2, ("NY",), uri=uri)], STATE)


@pytest.mark.parametrize(
    ("paths", "kinds"),
    [
        (["state=CA/data.parquet", f"state=a%2Fb/data-{RUN}.parquet"], STATE),
        (["state=CA/day=1/landed by others.parquet"], {"state": "string", "day": "int64"}),
        (["2024-01-15.parquet", f"orgs-{RUN}.parquet"], {"day": "string"}),
        (["data.parquet"], {}),
        ([f"data-{RUN}-1.parquet"], {}),
    ],
)
def test_the_folder_of_a_table_is_that_of_its_asset(paths: list[str], kinds: Mapping[str, str]) -> None:
    parts = [
        part_of(number, tuple(number for _ in kinds), uri=f"{LOCATION}{path}") for number, path in enumerate(paths, 1)
    ]
    found, _ = read(parts, dict.fromkeys(kinds, "int64"))

    assert default_location(found) == LOCATION
    assert has_hive_paths(found) == all("=" in path or not kinds for path in paths)


@pytest.mark.parametrize("name", ["orgs.parquet", f"orgs-{RUN}.parquet"])
def test_the_folder_of_a_table_of_one_object_is_beside_it(name: str) -> None:
    part = part_of(1, (), uri=f"{LOCATION.removesuffix('orgs/')}{name}")
    found, _ = read([part], {})

    assert default_location(found) == LOCATION
    assert only_add(part, {})["path"] == part.uri


@pytest.mark.parametrize("key", [("orgs",), ("lake", "orgs"), ("a.b", "or gs")])
def test_the_folder_of_a_table_is_found_by_any_asset_key(key: tuple[str, ...]) -> None:
    found, _ = read([part_of(1)], STATE, key=key)

    assert found.files["uri"][0].as_py() == f"{default_location(found)}state=CA/data.parquet"


@pytest.mark.parametrize("key", [("or=gs",), ("a%b", "orgs")])
def test_a_folder_that_readers_take_in_different_ways_needs_a_location(key: tuple[str, ...]) -> None:
    found, _ = read([part_of(1)], STATE, key=key)

    with pytest.raises(SettingsError, match=r"has one of the characters .*: give --location"):
        default_location(found)


@pytest.mark.parametrize(
    "uris",
    [["s3://elsewhere/part.parquet"], [f"{LOCATION}state=CA/data.parquet", "s3://b/Silver/TaxID/orgs/x=1/a.parquet"]],
)
def test_objects_elsewhere_need_a_location(uris: list[str]) -> None:
    found, _ = read([part_of(number, (str(number),), uri=uri) for number, uri in enumerate(uris, 1)], STATE)

    with pytest.raises(SettingsError, match="give --location"):
        default_location(found)
