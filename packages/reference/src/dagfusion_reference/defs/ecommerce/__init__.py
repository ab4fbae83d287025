"""E-commerce: an export of orders, each state's orders of each day, and the day's sales."""
