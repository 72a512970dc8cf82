"""Keys of the old polling design in users' storage files: accepted, without effect, each with a notice of its reason. Pure."""

_NO_QUEUE = "episodes travel over NATS JetStream; nothing is polled any more"
_NO_TUNING = "the store chooses part sizes and retries itself"

RETIRED_STORAGE_KEYS = {
    "redis.queue_name": _NO_QUEUE,
    **dict.fromkeys(("redis.stream_name", "redis.consumer_group", "redis.poll_interval"), _NO_QUEUE),
    "redis.retry_failed": "failed episodes are republished by an operator",
    "redis.retention_days": "duplicate markers live 7 days",
    "bos.task_name": "the task comes from the episode's metadata.json or the event",
    "bos.scanner.timeout": _NO_TUNING,
    "bos.scanner.max_keys": _NO_TUNING,
    "bos.scanner.enable_incremental": "use `scanner --full-scan` for a scan from the start",
    "bos.validation.required_dirs": "arms and cameras come from the strategy file",
    "bos.validation.check_count_match": "arms and cameras come from the strategy file",
    "bos.validation.count_tolerance": "arms and cameras come from the strategy file",
    "bos.validation.min_file_count": "use bos.scanner.min_episode_files",
    "bos.validation.stable_time": "use bos.scanner.settle_s",
    "bos.validation": "use bos.scanner",
    "bos.download.concurrent": "use bos.download.batch_size",
    "bos.download.chunk_size": _NO_TUNING,
    **dict.fromkeys(("bos.download.retry", "bos.download.retry_delay"), _NO_TUNING),
    "bos.upload.concurrent": "use bos.upload.parallel_uploads",
    "bos.upload.chunk_size": _NO_TUNING,
    **dict.fromkeys(("bos.upload.retry", "bos.upload.retry_delay"), _NO_TUNING),
    "bos.upload.cleanup_local": "the spool is emptied when an upload is acknowledged",
    "bos.upload.overwrite": "a target that already holds the same episode is left as it is",
    "output.bos_pattern": "use output.pattern",
    "conversion.output_fps": "use video.fps in the strategy file",
    "conversion.chunk_size": "use alignment.chunk_size in the strategy file",
}
