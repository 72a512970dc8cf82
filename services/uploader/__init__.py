"""Uploader: consumes `episode.converted`, emits `episode.uploaded` and `episode.failed`, owns the converted prefix."""
