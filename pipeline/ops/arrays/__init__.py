"""The ops from arrays to arrays, and what they stand on."""
