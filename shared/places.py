"""Where a source's raw episodes are and where results go. Pure: folders and keys are computed, nothing is touched.

The rules, first match wins:

    raw      the event's own ``raw`` → the source's ``raw`` → for the plain source ``local`` the strategy file's
             ``input`` folders → ``{raw_data_prefix}`` of the store, each source in its own folder if there are several
    target   the source's ``output`` → for ``local`` a path-like ``output.pattern`` → ``{converted_prefix}`` of the
             store with a key-like pattern, or ``{episode_id}_{strategy}`` where the pattern is path-like
    dataset  ``datasets.folders`` by name → ``{datasets.root}/{name}`` → ``datasets/{name}`` of an S3 store → the folder
             in which LeRobot itself looks for it

A pattern is path-like if it begins with ``.``, ``/``, ``~`` or ``file://``: it names folders of one host.
A place is a root, at which a store is opened once, and a prefix below it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from urllib.parse import unquote

import msgspec

from shared.config import SourceConfig, StorageConfig, StrategyConfig, source_configs
from shared.errors import BadConfig, BadEvent
from shared.events import EpisodeReady
from shared.store_uri import StoreUri, parse_uri

LOCAL = "local"
DEFAULT_PATTERN = "{episode_id}_{strategy}"
DATASETS_PREFIX = "datasets/"
LEROBOT_HOME = "~/.cache/huggingface/lerobot"
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_KNOWN = {"source", "episode_id", "strategy"}


class Place(msgspec.Struct, frozen=True):
    """A folder of a store.

    Attributes:
        root: URI at which the store is opened.
        prefix: below the root, empty or with a slash at its end; keys of the place begin with it.
    """

    root: str
    prefix: str

    @property
    def uri(self) -> str:
        """The whole address, without a slash at its end."""
        return f"{self.root.rstrip('/')}/{self.prefix}".rstrip("/")


class LocalFolders(msgspec.Struct, frozen=True):
    """The folders of the plain source ``local``: the local layout of R1, or the bucket layout below one folder.

    Attributes:
        data_path: absolute; holds the joints.
        images_path: absolute; holds the images; the same folder where the file names only one.
    """

    data_path: str
    images_path: str


class _SourcePlaces(msgspec.Struct, frozen=True):
    """Raw root (None: not configured) and target pattern of one source."""

    raw: Place | LocalFolders | None
    target: Place


class _DatasetPlaces(msgspec.Struct, frozen=True):
    """Growing datasets: those with a place of their own, and where all others are (None: nowhere is configured)."""

    by_name: dict[str, Place]
    root: Place | None


class Places(msgspec.Struct, frozen=True):
    """Every configured source with its raw place and its target pattern, and the growing datasets; made by ``resolve``."""

    by_source: dict[str, _SourcePlaces]
    strategy: str
    datasets: _DatasetPlaces

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the configured sources, in the order of the file."""
        return tuple(self.by_source)

    def raw_root(self, source: str) -> Place | LocalFolders:
        """Return the folder that holds the raw episodes of a source.

        Raises:
            BadEvent: the source is not configured.
            BadConfig: the source ``local`` without ``input.data_path``.
        """
        raw = self._of(source).raw
        if raw is None:
            raise BadConfig("strategy", "input.data_path", f"is not set, and the source {source!r} reads its raw episodes there: set it")
        return raw

    def raw(self, event: EpisodeReady) -> Place | LocalFolders:
        """Return the raw episode's own folder, or the local folders in which it is to be looked for.

        Raises:
            BadEvent: the source is not configured, or ``raw`` is no usable URI.
            BadConfig: the source ``local`` without ``input.data_path``.
        """
        self._of(event.source)
        if event.raw is not None:
            return _event_place(event.raw)
        root = self.raw_root(event.source)
        return Place(root.root, f"{root.prefix}{event.episode_id}/") if isinstance(root, Place) else root

    def target(self, event: EpisodeReady) -> Place:
        """Return the folder of the finished one-episode dataset.

        Raises:
            BadEvent: the source is not configured.
        """
        pattern = self._of(event.source).target
        values = {"source": event.source, "episode_id": event.episode_id, "strategy": event.strategy or self.strategy}
        return Place(pattern.root, _filled(pattern.prefix, values))

    def dataset(self, name: str) -> Place:
        """Return the folder of the growing dataset ``name``, as in ``me/stacking``.

        Raises:
            BadConfig: neither its folder, nor ``datasets.root``, nor a store is configured.
        """
        datasets = self.datasets
        if name in datasets.by_name:
            return datasets.by_name[name]
        if datasets.root is None:
            raise BadConfig("storage", "datasets.root", f"is not set and there is no store, so that {name!r} has no place: set it")
        return _below(datasets.root, f"{name}/")

    def _of(self, source: str) -> _SourcePlaces:
        if source not in self.by_source:
            known = ", ".join(self.by_source)
            raise BadEvent(f"the source {source!r} is not configured: expected one of {known}; add it to sources in the storage file")
        return self.by_source[source]


