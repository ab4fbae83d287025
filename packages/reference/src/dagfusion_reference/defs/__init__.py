"""The reference code location: six assets of two domains, their checks, schedules, sensors and maintenance."""
