"""Scanner: consumes nothing, emits `episode.ready` for episodes nobody announced, owns the scan position."""
