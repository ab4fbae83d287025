"""A Flight SQL server that answers each call at once, with the same rows: it shows what a client's driver takes itself.

`python -m benchmarks.immediate_answers <Arrow IPC file>` prints its port, and serves until it is ended.
"""

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import flight

from dagfusion_client.commands_and_tickets import packed, unpack, unpacked_command
from dagfusion_server.doors.flight import flight_metadata

_SQL_LIMIT_BYTES = 1 << 20


class ImmediateAnswers(flight.FlightServerBase):  # type: ignore[misc]
    """Has the same result for each statement. It serves from its construction on.

    Args:
        rows: The result.
    """

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows
        super().__init__("grpc://127.0.0.1:0")

    def do_action(self, _context: object, action: flight.Action) -> list[bytes]:
        """Prepare a statement, or close a prepared one."""
        if action.type != "CreatePreparedStatement":
            return []
        schema = self._rows.schema.serialize().to_pybytes()
        return [packed("ActionCreatePreparedStatementResult", prepared_statement_handle=b"1", dataset_schema=schema)]

    def get_flight_info(self, _context: object, descriptor: flight.FlightDescriptor) -> flight.FlightInfo:
        """Return the columns and a ticket."""
        name, command = unpacked_command(descriptor.command)
        schema = flight_metadata.metadata_schema(name, command)
        ticket = packed("TicketStatementQuery", statement_handle=b"1") if schema is None else descriptor.command
        return flight.FlightInfo(schema or self._rows.schema, descriptor, [flight.FlightEndpoint(ticket, [])])

    def do_get(self, _context: object, ticket: flight.Ticket) -> flight.RecordBatchStream:
        """Return the rows."""
        name, command = unpack(ticket.ticket)
        if flight_metadata.metadata_schema(name, command) is None:
            return flight.RecordBatchStream(self._rows)
        found: Any = flight_metadata.metadata_result(name, command, (), _SQL_LIMIT_BYTES)
        return flight.RecordBatchStream(found)


def main(file: Path) -> None:
    """Serve the rows of a file."""
    with pa.ipc.open_stream(file.read_bytes()) as rows, ImmediateAnswers(rows.read_all()) as server:
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()
        server.serve()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