def lerobot_home(environ: Mapping[str, str]) -> str:
    """Return the folder in which LeRobot looks for datasets; it may begin with ``~``.

    Source: lerobot 0.3.3, ``lerobot.constants``, and huggingface_hub, ``constants.HF_HOME``.
    """
    cache = environ.get("XDG_CACHE_HOME") or "~/.cache"
    hub = environ.get("HF_HOME") or f"{cache}/huggingface"
    return environ.get("HF_LEROBOT_HOME") or f"{hub}/lerobot"


def resolve(storage: StorageConfig, strategy: StrategyConfig, *, here: str, home: str, lerobot_home: str = LEROBOT_HOME) -> Places:
    """Return where everything of a configuration is.

    Args:
        storage: store, prefixes, sources, output pattern.
        strategy: input folders of the source ``local`` and the strategy used when an event names none.
        here: absolute folder that relative paths of the files start from.
        home: absolute folder that ``~`` stands for.
        lerobot_home: where growing datasets are if nothing else is configured and the store is a folder.

    Raises:
        BadConfig: a URI, prefix or pattern that is not usable, or targets in which sources or datasets would overwrite each other.
    """
    sources = source_configs(storage)
    folders = _Folders(here, home)
    num_raw = sum(source.raw is None and source.name != LOCAL for source in sources)
    _checked_pattern(storage.output.pattern)
    by_source = {
        source.name: _SourcePlaces(
            raw=_raw_place(source, storage=storage, strategy=strategy, folders=folders, is_only=num_raw == 1),
            target=_target_place(source, storage=storage, folders=folders, sources=sources),
        )
        for source in sources
    }
    _check_separate(by_source)
    return Places(
        by_source, storage.conversion.strategy or strategy.alignment.strategy, _dataset_places(storage, folders, lerobot_home=lerobot_home)
    )


class _Folders(msgspec.Struct, frozen=True):
    """What relative paths and ``~`` mean."""

    here: str
    home: str

    def absolute(self, path: str) -> str:
        """Return ``path`` as an absolute one, without ``.`` and ``..``."""
        plain = unquote(path.removeprefix("file://")) if path.startswith("file://") else path
        expanded = self.home + plain[1:] if plain == "~" or plain.startswith("~/") else plain
        steps: list[str] = []
        for step in PurePosixPath(self.here, expanded).parts[1:]:
            steps = steps[:-1] if step == ".." else [*steps, step]
        return "/" + "/".join(steps)


def _raw_place(
    source: SourceConfig, *, storage: StorageConfig, strategy: StrategyConfig, folders: _Folders, is_only: bool
) -> Place | LocalFolders | None:
    if source.raw is not None:
        return _configured_place(f"sources.{source.name}.raw", source.raw)
    if source.name == LOCAL:
        data, images = strategy.input.data_path, strategy.input.images_path
        return LocalFolders(folders.absolute(data), folders.absolute(images or data)) if data else None
    prefix = _prefix(storage.bos.paths.raw_data_prefix, "bos.paths.raw_data_prefix")
    if "{source}" in prefix:
        prefix = prefix.replace("{source}", source.name)
    elif not is_only:
        prefix = f"{prefix}{source.name}/"
    return _below(_store_place(storage), prefix)


def _target_place(source: SourceConfig, *, storage: StorageConfig, folders: _Folders, sources: tuple[SourceConfig, ...]) -> Place:
    pattern = storage.output.pattern
    if source.output is not None:
        return _output_place(source)
    if _is_path_like(pattern) and source.name == LOCAL:
        return _folder_pattern(folders.absolute(pattern))
    stored = [each for each in sources if each.output is None and each.name != LOCAL]
    if _is_path_like(pattern):
        pattern = f"{{source}}/{DEFAULT_PATTERN}" if len(stored) > 1 else DEFAULT_PATTERN
    elif pattern == DEFAULT_PATTERN and source.name == LOCAL and stored:
        # The untouched defaults name two sources: `local` steps aside, the bucket keeps the names of R17.
        pattern = f"{{source}}/{DEFAULT_PATTERN}"
    prefix = _prefix(storage.bos.paths.converted_prefix, "bos.paths.converted_prefix")
    return _below(_store_place(storage), f"{prefix}{_key_steps(pattern, 'output.pattern')}/".replace("{source}", source.name))


