// Files become jobs: sent by tus, so that an upload goes on after a lost connection, a restart of the server or a reload
// of the page. A browser forgets files when a page is reloaded: they are chosen again, and go on where they were cut.

import { signal } from "signals";
import { csrf, request } from "./api.js";
import { text } from "./strings.js";
import { announce } from "./ui.js";

const PIECE_BYTES = 16 * 1024 * 1024; // whole parts of the object store, and below the limits of usual proxies
const RETRIES_MS = [0, 1000, 2000, 4000, 8000, 15000, 30000, 30000];
const AT_ONCE = 2;
const KEPT = "longhand.uploads"; // in localStorage: options of uploads that are not done, by the files' fingerprints

export function readKept() {
  try {
    return JSON.parse(localStorage.getItem(KEPT) ?? "{}");
  } catch {
    return {}; // a browser that keeps nothing, or somebody has written there
  }
}

const fingerprint = (file) => ["longhand", file.name, file.size, file.lastModified].join("|");

export function keep(key, value) {
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

export const transfers = signal([]); // they go on while other views are shown
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
