"""How the assets run: retries, pools, freshness, and the hook on failure."""

import datetime as dt

import dagster as dg

# The object store and the database may be away for a while; waits about 10 s and 30 s.
RETRIES = dg.RetryPolicy(max_retries=2, delay=10, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)

# A run of a Silver asset may write thousands of partitions; `concurrency.pools` of dagster.yaml has the limit.
BULK_WRITES = "bulk_writes"

# The schedules run at 02:00 UTC. A day's Silver is due at 06:00, and its Gold an hour later.
SILVER_IS_FRESH = dg.FreshnessPolicy.cron(deadline_cron="0 6 * * *", lower_bound_delta=dt.timedelta(hours=6))
GOLD_IS_FRESH = dg.FreshnessPolicy.cron(deadline_cron="0 7 * * *", lower_bound_delta=dt.timedelta(hours=7))
SOURCE_IS_FRESH = dg.FreshnessPolicy.time_window(dt.timedelta(days=3), warn_window=dt.timedelta(days=2))


@dg.failure_hook(name="log_failure")
def log_failure(context: dg.HookContext) -> None:
    """Log one critical line about a step that failed after its last retry, for the alerts of a log system."""
    context.log.critical("%s failed in run %s: %r", context.step_key, context.run_id, context.op_exception)


HOOKS = frozenset({log_failure})
