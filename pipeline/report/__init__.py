"""Numbers into text: terminal tables, live progress, JSON lines. Draws, never computes."""
