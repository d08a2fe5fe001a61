"""What the environment says of a service: its callers, its limit, its log. `docs/service.md` lists every variable."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

RATE_LIMIT = 1000.0  # requests a second of one caller
RATE_LIMIT_BYTES = 20_000_000.0  # bytes of bodies a second of one caller; about 80,000 rows of 30 numbers
RETENTION_DAYS = 90.0  # for which the prediction log keeps what people sent
CLOCK_NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,6})?"


DATABASE = r"(sqlite:///|postgres(ql)?://)."
NO_DATABASE = "SLIPWAY_DATABASE_URL is neither sqlite:///PATH nor postgresql://…"  # it may hold a password


class ConfigError(ValueError):
    """The service cannot run like this; the message names the variable in one line."""


@dataclass(frozen=True)
class Config:
    """The settings of one service; `open` lets anybody call."""

    open: bool
    keys: str = ""
    keys_file: Path | None = None
    rate_limit: float = RATE_LIMIT
    rate_limit_bytes: float = RATE_LIMIT_BYTES
    database: str = ""
    retention_days: float = RETENTION_DAYS
    request_log: bool = False
    cors_origins: tuple[str, ...] = ()
    log_clock: tuple[float, float] | None = (
        None  # the origin and the factor of the log's time, where it is not the real one
    )
    local: bool = False  # nobody was let in by a word: without keys, this machine alone may call


def read_config(environment: Mapping[str, str], open: bool = False, loopback: bool = True) -> Config:
    """The settings in an environment; raises ConfigError.

    Without keys anybody may call, which must be asked for (`open`) where others than this machine can (`loopback`).
    """
    keys, file = environment.get("SLIPWAY_API_KEYS", ""), environment.get("SLIPWAY_API_KEYS_FILE", "")
    if keys and file:
        raise ConfigError("SLIPWAY_API_KEYS and SLIPWAY_API_KEYS_FILE are both set; one of them is enough")
    if open and (keys or file):
        raise ConfigError("--open answers anybody, but keys are set; leave out one of them")
    if not (open or keys or file or loopback):
        raise ConfigError(
            "no keys are set, and others than this machine can call; set SLIPWAY_API_KEYS, or give --open"
        )
    database = environment.get("SLIPWAY_DATABASE_URL", "")
    if database and not re.match(DATABASE, database):
        raise ConfigError(NO_DATABASE)
    log = environment.get("SLIPWAY_REQUEST_LOG", "") or "off"
    if log not in ("off", "on"):
        raise ConfigError(f"SLIPWAY_REQUEST_LOG is {log!r}, allowed are off and on")
    return Config(
        not (keys or file),
        keys,
        Path(file) if file else None,
        _number(environment, "SLIPWAY_RATE_LIMIT", RATE_LIMIT, "of requests a second, 0 for no limit"),
        _number(environment, "SLIPWAY_RATE_LIMIT_BYTES", RATE_LIMIT_BYTES, "of bytes a second, 0 for no limit"),
        database,
        _number(environment, "SLIPWAY_LOG_RETENTION_DAYS", RETENTION_DAYS, "of days, 0 for keeping all"),
        log == "on",
        _origins(environment.get("SLIPWAY_CORS_ORIGINS", "")),
        read_log_clock(environment),
        not (open or keys or file),
    )


def read_log_clock(environment: Mapping[str, str]) -> tuple[float, float] | None:
    """The origin and the factor that SLIPWAY_LOG_CLOCK sets, None where it sets none; raises ConfigError."""
    given = environment.get("SLIPWAY_LOG_CLOCK", "")
    if not given:
        return None
    found = re.fullmatch(rf"({CLOCK_NUMBER}):({CLOCK_NUMBER})", given)
    if not found or not (factor := float(found[2])):
        raise ConfigError(
            f"SLIPWAY_LOG_CLOCK is {given!r}; it is ORIGIN:FACTOR, two numbers: from the second ORIGIN since 1970 on, the log's "
            "time runs FACTOR times as fast, like 1767225600:86400"
        )
    return float(found[1]), factor


def _origins(given: str) -> tuple[str, ...]:
    origins = tuple(given.replace(",", " ").lower().split())
    for origin in origins:
        if not re.fullmatch(r"\*|https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?", origin):
            raise ConfigError(
                f"SLIPWAY_CORS_ORIGINS names {origin!r}; an origin is like https://app.example.com, with its port if it has "
                "one and no path, and * is any"
            )
    return origins


def _number(environment: Mapping[str, str], name: str, default: float, what: str) -> float:
    given = environment.get(name, "") or str(default)
    if not re.fullmatch(r"\d{1,9}(\.\d{1,6})?", given):
        raise ConfigError(f"{name} is {given!r}; it is a number {what}")
    return float(given)
