"""Arrow Flight SQL: the door of ADBC, JDBC and ODBC clients."""
