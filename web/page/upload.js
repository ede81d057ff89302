// Files become jobs: sent by tus, so that an upload goes on after a lost connection, a restart of the server or a reload
// of the page. A browser forgets files when a page is reloaded: they are chosen again, and go on where they were cut.

import { useEffect, useRef, useState } from "preact/hooks";
import { signal } from "signals";
import { csrf, request } from "./api.js";
import { text } from "./strings.js";
import { current, discard, fileOf, kept as recordings, look, record } from "./recordings.js";
import { announce, ask, clock, html, Progress, size, useSignal, When } from "./ui.js";

const PIECE_BYTES = 16 * 1024 * 1024; // whole parts of the object store, and below the limits of usual proxies
const RETRIES_MS = [0, 1000, 2000, 4000, 8000, 15000, 30000, 30000];
const AT_ONCE = 2;
const KEPT = "longhand.uploads"; // in localStorage: options of uploads that are not done, by the files' fingerprints

function readKept() {
  try {
    return JSON.parse(localStorage.getItem(KEPT) ?? "{}");
  } catch {
    return {}; // a browser that keeps nothing, or somebody has written there
  }
}

const fingerprint = (file) => ["longhand", file.name, file.size, file.lastModified].join("|");

function keep(key, value) {
  const { [key]: _, ...rest } = readKept();
  try {
    localStorage.setItem(KEPT, JSON.stringify(value ? { ...rest, [key]: value } : rest));
  } catch {
    // It goes on without: only a reload costs its options.
  }
}

let loaded = null;
const loadTus = () => (loaded ??= import("./vendor/tus.js").then( // a script that sets a global
  () => window.tus, (error) => { loaded = null; throw error; },
));

class Transfer {
  constructor(file, options, onJob, onDone) {
    Object.assign(this, { file, onJob, onDone, key: fingerprint(file) });
    const begun = readKept()[this.key]?.options;
    this.options = begun ? { ...begun, ...(begun.webhook_url && { webhook_secret: options.webhook_secret }) } : options;
    this.progress = signal({ state: "waiting", sent: 0, problem: "" });
    this.done = new Promise((resolve) => (this.resolve = resolve));
  }

  set(changes) {
    this.progress.value = { ...this.progress.value, ...changes };
  }

  async start() {
    this.set({ state: "sending", problem: "" });
    const { webhook_secret: _, ...options } = this.options; // a secret is not for localStorage
    keep(this.key, { name: this.file.name, size: this.file.size, options });
    try {
      const tus = await loadTus();
      if (this.progress.value.state !== "sending") return; // it was canceled meanwhile
      await new Promise((resolve, reject) => {
        this.upload = new tus.Upload(this.file, {
          endpoint: "/uploads/tus",
          chunkSize: PIECE_BYTES,
          retryDelays: RETRIES_MS,
          metadata: { filename: this.file.name },
          onBeforeRequest: (sent) => Object.entries(csrf()).forEach(([name, value]) => sent.setHeader(name, value)),
          fingerprint: async () => this.key,
          removeFingerprintOnSuccess: true,
          onProgress: (sent) => this.set({ sent }),
          onSuccess: resolve,
          onError: reject,
        });
        this.upload.findPreviousUploads().then(([previous]) => {
          if (previous) this.upload.resumeFromPreviousUpload(previous);
          this.upload.start();
        }, reject);
      });
      const upload = this.upload.url.split("/").pop();
      // The key makes one job of it, also when the answer was lost and the file is chosen again.
      const job = await request("/jobs", {
        method: "POST", json: { upload_id: upload, ...this.options }, headers: { "Idempotency-Key": `page-${upload}` },
      });
      keep(this.key, null);
      await this.onDone?.().catch(() => {}); // a recording that stays is offered again
      this.set({ state: "done" });
      this.onJob(job);
    } catch (error) {
      this.set({ state: "failed", problem: explain(error) });
      announce(text.uploadFailed(this.file.name));
    }
    this.resolve();
  }

  async abort() {
    keep(this.key, null);
    this.set({ state: "done" });
    await this.upload?.abort(true).catch(() => {});
    this.resolve();
  }
}

