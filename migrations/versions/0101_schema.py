"""The schema of the first release; those of earlier versions cannot be upgraded to it."""

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.schema import DropSequence

revision = "0101"
compatible_from = "0101"
down_revision = None
branch_labels = None
depends_on = None

_EVENT_IDS = sa.Sequence("event_ids")

_FIND_KEYS = """
    -- Whoever asks need not see any key: it names those that it was given.
    CREATE FUNCTION longhand_find_keys(digests bytea[])
    RETURNS TABLE (digest bytea, id uuid, tenant text, scopes text[], expires_in_s float8,
                   is_use_due boolean)
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = {schema}, pg_temp
    AS $$
        SELECT sha256, id, tenant, scopes,
               extract(epoch FROM expires_at - clock_timestamp())::float8,
               last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '1 minute'
        FROM api_keys
        WHERE sha256 = ANY (digests) AND revoked_at IS NULL
          AND (expires_at IS NULL OR expires_at > clock_timestamp())
    $$
"""


_FIND_SHARE_LINKS = """
    -- Whoever has a link belongs to no tenant, so its policies would show nothing.
    CREATE FUNCTION longhand_find_share_links(digests bytea[])
    RETURNS TABLE (digest bytea, tenant text, job_id uuid, expires_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = {schema}, pg_temp
    AS $$
        SELECT share_links.sha256, jobs.tenant, jobs.id, share_links.expires_at
        FROM share_links JOIN jobs ON jobs.id = share_links.job_id
        WHERE share_links.sha256 = ANY (digests) AND share_links.expires_at > clock_timestamp()
    $$
"""

_DUE_TURN = """
    -- Turns order the tenants of a queue, so they depend on the steps of all.
    CREATE FUNCTION longhand_due_turn(wanted text) RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = {schema}, pg_temp
    AS $$
        SELECT tenant_turn FROM steps
        WHERE queue = wanted AND kind <> 'deliver' AND state = 'queued'
          AND run_at <= statement_timestamp()
        ORDER BY tenant_turn LIMIT 1
    $$
"""

_SEARCH = """
    -- Row-level security lets no index be used for @@. EXECUTE plans with the words at hand: rare
    -- ones are looked up in the index of terms, common ones met on a way through the newest.
    CREATE FUNCTION longhand_search(wanted tsquery, after_id uuid, after_idx bigint, most bigint)
    RETURNS TABLE (transcript_id uuid, idx integer)
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = {schema}, pg_temp
    AS $$
    BEGIN
        RETURN QUERY EXECUTE '
            SELECT found.transcript_id, found.idx FROM transcript_terms AS found
            WHERE found.tenant = $1 AND found.terms @@ $2 AND found.transcript_id <= $3
              AND (found.transcript_id < $3 OR found.idx > $4)
            ORDER BY found.transcript_id DESC, found.idx LIMIT $5
        ' USING current_setting('longhand.tenant', true), wanted, after_id, after_idx, most;
    END
    $$
"""

_BACKLOG = """
    -- What autoscalers and metrics go by. It is its owner's view, so who reads it needs to see no
    -- step. Audio is that of the chunks' cores, at 16,000 samples a second. Each part of the union
    -- reads a partial index without the steps that are done or void.
    CREATE VIEW longhand_backlog AS
    SELECT queue,
           count(*) FILTER (WHERE state = 'queued') AS queued_steps,
           count(*) FILTER (WHERE state = 'running') AS running_steps,
           coalesce(sum(audio_s) FILTER (WHERE state = 'queued'), 0) AS queued_audio_s,
           coalesce(sum(audio_s) FILTER (WHERE state = 'running'), 0) AS running_audio_s,
           coalesce(extract(epoch FROM statement_timestamp() - min(run_at) FILTER (
               WHERE state = 'queued' AND run_at <= statement_timestamp()
           )), 0)::float8 AS oldest_due_s
    FROM (
        SELECT queue, state, run_at, CASE WHEN kind = 'transcribe' THEN
            ((input ->> 'core_end')::int - (input ->> 'core_start')::int) / 16000.0::float8
        END AS audio_s
        FROM (
            SELECT * FROM steps WHERE state = 'queued'
            UNION ALL
            SELECT * FROM steps WHERE state = 'running'
        ) AS steps
    ) AS live
    GROUP BY queue
"""

_ROLES = """
    -- Roles are the whole cluster's, so another database's migration may have made them. Their
    -- operator lets them log in.
    DO $$
    DECLARE wanted text;
    BEGIN
        FOREACH wanted IN ARRAY ARRAY['longhand_api', 'longhand_worker', 'longhand_scaler'] LOOP
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
                BEGIN
                    EXECUTE format('CREATE ROLE %I', wanted);
                EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
                END;
            END IF;
        END LOOP;
        -- The policies bind the tables' owner, too; it sees what the workers see.
        IF NOT pg_has_role(current_user, 'longhand_worker', 'USAGE') THEN
            GRANT longhand_worker TO CURRENT_USER;
        END IF;
    END $$
"""

