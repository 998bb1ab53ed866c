"""Expressions on the kinds of values."""
