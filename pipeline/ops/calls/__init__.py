"""Functions and programs of the user's: once, or for each item."""
