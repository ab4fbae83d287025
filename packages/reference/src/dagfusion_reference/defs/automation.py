"""When a Gold asset is made: as soon as the Silver partitions of its day are there, whichever day that is."""

import dagster as dg

_A_CHECK_FAILED = dg.AutomationCondition.any_deps_match(
    dg.AutomationCondition.any_checks_match(dg.AutomationCondition.check_failed(), blocking_only=True)
)

# Dagster's own `eager` looks at the latest day only; a backfill of last year has to reach Gold too.
WHEN_ITS_STATES_CHANGE = (
    dg.AutomationCondition.eager().without(dg.AutomationCondition.in_latest_time_window()) & ~_A_CHECK_FAILED
)
