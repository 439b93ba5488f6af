"""Rendering for others: a watched folder, and an HTTP service with a queue."""
