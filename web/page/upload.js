// Files become jobs: sent by tus, so that an upload goes on after a lost connection, a restart of the server or a reload
// of the page. A browser forgets files when a page is reloaded: they are chosen again, and go on where they were cut.

import { useEffect, useRef, useState } from "preact/hooks";
import { signal } from "signals";
import { csrf, request } from "./api.js";
import { text } from "./strings.js";
import { announce, html, Progress, size, useSignal } from "./ui.js";

const PIECE_BYTES = 16 * 1024 * 1024; // whole parts of the object store, and below the limits of usual proxies
const RETRIES_MS = [0, 1000, 2000, 4000, 8000, 15000, 30000, 30000];
const AT_ONCE = 2;
const KEPT = "longhand.uploads"; // in localStorage: options of uploads that are not done, by the files' fingerprints

const readKept = () => JSON.parse(localStorage.getItem(KEPT) ?? "{}");
const fingerprint = (file) => ["longhand", file.name, file.size, file.lastModified].join("|");

function keep(key, value) {
  const { [key]: _, ...rest } = readKept();
  localStorage.setItem(KEPT, JSON.stringify(value ? { ...rest, [key]: value } : rest));
}

let loaded = null;
const loadTus = () => (loaded ??= import("./vendor/tus.js").then(() => window.tus)); // a script that sets a global

class Transfer {
  constructor(file, options, onJob) {
    Object.assign(this, { file, onJob, key: fingerprint(file) });
    this.options = readKept()[this.key]?.options ?? options;
    this.progress = signal({ state: "waiting", sent: 0, problem: "" });
    this.done = new Promise((resolve) => (this.resolve = resolve));
  }

  set(changes) {
    this.progress.value = { ...this.progress.value, ...changes };
  }

  async start() {
    this.set({ state: "sending", problem: "" });
    keep(this.key, { name: this.file.name, size: this.file.size, options: this.options });
    try {
      const tus = await loadTus();
      await new Promise((resolve, reject) => {
        this.upload = new tus.Upload(this.file, {
          endpoint: "/uploads/tus",
          chunkSize: PIECE_BYTES,
          retryDelays: RETRIES_MS,
          metadata: { filename: this.file.name },
          headers: csrf(),
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

export function send(files, options, onJob) {
  const known = new Set(transfers.value.filter(({ progress }) => progress.value.state !== "failed").map(({ key }) => key));
  const added = [...files].map((file) => new Transfer(file, options, onJob)).filter(({ key }) => !known.has(key));
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
          onChange=${(event) => { take(event.target.files); event.target.value = ""; }} /> ${text.orDrop}</p>
      <details><summary>${text.options}</summary><div class="options">
        <label>${text.model} <select name="model"><option value="">${text.auto}</option>
          ${models.map(({ id, state }) => html`<option value=${id}>${id}${state === "absent" ? ` (${text.noWorker})` : ""}</option>`)}</select></label>
        <label>${text.language} <input name="language" placeholder=${text.detect} autocomplete="off" /></label>
        <label class="wide">${text.prompt} <input name="prompt" autocomplete="off" /></label>
        <label class="wide">${text.hotwords} <input name="hotwords" autocomplete="off" /></label>
        <label><input type="checkbox" name="numerals" /> ${text.numerals}</label>
        <label><input type="checkbox" name="multichannel" /> ${text.multichannel}</label>
        <label><input type="checkbox" name="task" value="translate" /> ${text.translate}</label>
      </div></details>
    </form>
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
      ${state === "failed" && html`<button aria-label=${`${text.retry}: ${file.name}`} onClick=${() => send([file], transfer.options, transfer.onJob)}>${text.retry}</button>`}
      <button aria-label=${`${text.cancel}: ${file.name}`} onClick=${() => {
        transfer.abort();
        transfers.value = transfers.value.filter((each) => each !== transfer);
      }}>${text.cancel}</button>
    </div>
  </li>`;
}

// Uploads that a reload has cut: their files are to be chosen again.
function Unfinished({ sending }) {
  const [, look] = useState(0);
  const known = new Set(sending.map(({ key }) => key));
  const cut = Object.entries(readKept()).filter(([key]) => !known.has(key));
  if (!cut.length) return null;
  return html`<ul class="unfinished">${cut.map(([key, { name }]) => html`<li>${text.unfinished(name)}
    <button aria-label=${`${text.forget}: ${name}`} onClick=${() => { keep(key, null); look((count) => count + 1); }}>${text.forget}</button></li>`)}</ul>`;
}
