"""The codes of errors."""

from collections.abc import Iterator

from shared.infra.errors import CommitUncertain, LonghandError

CODES = {
    *("correction_conflict", "csrf_token_wrong", "nothing_to_undo", "peaks_not_ready"),
    *("segment_not_found", "share_link_not_found", "too_many_share_links"),
    *("worker_not_found", "worker_not_drainable"),
    *("audio_gone", "audio_refused", "job_canceled", "job_failed", "too_many_calls"),
    *("conflicting_options", "empty_reference", "invalid_parameter", "unsupported_parameter"),
    "job_unfinished",
    *("audio_out_of_bounds", "audio_too_long", "broker_unavailable"),
    *("database_busy", "database_full", "database_read_only", "database_unavailable"),
    *("database_unfit", "delivery_not_found", "delivery_not_replayable", "delivery_void"),
    *("device_out_of_memory", "empty_file", "engine_failed", "error", "forbidden_origin"),
    *("internal_error", "invalid_request", "job_ended", "job_not_found", "job_not_retryable"),
    *("lease_lost", "media_error", "model_error", "model_not_served", "no_audio_track"),
    *("no_worker", "outage", "outbound_failed", "permanent_error", "poisonous_input"),
    *(
        "request_error",
        "schema_missing",
        "storage_unavailable",
        "too_many_streams",
        "too_many_uploads",
    ),
    *("too_many_webhooks", "transcript_deleted", "transcript_not_ready", "transient_error"),
    *("forbidden_url", "truncated_media", "unknown_format", "unknown_host", "unknown_model"),
    *("unreadable_media", "too_many_tests", "large_file"),
    *("unsupported_language", "unsupported_media_type", "unsupported_option", "upload_stalled"),
    *("issuer_unavailable", "key_not_found", "scope_missing", "tenant_exists"),
    *("tenant_not_found", "unauthenticated", "unsafe_setting"),
    *("limit_reached", "rate_limited", "too_many_jobs", "too_much_audio", "too_many_at_once"),
    *("queue_full", "live_busy", "speaker_not_found", "speakers_unavailable"),
    *("address_forbidden", "batch_not_found", "fetch_error", "fetch_failed", "fetch_too_slow"),
    *("file_not_at_url", "idempotency_key_in_use", "idempotency_key_reused", "misnamed_field"),
    *("too_many_redirects", "url_access_denied", "url_refused", "web_page_at_url"),
    *("upload_too_large", "webhook_not_found", "worker_stopping"),
    *("upload_not_found", "upload_incomplete", "digest_mismatch", "too_many_open_uploads"),
    "invalid_setting",
    *("audio_deleted", "audio_not_fetched", "not_acceptable", "range_not_satisfiable"),
    *("tus_version", "offset_mismatch", "checksum_unknown", "checksum_mismatch"),
}


def codes(error: type[LonghandError]) -> Iterator[str]:
    if error.__module__.startswith("shared.infra.errors."):
        yield error.code
        for kind in error.__subclasses__():
            yield from codes(kind)


def test_the_codes_that_clients_know_stay_as_they_are() -> None:
    assert set(codes(LonghandError)) == CODES


def test_a_commit_of_unknown_outcome_is_told_as_a_database_that_is_away() -> None:
    assert CommitUncertain.code == "database_unavailable"
