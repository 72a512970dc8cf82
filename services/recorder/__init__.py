"""Recorder: consumes nothing, emits `episode.ready`, owns the robot, its cameras and the raw episodes on the robot host."""