function explain(error) {
  try {
    return JSON.parse(error.originalResponse.getBody()).detail;
  } catch {
    return error.problem ? error.message : text.noAnswer;
  }
}

const transfers = signal([]); // they go on while other views are shown
let nSending = 0;

async function sendNext() {
  const next = transfers.value.find(({ progress }) => progress.value.state === "waiting");
  if (!next || nSending >= AT_ONCE) return;
  nSending += 1;
  next.start();
  sendNext();
  await next.done;
  nSending -= 1;
  if (next.progress.value.state === "done") transfers.value = transfers.value.filter((each) => each !== next);
  sendNext();
}

// onDone, which is async, is called when the job of a file is there.
export function send(files, options, onJob, onDone) {
  const known = new Set(transfers.value.filter(({ progress }) => progress.value.state !== "failed").map(({ key }) => key));
  const added = [...files].map((file) => new Transfer(file, options, onJob, onDone)).filter(({ key }) => !known.has(key));
  const keys = new Set(added.map(({ key }) => key));
  transfers.value = [...transfers.value.filter(({ key }) => !keys.has(key)), ...added];
  sendNext();
}

addEventListener("beforeunload", (event) => {
  if (transfers.value.some(({ progress }) => ["waiting", "sending"].includes(progress.value.state))) event.preventDefault();
});

// The options of the form that say something.
function readOptions(form) {
  const options = {};
  for (const [name, value] of new FormData(form)) if (value && name !== "file") options[name] = value === "on" ? true : value;
  return options;
}

export function Upload({ models, onJob }) {
  const form = useRef(null);
  const [isOver, setIsOver] = useState(false);
  const sending = useSignal(transfers);
  const take = (files) => send(files, readOptions(form.current), onJob);
  const sendRecording = async (recording) => send([await fileOf(recording)], readOptions(form.current), onJob, () => discard(recording.id));
  useEffect(() => {
    // A file that is dropped beside the box would replace the page.
    const over = (event) => { event.preventDefault(); setIsOver(event.type === "dragover"); };
    const drop = (event) => { over(event); if (event.dataTransfer.files.length) take(event.dataTransfer.files); };
    const events = [["dragover", over], ["dragleave", over], ["drop", drop]];
    for (const [name, handle] of events) addEventListener(name, handle);
    return () => { for (const [name, handle] of events) removeEventListener(name, handle); };
  }, []);
  return html`<section aria-label=${text.upload}>
    <form ref=${form} class=${isOver ? "drop over" : "drop"} onSubmit=${(event) => event.preventDefault()}>
      <p><label class="button primary" for="file">${text.choose}</label>
        <input id="file" name="file" type="file" multiple accept="audio/*,video/*" class="hidden"
          onChange=${(event) => { take(event.target.files); event.target.value = ""; }} />
        <${Record} onRecorded=${sendRecording} /> <span class="quiet">${text.orDrop}</span></p>
      <details><summary>${text.options}</summary><div class="options">
        <label>${text.model} <select name="model"><option value="">${text.auto}</option>
          ${models.map(({ id, state }) => html`<option value=${id}>${id}${state === "absent" ? ` (${text.noWorker})` : ""}</option>`)}</select></label>
        <label>${text.language} <input name="language" placeholder=${text.detect} autocomplete="off" /></label>
        <label class="wide">${text.prompt} <input name="prompt" autocomplete="off" /></label>
        <label class="wide">${text.hotwords} <input name="hotwords" autocomplete="off" /></label>
        <label>${text.webhookUrl} <input name="webhook_url" type="url" placeholder="https://" autocomplete="off" /></label>
        <label>${text.webhookSecret} <input name="webhook_secret" type="password" placeholder="whsec_…" autocomplete="off" /></label>
        <div class="wide checks">
          <label><input type="checkbox" name="speakers" /> ${text.tellSpeakers}</label>
          <label><input type="checkbox" name="numerals" /> ${text.numerals}</label>
          <label><input type="checkbox" name="multichannel" /> ${text.multichannel}</label>
          <label><input type="checkbox" name="task" value="translate" /> ${text.translate}</label>
        </div>
      </div></details>
    </form>
    <${Kept} sending=${sending} onSend=${sendRecording} />
    <${Unfinished} sending=${sending} />
    ${sending.length > 0 && html`<ul class="jobs" aria-label=${text.uploads}>${sending.map((each) => html`<${Sending} key=${each.key} transfer=${each} />`)}</ul>`}
  </section>`;
}

