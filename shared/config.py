"""What the configuration files say: a strategy (how episodes are converted) and a storage (where everything is).

``config/strategies/*.yaml`` decodes into ``StrategyConfig``, ``config/storage.yaml`` into ``StorageConfig``.
Keys of the old polling design are accepted with a notice (``shared.retired``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import field

from shared import settings
from shared.episode import ArmConfig, CameraConfig
from shared.errors import BadConfig
from shared.events import DatasetName, Name, Strategy
from shared.retired import RETIRED_STORAGE_KEYS
from shared.settings import Secret

Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Milliseconds = Annotated[float, msgspec.Meta(gt=0, le=3_600_000)]  # far above an hour, int64 microseconds overflow
Count = Annotated[int, msgspec.Meta(ge=1)]
Fps = Annotated[int, msgspec.Meta(ge=1, le=1000)]


class _Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A section: frozen, named fields only, unknown keys refused."""


# --- strategies/*.yaml ------------------------------------------------------------------------------------


class RobotConfig(_Config, frozen=True, kw_only=True):
    """The arms, in the order their joints are laid out in ``action`` and ``observation.state.*``."""

    type: Annotated[str, msgspec.Meta(min_length=1)]
    arms: Annotated[tuple[ArmConfig, ...], msgspec.Meta(min_length=1)]
    joints_per_arm: Annotated[int, msgspec.Meta(ge=1, le=256)]


class InputConfig(_Config, frozen=True, kw_only=True):
    """Where local raw episodes lie; ``images_path`` defaults to ``data_path``."""

    data_path: str | None = None
    images_path: str | None = None


class OutputConfig(_Config, frozen=True, kw_only=True):
    """Where the dataset of a local conversion goes, and which keys the states have.

    ``state_keys``: ``roles`` = observation.state.slave/.master, ``lerobot`` = observation.state, ``both``.
    """

    base_path: str | None = None
    dataset_name: str | None = None
    state_keys: Literal["roles", "lerobot", "both"] = "roles"


class AlignmentConfig(_Config, frozen=True, kw_only=True):
    """How rows are made from streams with clocks of their own (DESIGN of the converter: alignment.py)."""

    strategy: Strategy
    timeline: Literal["auto", "base", "uniform"] = "auto"
    tolerance_ms: Milliseconds = 20.0
    image_tolerance_ms: Milliseconds | None = None
    chunk_size: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 10
    joints_fps: Annotated[int, msgspec.Meta(ge=1, le=100_000)] | Literal["auto"] = 250
    padding_mode: Literal["repeat", "edge", "constant"] = "repeat"
    padding_value: Annotated[float, msgspec.Meta(ge=-1e38, le=1e38)] = 0.0
    window_ms: Milliseconds = 20.0
    aggregation: Literal["mean", "median"] = "mean"
    on_gap: Literal["drop", "hold", "reject"] = "drop"
    max_rows: Count | None = None


class FilteringConfig(_Config, frozen=True, kw_only=True):
    """Which sound raw episodes are held back; None switches a filter off."""

    min_duration_sec: NotNegative | None = None
    max_duration_sec: Positive | None = None
    min_frames: Annotated[int, msgspec.Meta(ge=0)] | None = None
    require_all_cameras: bool = True
    max_timestamp_gap_ms: Positive | None = None


class VideoConfig(_Config, frozen=True, kw_only=True):
    """How the videos are encoded; ``gop`` is the distance of keyframes (None: one second)."""

    fps: Fps | None = None
    codec: Literal["h264", "hevc", "av1"] = "h264"
    crf: Annotated[int, msgspec.Meta(ge=0, le=63)] = 23
    preset: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]{1,16}\Z")] = "medium"
    gop: Count | None = None


