from pathlib import Path
import pytest
from jobstore import add_job, claim, claim_step, prepare, step_ids, transcribe
from equaljobs import compute, submit
from pagejobs import add_transcribed, sound, spoken
from pagetabs import PHONE, WIDE, opened
from playwright.sync_api import expect
from registry import enter_worker
from sqlalchemy import text
from webhookstore import add_hook
from shared.infra.errors import UnreadableMedia
from shared.store import steps
from shared.store.share_links import create_share_link
from apiserver import api
from shared.store.accounts.keys import create_key
from shared.store.accounts.scopes import ALL_SCOPES

OUT = Path("/tmp/scratch-page/shots")


def test_shots(browser, client, database, storage, settings):
    OUT.mkdir(parents=True, exist_ok=True)
    add_hook(database, "https://hooks.example/longhand/receiver/of/ends")
    job = add_transcribed(database, storage, spoken("It is a truth universally acknowledged,", "that a single man in possession of a good fortune, must be in want of a wife.", *["However little known the feelings or views of such a man may be on his first entering a neighbourhood,"] * 6), sound())
    with database.begin() as c:
        c.execute(text("""UPDATE transcript_segments SET document = jsonb_set(jsonb_set(document, '{speaker}', to_jsonb(idx % 2)), '{words,1,overlap}', 'true') WHERE transcript_id = :id"""), {"id": job})
    models = ["oracle", "whisper-tiny"]
    for n in range(40):
        j = add_job(database) if False else None
    with database.begin() as c:
        for d in range(1, 28):
            for m, base in (("oracle", 0.04), ("whisper-tiny", 0.11)):
                c.execute(text("""INSERT INTO jobs SELECT (jsonb_populate_record(NULL::jobs, to_jsonb(j) || jsonb_build_object(
                  'id', gen_random_uuid(), 'model', CAST(:m AS text), 'first_event', nextval('event_ids'), 'last_event', nextval('event_ids'), 'reference', 'x',
                  'finished_at', now() - make_interval(days => :d), 'transcript_id', NULL, 'accuracy', jsonb_build_object('words', 100, 'word_errors', CAST(:e AS int), 'characters', 500, 'character_errors', CAST(:e AS int), 'wer', 0, 'cer', 0)))).* FROM jobs j WHERE id = :id"""), {"m": m, "d": d, "e": int(100*base + (d*7) % 5), "id": job}) if False else None
    failed, running = add_job(database), add_job(database)
    steps.fail(database, claim(database, failed, "prepare"), UnreadableMedia("this is no audio: no decoder understands the file"))
    owner = enter_worker(database, "model", "oracle")
    enter_worker(database, "cpu"); enter_worker(database, "deliver"); enter_worker(database, "beat")
    prepare(database, running, 2)
    (step, other) = step_ids(database, running, "transcribe")
    claim_step(database, step, owner=owner)
    with database.begin() as c:
        c.execute(text("UPDATE workers SET drained = true, state='drained' WHERE id = 'cpu-None'"))
    _, token = create_share_link(database, "default", job)
    _, key = create_key(database, "default", "a person", ALL_SCOPES)
    for size, s in ((WIDE, "wide"), (PHONE, "phone")):
        with opened(browser, str(client.base_url), size) as tab:
            page = tab.page
            def shot(name):
                for scheme in ("light", "dark"):
                    page.emulate_media(color_scheme=scheme)
                    page.screenshot(path=OUT / f"{name}-{s}-{scheme}.png", full_page=name != "dialog")
            page = tab.open("/")
            page.get_by_text("Options").click()
            expect(page.get_by_role("listitem")).to_have_count(3)
            shot("jobs")
            tab.assert_accessible()
            tab.open(f"/jobs/{job}")
            expect(page.get_by_role("article")).to_contain_text("truth")
            page.get_by_role("button", name="Mark unsure words").click()
            shot("reader"); tab.assert_accessible()
            page.get_by_role("button", name="Share").click()
            page.get_by_role("button", name="Make a link").click()
            expect(page.get_by_label("Link", exact=True)).to_be_visible()
            shot("dialog"); tab.assert_accessible()
            tab.open("/fleet"); expect(page.get_by_text("oracle").first).to_be_visible(); expect(page.get_by_text("hooks.example").first).to_be_visible()
            shot("fleet"); tab.assert_accessible()
            tab.open("/search?q=truth"); expect(page.get_by_text("austen").first).to_be_visible(); shot("search"); tab.assert_accessible()
            page.goto(f"{tab.url}/s#{token}"); expect(page.get_by_role("article")).to_contain_text("truth"); shot("shared"); tab.assert_accessible()
            page.goto(f"{tab.url}/s#wrong"); page.reload(); expect(page.get_by_role("alert")).to_be_visible(); shot("shared-gone"); tab.troubles.clear()
            page.goto(f"{tab.url}/live"); shot("live"); tab.assert_accessible()
    with api(settings.model_copy(update={"auth": "on"})) as locked:
        for size, s in ((WIDE, "wide"), (PHONE, "phone")):
            with opened(browser, str(locked.base_url), size) as tab:
                page = tab.open("/"); expect(page.get_by_label("API key")).to_be_visible()
                for scheme in ("light", "dark"):
                    page.emulate_media(color_scheme=scheme); page.screenshot(path=OUT / f"login-{s}-{scheme}.png")
                tab.assert_accessible()
