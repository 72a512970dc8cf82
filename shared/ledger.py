"""The one door to Redis: duplicate markers, counters and the scan position.

Everything here may be lost without losing data; every call ends within two or three seconds, with
``LedgerUnavailable`` if Redis is away, so that conversion goes on without it. A marker never blocks a republish.

Keys (a contract with operators):

    lerobot:processed:{source}:{episode_id}   hash, 7 days: {strategy} = "{state} {token}", and
                                              {strategy}:{state} = the token last recorded for that state
    lerobot:stats:{source}:completed|failed   counters
    lerobot:excused:{message}                 deliveries that do not count against an episode, 1 day
    bos:last_scanned_key                      scan position (configurable)

Counters move inside the script that writes the marker, and only when the token of that state is new: a replayed
event, however late, counts once.
"""

from __future__ import annotations

from collections.abc import Awaitable
from types import TracebackType
from typing import Literal, Self, TypeVar, cast

import msgspec
import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from shared import logs
from shared.config import RedisConfig, ScannerConfig
from shared.errors import LedgerUnavailable
from shared.events import EpisodeFailed

_log = logs.logger("ledger")

T = TypeVar("T")

State = Literal["ready", "converted", "completed", "failed"]

_TIMEOUT_S = 1.0
MARKER_LIFE_S = 7 * 24 * 3600
"""How long the state of an episode is known."""
_EXCUSE_LIFE_S = 24 * 3600
_NO_STRATEGY = "configured"

# KEYS: count. ARGV: seconds.
_EXCUSE = "redis.call('INCR', KEYS[1]) return redis.call('EXPIRE', KEYS[1], ARGV[1])"

# KEYS: marker, counter. ARGV: strategy, state, token, seconds, "1" to count. Returns 1 if the marker changed.
_RECORD = """
local seen = redis.call('HGET', KEYS[1], ARGV[1] .. ':' .. ARGV[2])
if seen == ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3], ARGV[1] .. ':' .. ARGV[2], ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
if ARGV[5] == '1' then redis.call('INCR', KEYS[2]) end
return 1
"""


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """How many episodes of a source were completed and how many failed; a failure that was retried stays counted."""

    completed: int
    failed: int


