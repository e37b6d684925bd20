"""A view for programs in other languages, whose columns stay."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the view."""
    op.execute("DROP VIEW IF EXISTS results_v1")
    op.execute(
        "CREATE VIEW results_v1 AS SELECT job_id, batch, custom_id, seq, run, status, model, "
        "stop_reason, message, error, params, cost, input_tokens, output_tokens, "
        "cache_read_input_tokens, cache_creation_input_tokens, attempt_count, snooze_count, "
        "attempts, request_id, enqueued_at, started_at, finished_at, queue_ms, call_ms, "
        "CASE WHEN request_hash LIKE 'rehearsed-%' THEN 1 ELSE 0 END AS rehearsal FROM results"
    )
