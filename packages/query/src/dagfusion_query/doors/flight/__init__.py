"""Arrow Flight SQL: the door of ADBC, JDBC and ODBC clients."""

from dagfusion_query.doors.flight.door import FlightDoor

__all__ = ["FlightDoor"]
