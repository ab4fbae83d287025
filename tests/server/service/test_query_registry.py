"""What the service's log has of a query that has ended."""

import logging

import pytest

from dagfusion_client.documents.query_documents import State
from dagfusion_client.errors import SqlSyntaxError
from dagfusion_query.access.grants import ALL, Caller
from dagfusion_server.service.query_registry import Query, Registry


def test_the_line_of_a_query_has_the_runs_that_wrote_what_it_read(caplog: pytest.LogCaptureFixture) -> None:
    registry = Registry(10)
    entry = registry.open(Query("SELECT 'secret'"), Caller("ann", ALL, "http"))
    entry.update_stats(runs=("run-1", "run-2"), rows=3)
    entry.end(State.finished, None)
    with caplog.at_level(logging.INFO):
        registry.close(entry, keep=True)

    [record] = caplog.records
    fields = vars(record)["fields"]
    assert (fields["query_id"], fields["runs"], fields["rows"]) == (entry.info.id, ["run-1", "run-2"], 3)
    assert "secret" not in f"{record.getMessage()} {fields}"


@pytest.mark.parametrize("text", ["\0", "\ud800"])
def test_no_door_can_submit_a_statement_that_is_no_text(text: str) -> None:
    with pytest.raises(SqlSyntaxError, match="line 1, column 8: a statement must be Unicode text without NUL"):
        Query(f"SELECT {text}")
