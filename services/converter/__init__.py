"""Converter: consumes `episode.ready`, emits `episode.converted` and `episode.failed`, owns the spool's content."""
