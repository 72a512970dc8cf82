"""The LeRobot v2.1 dataset format: writing a one-episode part, committing it into a dataset, checking one."""
