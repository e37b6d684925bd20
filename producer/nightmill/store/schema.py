"""The tables: `results` has one row per job. A test compares them with what the migrations make."""

from __future__ import annotations

from typing import Final

SCHEMA_VERSION: Final = "0017"
"""The newest revision in `migrations/versions`; revisions sort by name."""

# Small columns first: SQLite reads a row's early columns without its overflow pages, so counts and
# sums stay fast when messages are large. Times are epoch ms.
RESULTS: Final = {
    "job_id": "TEXT NOT NULL",
    "run": "INTEGER NOT NULL",
    "status": "TEXT NOT NULL",
    "batch": "TEXT NOT NULL",  # '' for single jobs
    "seq": "BIGINT NOT NULL",  # line in the source from 1; 0 = none
    "custom_id": "TEXT",
    "model": "TEXT",
    "request_hash": "TEXT",
    "request_id": "TEXT",
    "stop_reason": "TEXT",
    "worker": "TEXT",
    "attempt_count": "INTEGER NOT NULL",
    "snooze_count": "INTEGER NOT NULL",
    "input_tokens": "BIGINT NOT NULL",
    "output_tokens": "BIGINT NOT NULL",
    "cache_read_input_tokens": "BIGINT NOT NULL",
    "cache_creation_input_tokens": "BIGINT NOT NULL",
    "cost": "FLOAT",  # dollars; NULL = unknown
    "enqueued_at": "BIGINT NOT NULL",
    "started_at": "BIGINT",
    "finished_at": "BIGINT NOT NULL",
    "error": "TEXT",  # JSON: ErrorInfo
    "attempts": "TEXT NOT NULL",  # JSON: list of Attempt
    "params": "TEXT",  # JSON: the request
    "message": "TEXT",  # JSON: the Message
    "lane": "TEXT",  # endpoint and credential fingerprint:lane
    "queue_ms": "BIGINT",  # before the first call; NULL = no call
    "call_ms": "BIGINT DEFAULT '0' NOT NULL",  # in calls, summed
    "snooze_reasons": "TEXT",  # JSON: reason -> times
    "turns": "INTEGER DEFAULT '0' NOT NULL",  # paid answers before the last one
    "api": "TEXT",  # JSON: Api; NULL = no version and no betas of its own
    "cache_creation_1h_input_tokens": "BIGINT DEFAULT '0' NOT NULL",
    "web_search_requests": "BIGINT DEFAULT '0' NOT NULL",
    "billed_as": "TEXT",  # what changed the rates: us, fast, batch; NULL = nothing
    "cost_parts": "TEXT",  # JSON: Bill
}
"""Column -> its definition in SQLite. The key is job_id."""

# What Redis knows of a batch, and may lose. A batch has its row when it was fed, or has ended.
BATCHES: Final = {
    "batch": "TEXT NOT NULL",
    "state": "TEXT NOT NULL",  # feeding, fed, cancelled or expired
    "total": "BIGINT",  # jobs in all; NULL = no source of it was read to its end
    "source": "TEXT",  # IdSet of the source that was fed last
    "limits": "TEXT",  # JSON: Limits
    "updated_at": "BIGINT NOT NULL",
    "content": "TEXT",  # of a source that was fed whole: its content_of
    "requests": "TEXT",  # and the IdSet of its job ids with the hashes of their requests
    "accept": "TEXT",  # JSON: Acceptance; NULL = the default one
    "estimate": "TEXT",  # JSON: Estimate of the source that was fed last
}

META: Final = {
    "name": "TEXT NOT NULL",  # `identity`: names this store in Redis
    "value": "TEXT NOT NULL",
}

# What calls used whose answers are no rows any more. FLOAT: a sum over int64 would fail.
SPENT: Final = {
    "batch": "TEXT NOT NULL",
    "input_tokens": "FLOAT NOT NULL",
    "output_tokens": "FLOAT NOT NULL",
    "cache_read_input_tokens": "FLOAT NOT NULL",
    "cache_creation_input_tokens": "FLOAT NOT NULL",
    "cost": "FLOAT NOT NULL",  # dollars
    "unpriced": "FLOAT NOT NULL",  # answers without a known price
    "answers": "FLOAT NOT NULL",
}

# Paid answers of jobs that have not ended: the next call of each job goes on from them.
TURNS: Final = {
    "job_id": "TEXT NOT NULL",
    "run": "INTEGER NOT NULL",
    "n": "INTEGER NOT NULL",  # from 1 in each run
    "batch": "TEXT NOT NULL",  # '' for single jobs
    "request_hash": "TEXT NOT NULL",
    "why": "TEXT NOT NULL",  # why the job goes on: see records.turn
    "problem": "TEXT",  # what the check found
    "message": "TEXT",  # JSON: the Message
    "usage": "TEXT NOT NULL",  # JSON: Usage
    "usage_unknown": "INTEGER NOT NULL",
    "bill": "TEXT",  # JSON: Bill; NULL = no known price
    "call": "INTEGER NOT NULL",  # number of its attempt
    "at": "BIGINT NOT NULL",  # when it was answered
}

# Who may call the HTTP gateway: see access_keys.py.
ACCESS_KEYS: Final = {
    "key_id": "TEXT NOT NULL",
    "digest": "TEXT NOT NULL",  # HMAC of the key, hex
    "name": "TEXT NOT NULL",
    "role": "TEXT NOT NULL",  # viewer, service or operator
    "tenant": "TEXT NOT NULL",
    "created_at": "BIGINT NOT NULL",
    "expires_at": "BIGINT",  # NULL = never
    "revoked_at": "BIGINT",  # NULL = not revoked,
    "limits": "TEXT",  # JSON: KeyLimits; NULL = none
}

