"""What a user of nightmill needs in Redis: commands, keys, a channel. Pure."""

from __future__ import annotations

from typing import Final

PREFIXES: Final = ("arq:", "nightmill:")
"""How all keys start."""
WITH_KEYS: Final = (
    *(
        "DECR",
        "DEL",
        "EXISTS",
        "GET",
        "GETEX",
        "GETRANGE",
        "INCR",
        "MGET",
        "PERSIST",
        "PEXPIRE",
        "PTTL",
        "SET",
    ),
    *("TYPE", "WATCH"),
    *("HDEL", "HEXISTS", "HGET", "HGETALL", "HINCRBY", "HLEN", "HMGET", "HSET", "HSETNX", "HVALS"),
    *(
        "LINDEX",
        "LLEN",
        "LPOP",
        "LRANGE",
        "LREM",
        "LSET",
        "RPUSH",
        "SADD",
        "SCARD",
        "SMEMBERS",
        "SREM",
        "SSCAN",
    ),
    *("ZADD", "ZCARD", "ZCOUNT", "ZRANGE", "ZRANGEBYSCORE", "ZREM", "ZREMRANGEBYSCORE"),
    *("ZREVRANGEBYSCORE", "ZSCAN", "ZSCORE"),
)
"""All commands that producers and workers send with a key, by themselves or in scripts."""
WITHOUT_KEYS: Final = ("EXEC", "MULTI", "TIME", "UNWATCH")
"""Those without a key that `doctor` asks for one by one."""
SCRIPTS: Final = ("EVALSHA", "SCRIPT|EXISTS", "SCRIPT|LOAD")
CHANNELS: Final = ("PUBLISH", "PUBSUB|NUMSUB", "SUBSCRIBE", "UNSUBSCRIBE")
CONNECTIONS: Final = ("CLIENT|SETNAME", "INFO", "PING", "SELECT")
"""For redis-py's start of a connection, and to see whether a Redis answers and how it is set."""
LIMITS: Final = (*(f"~{prefix}*" for prefix in PREFIXES), "&nightmill:*")
"""The keys and the channels, as ACL SETUSER takes them."""


def rights() -> tuple[str, ...]:
    """Return all rights of a user of nightmill, as ACL SETUSER takes them, and no other."""
    commands = {*WITH_KEYS, *WITHOUT_KEYS, *SCRIPTS, *CHANNELS, *CONNECTIONS}
    return (*LIMITS, *(f"+{name.lower()}" for name in sorted(commands)))
