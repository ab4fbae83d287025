"""The reference code location: six assets, two twins in SQL, checks, schedules, sensors and maintenance.

The two domains are laid out alike and have similar code on purpose: each can be copied without the other.
"""
