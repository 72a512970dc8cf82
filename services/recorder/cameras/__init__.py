"""Cameras: read by one thread each, in a process of their own; frames go to the disk with their true times."""