def _dataset_places(storage: StorageConfig, folders: _Folders, *, lerobot_home: str) -> _DatasetPlaces:
    config = storage.datasets
    by_name = {name: _folder_or_uri(f"datasets.folders.{name}", folder, folders) for name, folder in config.folders.items()}
    owner_by_uri: dict[str, str] = {}
    for name, place in by_name.items():
        if place.uri in owner_by_uri:
            key = f"datasets.folders.{name}"
            raise BadConfig("storage", key, f"is the folder of {owner_by_uri[place.uri]} too ({place.uri}): expected one for each dataset")
        owner_by_uri[place.uri] = name
    if config.root is not None:
        return _DatasetPlaces(by_name, _folder_or_uri("datasets.root", config.root, folders))
    if storage.store is None and not storage.bos.bucket:
        return _DatasetPlaces(by_name, None)
    store = _store_place(storage)
    is_folder = parse_uri(store.root).scheme == "file"
    return _DatasetPlaces(by_name, _file_place(folders.absolute(lerobot_home)) if is_folder else _below(store, DATASETS_PREFIX))


def _folder_or_uri(key: str, place: str, folders: _Folders) -> Place:
    return _configured_place(key, place) if "://" in place else _file_place(folders.absolute(place))


def _file_place(path: str) -> Place:
    return Place(str(StoreUri("file", path)), "")


def _output_place(source: SourceConfig) -> Place:
    assert source.output is not None
    key = f"sources.{source.name}.output"
    output = source.output if "{" in source.output else f"{source.output.rstrip('/')}/{DEFAULT_PATTERN}"
    _checked_pattern(output, key)
    fixed, _, rest = output.partition("{")
    root, _, begun = fixed.rpartition("/")
    place = _configured_place(key, root)
    return _below(place, _key_steps(f"{begun}{{{rest}".replace("{source}", source.name), key) + "/")


def _folder_pattern(path: str) -> Place:
    """Split an absolute path with placeholders where they begin: the folder above is the root."""
    fixed, _, rest = path.partition("{")
    root, _, begun = fixed.rpartition("/")
    return Place(str(StoreUri("file", root or "/")), f"{begun}{{{rest}/")


def _checked_pattern(pattern: str, key: str = "output.pattern") -> None:
    names = set(_PLACEHOLDER.findall(pattern))
    if names - _KNOWN or "{" in _PLACEHOLDER.sub("", pattern) or "}" in _PLACEHOLDER.sub("", pattern):
        raise BadConfig("storage", key, f"expected only {{source}}, {{episode_id}} and {{strategy}} in braces (found {pattern!r})")
    for name in ("episode_id", "strategy"):
        if name not in names:
            raise BadConfig("storage", key, f"needs {{{name}}}, otherwise datasets overwrite each other (found {pattern!r})")


def _check_separate(by_source: dict[str, _SourcePlaces]) -> None:
    owner_by_target: dict[str, str] = {}
    for name, places in by_source.items():
        target = _filled(places.target.uri, {"source": name})
        if target in owner_by_target:
            both = f"{owner_by_target[target]} and {name}"
            raise BadConfig("storage", "output.pattern", f"the sources {both} would overwrite each other in {target}: add {{source}} to it")
        owner_by_target[target] = name


def _filled(pattern: str, values: dict[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), pattern)


def _is_path_like(pattern: str) -> bool:
    return pattern.startswith((".", "/", "~", "file://"))


def _store_place(storage: StorageConfig) -> Place:
    if storage.store is None and not storage.bos.bucket:
        raise BadConfig(
            "storage", "store", "is not set and neither is bos.bucket: set one, as in store: file:///data or bos.bucket: my-bucket"
        )
    return _configured_place("store", storage.store or f"s3://{storage.bos.bucket}")


def _configured_place(key: str, uri: str) -> Place:
    try:
        return _place(parse_uri(uri))
    except ValueError as error:
        raise BadConfig("storage", key, str(error)) from error


def _event_place(uri: str) -> Place:
    try:
        return _place(parse_uri(uri))
    except ValueError as error:
        raise BadEvent(f"raw: {error}") from error


def _place(uri: StoreUri) -> Place:
    return Place(str(StoreUri(uri.scheme, uri.root)), uri.prefix)


def _below(place: Place, prefix: str) -> Place:
    return Place(place.root, place.prefix + prefix)


def _prefix(prefix: str, key: str) -> str:
    steps = _key_steps(prefix, key) if prefix.strip("/") else ""
    if set(_PLACEHOLDER.findall(prefix)) - {"source"}:
        raise BadConfig("storage", key, f"expected at most {{source}} in braces (found {prefix!r})")
    return f"{steps}/" if steps else ""


def _key_steps(path: str, key: str) -> str:
    steps = path.strip("/").split("/")
    if any(step in {"", ".", ".."} or step.startswith(".part-") for step in steps):
        raise BadConfig("storage", key, f"has an empty step, '.' or '..': expected a plain relative path (found {path!r})")
    return "/".join(steps)
