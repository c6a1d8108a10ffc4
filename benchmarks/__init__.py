"""Measurements that anyone can repeat."""

import flows  # noqa: F401  what it sets before torch is imported, as in the command
