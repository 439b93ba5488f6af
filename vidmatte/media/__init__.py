"""What reading and writing share: containers, limits, timecode, prefetching, frame names."""