class Ledger:
    """A client of the ledger; connects when first used. Close it, or use it as a context.

    Args:
        config: where Redis is and as whom.
        scan_key: key of the scan position.
    """

    def __init__(self, config: RedisConfig, *, scan_key: str = ScannerConfig().incremental_key) -> None:
        self._place = f"Redis at {config.host}:{config.port}"
        self._scan_key = scan_key
        self._redis = redis.asyncio.Redis(
            host=config.host,
            port=config.port,
            username=config.username,
            password=config.password.reveal() if config.password else None,
            db=config.db,
            ssl=config.tls,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            # Whoever calls decides whether to go on without the ledger; waiting here would hold up conversions.
            retry=Retry(NoBackoff(), 1),
            decode_responses=True,
            encoding_errors="surrogateescape",  # somebody else's bytes go back as they came
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def ping(self) -> None:
        """Make sure that Redis answers.

        Raises:
            LedgerUnavailable: it does not.
        """
        await self._answered(self._redis.ping())

    async def claim_ready(self, source: str, episode_id: str, *, strategy: str | None, token: str) -> bool:
        """Record that an episode was announced; True the first time for this token.

        Args:
            source: the episode's source.
            episode_id: its name.
            strategy: the alignment it was announced for; None: the configured one.
            token: the revision of the raw episode; one that changed is announced again.

        Raises:
            LedgerUnavailable: Redis does not answer.
        """
        return await self.record(source, episode_id, strategy=strategy, state="ready", token=token)

    async def record(self, source: str, episode_id: str, *, strategy: str | None, state: State, token: str) -> bool:
        """Record what became of an episode, and count it if it was completed or failed; True if that was new.

        Args:
            source: the episode's source.
            episode_id: its name.
            strategy: the alignment; None: the configured one.
            state: what it became.
            token: what makes this occurrence one (a digest, a message's sequence number); the same again changes nothing.

        Raises:
            LedgerUnavailable: Redis does not answer.
        """
        is_counted = state in {"completed", "failed"}
        keys = [_marker_key(source, episode_id), _stats_key(source, state)]
        arguments = [strategy or _NO_STRATEGY, state, token, str(MARKER_LIFE_S), "1" if is_counted else "0"]
        changed = await self._answered(self._redis.eval(_RECORD, len(keys), *keys, *arguments))
        return bool(changed)

    async def note(self, source: str, episode_id: str, *, strategy: str | None, state: State, token: str) -> None:
        """Record as ``record`` does, but go on without Redis: its absence is one line in the log."""
        try:
            await self.record(source, episode_id, strategy=strategy, state=state, token=token)
        except LedgerUnavailable as error:
            _log.warning("ledger.unavailable", source=source, episode_id=episode_id, state=state, error=str(error))

    async def note_failure(self, failed: EpisodeFailed, seq: int) -> None:
        """Note a failed episode; ``seq`` is the number of the message that failed, so that a replay counts once."""
        await self.note(failed.source, failed.episode_id, strategy=failed.strategy, state="failed", token=f"{failed.stage}:{seq}")

    async def excuse(self, key: str) -> None:
        """Count one more delivery of a message that does not count against its episode; without Redis it does count."""
        try:
            await self._answered(self._redis.eval(_EXCUSE, 1, _excuse_key(key), str(_EXCUSE_LIFE_S)))
        except LedgerUnavailable as error:
            _log.debug("excuse.lost", key=key, error=str(error))

    async def num_excused(self, key: str) -> int | None:
        """Return how many deliveries of a message are excused; None without Redis."""
        try:
            return int(await self._answered(cast("Awaitable[str | None]", self._redis.get(_excuse_key(key)))) or 0)
        except LedgerUnavailable as error:
            _log.debug("excuses.unknown", key=key, error=str(error))
            return None

    async def states(self, source: str, episode_id: str) -> dict[str, State]:
        """Return the latest state by strategy; empty if nothing is known.

        Raises:
            LedgerUnavailable: Redis does not answer.
        """
        fields = await self._answered(cast("Awaitable[dict[str, str]]", self._redis.hgetall(_marker_key(source, episode_id))))
        return {name: cast("State", value.partition(" ")[0]) for name, value in fields.items() if ":" not in name}

    async def stats(self, source: str) -> Stats:
        """Return the counters of a source.

        Raises:
            LedgerUnavailable: Redis does not answer.
        """
        keys = [_stats_key(source, "completed"), _stats_key(source, "failed")]
        completed, failed = await self._answered(cast("Awaitable[list[str | None]]", self._redis.mget(keys)))
        return Stats(completed=int(completed or 0), failed=int(failed or 0))

    async def scan_position(self) -> str | None:
        """Return the key up to which the scanner has seen the store, or None.

        Raises:
            LedgerUnavailable: Redis does not answer.
        """
        return await self._answered(cast("Awaitable[str | None]", self._redis.get(self._scan_key)))

    async def set_scan_position(self, key: str) -> None:
        """Remember how far the scanner has seen the store.

        Raises:
            LedgerUnavailable: Redis does not answer.
        """
        await self._answered(self._redis.set(self._scan_key, key))

    async def listed(self, key: str) -> list[str]:
        """Return the items of a list that the old design left behind, as they are; none if there is no such list.

        Raises:
            LedgerUnavailable: Redis does not answer, or the key is no list.
        """
        return await self._answered(cast("Awaitable[list[str]]", self._redis.lrange(key, 0, -1)))

    async def unlist(self, key: str, item: str) -> bool:
        """Remove exactly one item that equals ``item`` from a list; False if it was not there any more.

        Raises:
            LedgerUnavailable: Redis does not answer, or the key is no list.
        """
        return bool(await self._answered(self._redis.lrem(key, 1, item)))

    async def _answered(self, asking: Awaitable[T]) -> T:
        try:
            return await asking
        except redis.exceptions.AuthenticationError as error:
            raise LedgerUnavailable(f"{self._place} refuses the password: check redis.username and redis.password ({error})") from error
        except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
            raise LedgerUnavailable(f"{self._place} does not answer as expected: {error or type(error).__name__}") from error


def _marker_key(source: str, episode_id: str) -> str:
    return f"lerobot:processed:{source}:{episode_id}"


def _excuse_key(message: str) -> str:
    return f"lerobot:excused:{message}"


def _stats_key(source: str, state: str) -> str:
    return f"lerobot:stats:{source}:{state}"
