"""The tables: `results` has one row per job. A test compares them with what the migrations make."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, Table, Text

SCHEMA_VERSION: Final = "0003"
"""The newest revision in `migrations/versions`; revisions sort by name."""

metadata = MetaData()

_NAME: Final = Text().with_variant(Text(collation="C"), "postgresql")
"""Text that sorts by its bytes, as in SQLite, so that both databases read in the same order."""

# Small columns first: SQLite reads a row's early columns without its overflow pages, so counts and
# sums stay fast when messages are large. Times are epoch ms.
results = Table(
    "results",
    metadata,
    Column("job_id", _NAME, primary_key=True),
    Column("run", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("batch", _NAME, nullable=False),  # '' for single jobs
    Column("seq", BigInteger, nullable=False),  # line in the source from 1; 0 = none
    Column("custom_id", Text),
    Column("model", Text),
    Column("request_hash", Text),
    Column("request_id", Text),
    Column("stop_reason", Text),
    Column("worker", Text),
    Column("attempt_count", Integer, nullable=False),
    Column("snooze_count", Integer, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cache_read_input_tokens", BigInteger, nullable=False),
    Column("cache_creation_input_tokens", BigInteger, nullable=False),
    Column("cost", Float),  # dollars; NULL = unknown
    Column("enqueued_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger, nullable=False),
    Column("error", Text),  # JSON: ErrorInfo
    Column("attempts", Text, nullable=False),  # JSON: list of Attempt
    Column("params", Text),  # JSON: the request
    Column("message", Text),  # JSON: the Message
    Column("lane", Text),  # endpoint and credential fingerprint:model
    Column("queue_ms", BigInteger),  # before the first call; NULL = no call
    Column("call_ms", BigInteger, nullable=False, server_default="0"),  # in calls, summed
    Column("snooze_reasons", Text),  # JSON: reason -> times
)

# Each order of reading has an index that ends in the key, so that a page can start exactly where
# the last one ended.
Index("results_batch_seq", results.c.batch, results.c.seq, results.c.job_id)
Index("results_batch_finished", results.c.batch, results.c.finished_at, results.c.job_id)
Index("results_batch_status", results.c.batch, results.c.status)

# What Redis knows of a batch, and may lose. A batch has its row when it was fed, or has ended.
batches = Table(
    "batches",
    metadata,
    Column("batch", _NAME, primary_key=True),
    Column("state", Text, nullable=False),  # feeding, fed, cancelled or expired
    Column("total", BigInteger),  # jobs in all; NULL = no source of it was read to its end
    Column("source", Text),  # IdSet of the source that was fed last
    Column("limits", Text),  # JSON: Limits
    Column("updated_at", BigInteger, nullable=False),
)

meta = Table(
    "meta",
    metadata,
    Column("name", _NAME, primary_key=True),  # `identity`: names this store in Redis
    Column("value", Text, nullable=False),
)
