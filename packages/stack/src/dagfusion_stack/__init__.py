"""The DagFusion stack on one machine: PostgreSQL, an S3 server and Dagster, started and stopped as one."""
