"""Shared by reading and writing: containers, limits, timecode, prefetching, frame names."""
