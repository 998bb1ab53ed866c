"""The ops from frames to frames, and what they stand on."""