# Batches that came through the HTTP gateway: see message_batches.py.
MESSAGE_BATCHES: Final = {
    "tenant": "TEXT NOT NULL",
    "batch": "TEXT NOT NULL",
    "total": "BIGINT NOT NULL",  # its requests
    "created_at": "BIGINT NOT NULL",
    "expires_at": "BIGINT NOT NULL",
    "anthropic_version": "TEXT",  # NULL = the workers' own
    "anthropic_beta": "TEXT",  # with commas
    "cancel_initiated_at": "BIGINT",
    "ended_at": "BIGINT",  # NULL = it has not ended
    "succeeded": "BIGINT",  # counts at its end; NULL before
    "errored": "BIGINT",
    "canceled": "BIGINT",
    "expired": "BIGINT",
    "deleted_at": "BIGINT",  # its rows are removed after that
    "digest": "TEXT",  # of the body of its create
    "idempotency_key": "TEXT",  # of its create; NULL = none was given
    "answered_at": "BIGINT",  # NULL = the answer to its create was not written to its end
    "key_id": "TEXT",  # the key that made it; NULL = none
}

# Who acted in the web console: see audit.py.
AUDIT: Final = {
    "id": "TEXT NOT NULL",  # sorts by time
    "at": "BIGINT NOT NULL",
    "tenant": "TEXT NOT NULL",  # whose thing it was; '*' = all tenants'
    "key_id": "TEXT NOT NULL",  # '' = on a machine without keys
    "who": "TEXT NOT NULL",  # the key's name
    "action": "TEXT NOT NULL",
    "target": "TEXT NOT NULL",  # a batch, job, account or lane
    "detail": "TEXT NOT NULL",
    "outcome": "TEXT",  # NULL = the action runs, or its gateway died
}

# Their requests, until the batch is deleted. Without a row above, a create broke off.
REQUESTS: Final = {
    "batch": "TEXT NOT NULL",
    "seq": "BIGINT NOT NULL",  # place in the batch, from 1
    "custom_id": "TEXT NOT NULL",
    "model": "TEXT NOT NULL",
    "body": "TEXT NOT NULL",  # JSON: the request
}

# Each order of reading has an index that ends in the key, so that a page can start exactly where
# the last one ended.
_INDEXES: Final = {
    "results_batch_seq": "batch, seq, job_id",
    "results_batch_finished": "batch, finished_at, job_id",
    "results_batch_status": "batch, status",
}

# The keeper reads these batches once a second, among all that were ever made.
UNFINISHED: Final = (
    "CREATE INDEX IF NOT EXISTS message_batches_unfinished ON message_batches (batch) "
    "WHERE ended_at IS NULL OR deleted_at IS NOT NULL"
)
"""The same text as in the migration, which a later change must not edit."""
# A batch is looked up without its tenant for each large request, and for what may be remains.
NAMED: Final = "CREATE INDEX IF NOT EXISTS message_batches_named ON message_batches (batch)"
"""The same text as in the migration."""

# For programs in other languages: docs/store.md. A column of it is never changed or taken away; a
# view with other columns would be results_v2.
RESULTS_V1: Final = (
    *("job_id", "batch", "custom_id", "seq", "run", "status", "model", "stop_reason"),
    *("message", "error", "params", "cost", "input_tokens", "output_tokens"),
    *("cache_read_input_tokens", "cache_creation_input_tokens"),
    *("attempt_count", "snooze_count", "attempts", "request_id"),
    *("enqueued_at", "started_at", "finished_at", "queue_ms", "call_ms"),
)
"""The columns of the view `results_v1`, which are columns of `results`; `rehearsal` follows."""
VIEW: Final = (
    f"CREATE VIEW results_v1 AS SELECT {', '.join(RESULTS_V1)}, "
    "CASE WHEN request_hash LIKE 'rehearsed-%' THEN 1 ELSE 0 END AS rehearsal FROM results"
)
"""The same text as in the migration, which a later change must not edit."""

_TABLES: Final = {
    "results": RESULTS,
    "batches": BATCHES,
    "meta": META,
    "spent": SPENT,
    "turns": TURNS,
    "access_keys": ACCESS_KEYS,
    "message_batches": MESSAGE_BATCHES,
    "requests": REQUESTS,
    "audit": AUDIT,
}
_KEYS: Final = {
    "turns": "job_id, run, n",
    "message_batches": "tenant, batch",
    "requests": "batch, seq",
}
"""Primary keys of more than the first column."""

# What the migrations make of an empty SQLite file. Alembic needs 0.3 s to be imported, which is
# most of the time that a small first run takes.
NEW_SQLITE: Final = (
    *(
        f"CREATE TABLE {table} ("
        + "".join(f"{name} {definition}, " for name, definition in columns.items())
        + f"PRIMARY KEY ({_KEYS.get(table, next(iter(columns)))}))"
        for table, columns in _TABLES.items()
    ),
    VIEW,
    *(f"CREATE INDEX {name} ON results ({columns})" for name, columns in _INDEXES.items()),
    UNFINISHED,
    NAMED,
    (
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
        "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
    ),
    f"INSERT INTO alembic_version VALUES ('{SCHEMA_VERSION}')",
    "INSERT INTO meta VALUES ('identity', lower(hex(randomblob(16))))",
)
"""Statements that make the schema in an empty SQLite file."""