_OWNED = {
    "tenants": "id",
    "api_keys": "tenant",
    "jobs": "tenant",
    "job_metadata": "tenant",
    "steps": "tenant",
    "transcripts": "tenant",
    "transcript_terms": "tenant",
    "voices": "tenant",
    "batches": "tenant",
    "idempotency_keys": "tenant",
    "uploads": "tenant",
    "webhook_endpoints": "tenant",
    "webhook_events": "tenant",
    "webhook_deliveries": "tenant",
    "usage": "tenant",
    "usage_entries": "tenant",
}
"""Tables whose rows are tenants' own, and the column that says whose."""

_PARTS = {
    "calls": "jobs WHERE jobs.id = calls.job_id",
    "corrections": "jobs WHERE jobs.id = corrections.job_id",
    "share_links": "jobs WHERE jobs.id = share_links.job_id",
    "job_events": "jobs WHERE jobs.id = job_events.job_id",
    "transcript_segments": "transcripts WHERE transcripts.id = transcript_segments.transcript_id",
    "webhook_attempts": "webhook_deliveries "
    "WHERE webhook_deliveries.id = webhook_attempts.delivery_id",
}
"""Tables whose rows belong to a row of another, and which one that is."""

_SHARED = ("removals", "served_queues", "worker_kinds", "workers")
"""Tables without anything of tenants."""


def _separate_tenants() -> None:
    """Make the roles of the API and the workers, and the policies that bind them."""
    op.execute(_ROLES)
    schema = op.get_bind().execute(sa.text("SELECT quote_ident(current_schema())")).scalar_one()
    for function in (_FIND_KEYS, _FIND_SHARE_LINKS, _DUE_TURN, _SEARCH):
        op.execute(function.format(schema=schema))
    both = "longhand_api, longhand_worker"
    op.execute(f"GRANT USAGE ON SCHEMA {schema} TO {both}")
    of_api = "longhand_find_keys, longhand_find_share_links, longhand_search"
    op.execute(f"REVOKE ALL ON FUNCTION {of_api}, longhand_due_turn FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {of_api} TO longhand_api")
    op.execute(f"GRANT EXECUTE ON FUNCTION longhand_due_turn TO {both}")
    op.execute(f"GRANT SELECT ON alembic_version TO {both}")
    op.execute(f"GRANT USAGE, SELECT ON SEQUENCE event_ids TO {both}")
    op.execute(_BACKLOG)
    op.execute(f"GRANT USAGE ON SCHEMA {schema} TO longhand_scaler")
    op.execute(f"GRANT SELECT ON longhand_backlog TO longhand_scaler, {both}")
    for table in (*_OWNED, *_PARTS, *_SHARED):
        # Workers need no keys.
        users = "longhand_api" if table == "api_keys" else both
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {users}")
    visible = "current_setting('longhand.tenant', true) IN ({column}, '*')"
    for table, column in _OWNED.items():
        _bind(table, visible.format(column=column), "")
    for table, whole in _PARTS.items():
        # What a statement inserts together with its whole is not seen by that statement's own
        # policies. A foreign key sees to it that there is a whole.
        _bind(table, f"EXISTS (SELECT FROM {whole})", "WITH CHECK (true)")


def _bind(table: str, visible: str, check: str) -> None:
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY api ON {table} TO longhand_api USING ({visible}) {check}")
    op.execute(f"CREATE POLICY workers ON {table} TO longhand_worker USING (true)")


_FILES = (
    "accounts",
    "objects",
    "workers",
    "transcripts",
    "webhooks",
    "jobs",
    "steps",
    "deliveries",
)
"""In the folder beside this file, by aggregate; what refers to a table comes after it."""


def upgrade() -> None:
    """Apply."""
    for name in _FILES:
        sql = Path(__file__).with_name("0101").joinpath(f"{name}.sql").read_text(encoding="utf-8")
        for statement in filter(str.strip, sql.split(";\n")):
            op.execute(statement.replace(":", r"\:"))  # no colon is that of a parameter
    _separate_tenants()


def downgrade() -> None:
    """Revert; the roles stay, as other databases of the cluster may have them."""
    op.execute("DROP VIEW longhand_backlog")
    functions = "longhand_find_keys, longhand_find_share_links, longhand_due_turn, longhand_search"
    op.execute(f"DROP FUNCTION {functions}")
    for table in [
        "usage_entries",
        "usage",
        "webhook_attempts",
        "webhook_deliveries",
        "webhook_events",
        "steps",
        "job_events",
        "worker_kinds",
        "voices",
        "transcript_terms",
        "transcript_segments",
        "share_links",
        "corrections",
        "calls",
        "job_metadata",
        "jobs",
        "uploads",
        "workers",
        "idempotency_keys",
        "batches",
        "webhook_endpoints",
        "transcripts",
        "served_queues",
        "removals",
        "api_keys",
        "tenants",
    ]:
        op.drop_table(table)
    op.execute(DropSequence(_EVENT_IDS))
