"""The tables: `results`, one row per job, and `meta`, the schema's version."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, Table, Text

SCHEMA_VERSION: Final = 1

metadata = MetaData()

meta = Table("meta", metadata, Column("schema_version", Integer, primary_key=True))

# Small columns first: SQLite reads a row's early columns without following its overflow pages, so
# counting and summing stay cheap beside large messages. Times are epoch ms.
results = Table(
    "results",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("run", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("batch", Text, nullable=False, comment="'' for single jobs"),
    Column("seq", BigInteger, nullable=False, comment="line in the source from 1; 0 = none"),
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
    Column("cost", Float, comment="dollars; NULL = unknown"),
    Column("enqueued_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger, nullable=False),
    Column("error", Text, comment="JSON: ErrorInfo"),
    Column("attempts", Text, nullable=False, comment="JSON: list of Attempt"),
    Column("params", Text, comment="JSON: the request"),
    Column("message", Text, comment="JSON: the Message"),
)

# Each order of reading is an index that ends in the key, so that a page can start where the last
# one ended.
Index("results_batch_seq", results.c.batch, results.c.seq, results.c.job_id)
Index("results_batch_finished", results.c.batch, results.c.finished_at, results.c.job_id)
Index("results_batch_status", results.c.batch, results.c.status)