class StrategyConfig(_Config, frozen=True, kw_only=True):
    """One strategy file: robot, cameras, input, output, alignment, filtering, video."""

    robot: RobotConfig
    cameras: Annotated[tuple[CameraConfig, ...], msgspec.Meta(min_length=1)]
    alignment: AlignmentConfig
    input: InputConfig = field(default_factory=InputConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    filtering: FilteringConfig = field(default_factory=FilteringConfig)
    video: VideoConfig = field(default_factory=VideoConfig)

    @property
    def base_camera(self) -> CameraConfig:
        """The camera with the role ``base``."""
        return next(camera for camera in self.cameras if camera.role == "base")

    @property
    def fps(self) -> int:
        """Rows per second of the dataset: ``video.fps``, else the base camera's ``target_fps``."""
        fps = self.video.fps or self.base_camera.target_fps
        assert fps is not None, "decode_strategy refuses a configuration without a rate"
        return fps


# --- storage.yaml -----------------------------------------------------------------------------------------


class RedisConfig(_Config, frozen=True, kw_only=True):
    """The ledger: duplicate markers, counters, scan position. ``max_workers`` = conversions at once per converter."""

    host: str = "localhost"
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 6379
    username: str | None = None
    password: Secret | None = None
    db: Annotated[int, msgspec.Meta(ge=0)] = 0
    tls: bool = False
    max_workers: Count = 2


class PathsConfig(_Config, frozen=True, kw_only=True):
    """Key prefixes in the store; a prefix may contain ``{source}``."""

    raw_data_prefix: str = "raw_datas/"
    converted_prefix: str = "converted_datas/"


class ScannerConfig(_Config, frozen=True, kw_only=True):
    """When a raw episode counts as ready: enough files, all arms and cameras, untouched for ``settle_s`` seconds.

    ``sweep_interval``: seconds between two looks at everything, for names that sort before the scan position.
    """

    interval: Positive = 120.0
    sweep_interval: Positive = 3600.0
    min_episode_files: Count = 10
    settle_s: NotNegative = 10.0
    incremental_key: str = "bos:last_scanned_key"


class DownloadConfig(_Config, frozen=True, kw_only=True):
    """Where raw episodes are worked on and how many objects are fetched at once."""

    temp_dir: str | None = None
    batch_size: Count = 100


class UploadConfig(_Config, frozen=True, kw_only=True):
    """How many files are sent at once."""

    parallel_uploads: Count = 4


class BosConfig(_Config, frozen=True, kw_only=True):
    """The object store: Baidu BOS through its S3-compatible endpoint, or any S3-compatible store."""

    endpoint: str | None = None
    bucket: str | None = None
    region: str | None = None
    access_key: Secret | None = None
    secret_key: Secret | None = None
    addressing_style: Literal["auto", "virtual", "path"] = "auto"
    paths: PathsConfig = field(default_factory=PathsConfig)
    scanner: ScannerConfig = field(default_factory=ScannerConfig)
    download: DownloadConfig = field(default_factory=DownloadConfig)
    upload: UploadConfig = field(default_factory=UploadConfig)


class SourceConfig(_Config, frozen=True, kw_only=True):
    """One source of episodes; ``raw`` is the URI of the folder that holds its raw episodes."""

    name: Name
    raw: str | None = None
    output: str | None = None


class TargetConfig(_Config, frozen=True, kw_only=True):
    """Where finished datasets go: ``pattern`` with ``{source}``, ``{episode_id}``, ``{strategy}``."""

    pattern: str = "{episode_id}_{strategy}"


class SpoolConfig(_Config, frozen=True, kw_only=True):
    """The folder in which converters leave datasets for an uploader, and the name it goes by."""

    name: Name = "default"
    path: str | None = None


class ConversionConfig(_Config, frozen=True, kw_only=True):
    """Which strategy file is used when an event names none, and how workers and single episodes are bounded."""

    strategy: Strategy | None = None
    config_template: str = "config/strategies/nearest.yaml"
    max_attempts: Count = 5
    grace_s: NotNegative = 30.0
    max_memory_mb: Count | None = None
    max_seconds: Positive | None = None
    spool: SpoolConfig = field(default_factory=SpoolConfig)


class LoggingConfig(_Config, frozen=True, kw_only=True):
    """R25: level, format (``json``, ``console``, or None for JSON unless on a terminal), file and its rotation."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: str | None = None
    file: str | None = None
    max_bytes: Count = 10 * 1024 * 1024
    backup_count: Annotated[int, msgspec.Meta(ge=0)] = 5


class MetricsConfig(_Config, frozen=True, kw_only=True):
    """Where ``/metrics`` and ``/healthz`` are served; without a port (or with 0) nowhere. Else METRICS_HOST and METRICS_PORT."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] | None = None


class TlsConfig(_Config, frozen=True, kw_only=True):
    """Certificates for a TLS connection; a client certificate is optional."""

    ca_file: str
    cert_file: str | None = None
    key_file: str | None = None


class NatsConfig(_Config, frozen=True, kw_only=True):
    """The event bus. ``stream`` and the durables derived from it are a contract. ``inbox_prefix``: None means ``_INBOX_{user}``."""

    servers: tuple[str, ...] = ("nats://localhost:4222",)
    user: str | None = None
    password: Secret | None = None
    inbox_prefix: str | None = None
    tls: TlsConfig | None = None
    stream: Name = "EPISODES"
    ack_wait_s: Positive = 60.0
    max_age_days: Positive = 30.0
    duplicate_window_s: Positive = 600.0
    max_ack_pending: Count = 10_000
    connect_timeout_s: Positive = 10.0


class DatasetsConfig(_Config, frozen=True, kw_only=True):
    """Where growing datasets are: below ``root`` (path or URI), or, by name, in a folder of their own (path or URI).

    Without both: ``datasets/`` of an S3 store, else the folder in which LeRobot looks for them.
    """

    root: str | None = None
    folders: dict[DatasetName, str] = field(default_factory=dict)


class StorageConfig(_Config, frozen=True, kw_only=True):
    """One storage file. ``store`` is ``file:///folder`` or ``s3://bucket``; None means the bucket of ``bos``."""

    store: str | None = None
    nats: NatsConfig = field(default_factory=NatsConfig)
    redis: RedisConfig = field(default_factory=RedisConfig)
    bos: BosConfig = field(default_factory=BosConfig)
    sources: tuple[str | SourceConfig, ...] = ("local", "bos")
    output: TargetConfig = field(default_factory=TargetConfig)
    datasets: DatasetsConfig = field(default_factory=DatasetsConfig)
    conversion: ConversionConfig = field(default_factory=ConversionConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)


# --- decoding ---------------------------------------------------------------------------------------------

_RENAMED_PATHS = {"raw_data": "raw_data_prefix", "converted": "converted_prefix"}


def load_strategy(path: Path, environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None) -> StrategyConfig:
    """Return the strategy file at ``path`` with ``overrides`` laid over it.

    Raises:
        BadConfig: names file (or ``config_overrides``), key, value and what was expected.
    """
    document = settings.read_yaml(path, environ)
    return decode_strategy(document, place=str(path), overrides=overrides)


def decode_strategy(document: Mapping[str, Any], *, place: str, overrides: Mapping[str, Any] | None = None) -> StrategyConfig:
    """Return a strategy document as structs, checked for what one key alone cannot show.

    Raises:
        BadConfig: an unknown key, a wrong value, no or several base cameras, a name given twice, no rate.
    """
    if overrides:
        settings.decode(document, StrategyConfig, place=place)
        document, place = settings.merged(document, overrides), "config_overrides"
    config = settings.decode(document, StrategyConfig, place=place)
    # one namespace for arms and cameras: alignment and its report tell streams by name
    names = [*(arm.name for arm in config.robot.arms), *(camera.name for camera in config.cameras)]
    _check_names(names, "robot.arms and cameras", place)
    _check_names([arm.file_name for arm in config.robot.arms], "robot.arms", place)
    for index, arm in enumerate(config.robot.arms):
        if arm.joint_names is not None and len(arm.joint_names) != config.robot.joints_per_arm:
            key = f"robot.arms[{index}].joint_names"
            raise BadConfig(place, key, f"has {len(arm.joint_names)} names, expected robot.joints_per_arm = {config.robot.joints_per_arm}")
    num_base = sum(camera.role == "base" for camera in config.cameras)
    if num_base != 1:
        raise BadConfig(place, "cameras", f"{num_base} cameras have the role base, expected exactly one: it gives the timeline")
    if config.video.fps is None and config.base_camera.target_fps is None:
        raise BadConfig(place, "video.fps", f"is not set, and the base camera {config.base_camera.name} has no target_fps: set one of them")
    return config


def load_storage(path: Path, environ: Mapping[str, str]) -> tuple[StorageConfig, list[str]]:
    """Return the storage file at ``path`` and the notices for keys that no longer mean anything.

    Raises:
        BadConfig: names file, key, value and what was expected.
    """
    return decode_storage(settings.read_yaml(path, environ), environ, place=str(path))


def decode_storage(document: Mapping[str, Any], environ: Mapping[str, str], *, place: str) -> tuple[StorageConfig, list[str]]:
    """Return a storage document as structs, with the credentials of the environment, and the notices."""
    document, notices = settings.without_retired(document, RETIRED_STORAGE_KEYS, place=place)
    config = settings.decode(_with_environment(_renamed(document), environ), StorageConfig, place=place)
    names = [source.name for source in source_configs(config, place=place)]
    _check_names(names, "sources", place)
    _check_names([durable_name(name) for name in names], "sources", place)
    return config, notices


def source_configs(config: StorageConfig, *, place: str = "sources") -> tuple[SourceConfig, ...]:
    """Return the sources as structs, where the file may give plain names."""
    documents = [{"name": source} if isinstance(source, str) else msgspec.to_builtins(source) for source in config.sources]
    return tuple(settings.decode(document, SourceConfig, place=f"{place}: sources") for document in documents)


def temp_folder(config: StorageConfig, *, system_temp: Path) -> Path:
    """Return the folder for raw episodes that are being worked on: ``bos.download.temp_dir``, else one below ``system_temp``."""
    configured = config.bos.download.temp_dir
    return Path(configured) if configured else system_temp / "episodeflow"


def spool_folder(config: StorageConfig, *, system_temp: Path) -> Path:
    """Return the folder in which converters leave datasets for the uploader of ``conversion.spool``."""
    configured = config.conversion.spool.path
    return Path(configured) if configured else temp_folder(config, system_temp=system_temp) / "spool"


def durable_name(source: str) -> str:
    """Return a source's name as JetStream accepts it in the name of a consumer (no dots)."""
    return source.replace(".", "_")


def _renamed(document: Mapping[str, Any]) -> dict[str, Any]:
    bos = document.get("bos")
    paths = bos.get("paths") if isinstance(bos, Mapping) else None
    if not isinstance(bos, Mapping) or not isinstance(paths, Mapping):
        return dict(document)
    return {**document, "bos": {**bos, "paths": {_RENAMED_PATHS.get(key, key): value for key, value in paths.items()}}}


def _with_environment(document: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Lay the file over the environment (credentials as BOS_ACCESS_KEY, and METRICS_*): what the file says wins."""
    port = environ.get("METRICS_PORT") or None
    found: dict[str, dict[str, Any]] = {
        "bos": {"access_key": environ.get("BOS_ACCESS_KEY"), "secret_key": environ.get("BOS_SECRET_KEY")},
        "redis": {"password": environ.get("REDIS_PASSWORD")},
        "nats": {"user": environ.get("NATS_USER"), "password": environ.get("NATS_PASSWORD")},
        "metrics": {"host": environ.get("METRICS_HOST"), "port": int(port) if port and port.isdecimal() else port},
    }
    defaults = {section: {key: value for key, value in keys.items() if value} for section, keys in found.items()}
    return settings.merged(defaults, {key: value for key, value in document.items() if value is not None})


def _check_names(names: list[str], key: str, place: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadConfig(place, key, f"{', '.join(twice)} is there twice, expected every name once")
