"""The saver: one child process of the recorder that makes finished episodes durable and delivers them.

Reads finished episodes from its parent and the outbox folder; emits ``episode.ready``; owns ``recording/`` and ``outbox/``.
"""
