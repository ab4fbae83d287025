"""Read a table from the query service by ADBC.

    python query.py grpc://localhost:8081 CA

With access tokens, set `DAGFUSION_TOKEN`.
"""

import os
import sys

import adbc_driver_flightsql.dbapi as flight_sql

STATEMENT = """
SELECT specialty, sum(provider_count) AS providers
FROM local_silver_tax_id.partitioned_organizations
WHERE state = ?
GROUP BY specialty
ORDER BY providers DESC
LIMIT 5
"""


def main() -> None:
    """Print the five largest specialties of a state."""
    url, state = sys.argv[1:]
    token = os.environ.get("DAGFUSION_TOKEN")
    login = {"username": "any", "password": token} if token else {}
    with (
        flight_sql.connect(url, db_kwargs=login, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(STATEMENT, [state])
        for specialty, providers in cursor.fetchall():
            print(f"{providers:>10,}  {specialty}")


if __name__ == "__main__":
    main()
