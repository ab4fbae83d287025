"""The reference code location: six assets, two twins in SQL, checks, schedules, sensors and maintenance."""