function Sending({ transfer }) {
  const { file } = transfer;
  const { state, sent, problem } = useSignal(transfer.progress);
  const percent = file.size ? (100 * sent) / file.size : 100;
  return html`<li class="job">
    <div class="name"><span>${file.name}</span><span class="quiet">${size(sent)} / ${size(file.size)}</span></div>
    <div class="state"><${Progress} percent=${percent} label=${text.uploadOf(file.name)} />
      <span class="quiet numbers">${Math.floor(percent)} %</span>
      ${problem && html`<span role="alert" class="problem">${problem}</span>`}</div>
    <div class="actions">
      ${state === "failed" && html`<button aria-label=${`${text.retry}: ${file.name}`} onClick=${() => send([file], transfer.options, transfer.onJob, transfer.onDone)}>${text.retry}</button>`}
      <button aria-label=${`${text.cancel}: ${file.name}`} onClick=${() => {
        transfer.abort();
        transfers.value = transfers.value.filter((each) => each !== transfer);
      }}>${text.cancel}</button>
    </div>
  </li>`;
}

// The button that begins a recording, and ends it.
function Record({ onRecorded }) {
  const recorder = useSignal(current);
  const [isAsking, setAsking] = useState(false);
  const begin = async () => {
    setAsking(true);
    try {
      await record();
    } catch (error) {
      announce(text.noMicrophone(error.message));
    }
    setAsking(false);
  };
  const end = async () => {
    await onRecorded(await recorder.stop());
    await look();
  };
  if (!recorder) return html`<button disabled=${isAsking} onClick=${begin}>${text.record}</button>`;
  return html`<button class="danger" onClick=${end}>${text.endRecording} <${Elapsed} since=${recorder.recording.startedAt} /></button>`;
}

// How long something has lasted, told anew each second.
export function Elapsed({ since }) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  return html`<span class="numbers">${clock((now - since) / 1000)}</span>`;
}

// Recordings that are kept in the browser and not uploaded.
function Kept({ sending, onSend }) {
  const all = useSignal(recordings);
  useEffect(() => { look(); }, []);
  const names = new Set(sending.map(({ file }) => file.name));
  const waiting = all.filter(({ name }) => !names.has(name));
  if (!waiting.length) return null;
  const save = async (recording) => {
    const url = URL.createObjectURL(await fileOf(recording));
    Object.assign(document.createElement("a"), { href: url, download: recording.name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60000); // browsers give no sign that they have it
  };
  const drop = async (recording) => (await ask(text.confirmDiscard(recording.name), text.discard)) && discard(recording.id);
  const named = (verb, recording, act) => html`<button aria-label=${`${verb}: ${recording.name}`} onClick=${() => act(recording)}>${verb}</button>`;
  return html`<section class="notice" aria-label=${text.recordings}><p>${text.recordingsKept}</p>
    <ul>${waiting.map((recording) => html`<li key=${recording.id}><span>${recording.name}</span>
      <span class="actions">${named(text.uploadIt, recording, onSend)}${named(text.download, recording, save)}${named(text.discard, recording, drop)}</span></li>`)}</ul>
  </section>`;
}

// Uploads that a reload has cut: their files are to be chosen again.
function Unfinished({ sending }) {
  const [, update] = useState(0);
  const ours = useSignal(recordings); // which need not be chosen
  const known = new Set(sending.map(({ key }) => key));
  const names = new Set(ours.map(({ name }) => name));
  const cut = Object.entries(readKept()).filter(([key, { name }]) => !known.has(key) && !names.has(name));
  if (!cut.length) return null;
  return html`<ul class="notice">${cut.map(([key, { name }]) => html`<li><span>${text.unfinished(name)}</span>
    <button aria-label=${`${text.forget}: ${name}`} onClick=${() => { keep(key, null); update((count) => count + 1); }}>${text.forget}</button></li>`)}</ul>`;
}
