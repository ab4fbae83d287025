"""The commands show what a service says as they show what the embedded engine says."""

import re

import pytest

from tests.server.doors.conftest import COMMANDS, Doors
from tests.server.doors.doors import CommandLine

TABLE = "local_silver_tax_id.orgs"
COST = re.compile(r"[\d.,]+ ([kM]?B|ms)")
# A service does not say where it is.
FOLDER = re.compile(r"(?:file:///|(?<![\w/]))(?:[\w.-]+/)+(?=orgs-\w+\.parquet)")
LOCATION = re.compile(r"  location +file:///\S+\n")


def command(doors: Doors, name: str) -> CommandLine:
    made = doors.open(name)
    assert isinstance(made, CommandLine)
    return made


@pytest.mark.parametrize("where", COMMANDS[1:])
@pytest.mark.parametrize(
    "arguments",
    [
        ["describe", TABLE],
        ["describe", f"{TABLE}_"],
        ["sql", "SELECT $1 AS a, $2 AS b, $3 AS c", "-p", "CA", "-p", "1.5", "-p", "2024-01-05", "-F", "jsonl"],
        ["sql", f"SELECT id FROM {TABLE} WHERE state = $s AND id < 1003", "-p", "s=NY", "-F", "jsonl"],
        ["sql", f"SELECT id, state FROM {TABLE} WHERE state = 'NY' ORDER BY id"],
        ["sql", f"SELECT id FROM {TABLE} ORDER BY id", "--format", "csv"],
        ["sql", f"SELECT id, name, state FROM {TABLE} ORDER BY id", "--format", "json"],
        ["sql", f"SELECT id FROM {TABLE} WHERE id < 0", "--format", "json"],
        ["sql", f"SELECT id FROM {TABLE} WHERE id < 0"],
        ["sql", "SELECT 1.50 AS a, X'00ff' AS b, NULL AS c, INTERVAL '1 day' AS d", "--format", "json"],
        ["explain", f"SELECT id FROM {TABLE} WHERE state = 'CA' AND id > 3"],
        ["explain", f"SELECT id FROM {TABLE} WHERE state = 'CA'", "--format", "json"],
        ["explain", "SELECT * FROM nowhere.t"],
        ["sql", "SELECT 1", "--file", "x"],
        ["sql", "--file", "missing.sql"],
    ],
    ids=" ".join,
)
def test_a_service_is_shown_as_the_embedded_engine(doors: Doors, arguments: list[str], where: str) -> None:
    embedded, remote = command(doors, "cli").run(*arguments), command(doors, where).run(*arguments)

    assert remote.code == embedded.code
    assert FOLDER.sub("", remote.out.decode()).replace("[folder]/", "") == (
        FOLDER.sub("", LOCATION.sub("", embedded.out.decode()))
    )
    assert hintless(COST.sub("", remote.err)) == hintless(COST.sub("", embedded.err))


def hintless(text: str) -> str:
    """Leave out which tables an error proposes: a service has more environments."""
    return re.sub(r": did you mean .*", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("where", COMMANDS[1:])
def test_tables(doors: Doors, where: str) -> None:
    def lines(name: str) -> list[str]:
        listed = command(doors, name).run("tables", "--format", "jsonl")
        assert (listed.code, listed.err) == (0, "")
        without = re.sub(r'"location":(null|"[^"]*")', "", listed.out.decode())
        return [line for line in without.splitlines() if line.startswith('{"name":"local_')]

    assert len(lines(where)) == 3
    assert lines(where) == lines("cli")
