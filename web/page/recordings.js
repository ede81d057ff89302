// Recordings from the microphone. What comes from it goes into the browser's database (IndexedDB) at once, piece by piece,
// so a tab that is closed, an upload that is refused, or a browser that crashes costs the last second at most.

import { signal } from "signals";
import { text } from "./strings.js";
import { announce } from "./ui.js";

const PIECE_MS = 1000;
const TYPES = { "audio/webm;codecs=opus": "webm", "audio/ogg;codecs=opus": "ogg", "audio/mp4": "m4a" }; // the first that is known

export const current = signal(null); // the Recorder of this tab
export const kept = signal([]); // recordings in the database that no tab records, the newest first

const answered = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

let opened = null;
function database() {
  return (opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open("longhand", 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("recordings", { keyPath: "id" }); // id, name, mime, startedAt
      request.result.createObjectStore("pieces", { keyPath: ["recording", "n"] }); // and their bytes
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => { opened = null; reject(request.error); };
  }));
}

// Does something in one transaction; it has been written to the disk when this resolves.
async function transact(mode, act) {
  const transaction = (await database()).transaction(["recordings", "pieces"], mode, { durability: "strict" });
  const done = new Promise((resolve, reject) => {
    transaction.oncomplete = resolve;
    transaction.onabort = () => reject(transaction.error);
  });
  const result = await act(transaction.objectStore("recordings"), transaction.objectStore("pieces"));
  await done;
  return result;
}

const piecesOf = (id) => IDBKeyRange.bound([id, 0], [id, Infinity]);
const lockOf = (id) => `longhand.recording.${id}`;

// Looks which recordings are kept. One that a tab is recording, which holds a lock until it ends or is closed, is not told.
export async function look() {
  try {
    const { held } = await navigator.locks.query(); // a recording that begins after this has no pieces yet
    const all = await transact("readonly", (recordings) => answered(recordings.getAll()));
    const live = new Set(held.map(({ name }) => name));
    const ended = all.filter(({ id }) => !live.has(lockOf(id)));
    const counts = await transact("readonly", (_, pieces) => Promise.all(ended.map(({ id }) => answered(pieces.count(piecesOf(id))))));
    kept.value = ended.filter((_, n) => counts[n] > 0).sort((one, other) => other.startedAt - one.startedAt);
  } catch {
    kept.value = []; // a browser that keeps nothing
  }
}

// A recording as a file, which has the same fingerprint whenever it is made: so its upload goes on where it was cut.
export async function fileOf({ id, name, mime, startedAt }) {
  const pieces = await transact("readonly", (_, store) => answered(store.getAll(piecesOf(id))));
  return new File(pieces.map(({ bytes }) => bytes), name, { type: mime, lastModified: startedAt });
}

export async function discard(id) {
  await transact("readwrite", (recordings, pieces) => Promise.all([answered(recordings.delete(id)), answered(pieces.delete(piecesOf(id)))]));
  await look();
}

class Recorder {
  constructor(recording, stream, recorder) {
    Object.assign(this, { recording, stream, recorder, n: 0, writing: Promise.resolve() });
    this.stopped = new Promise((resolve) => (this.free = resolve));
    this.over = new Promise((resolve) => {
      recorder.addEventListener("stop", async () => { await this.writing; resolve(); });
    });
    recorder.addEventListener("dataavailable", ({ data }) => { this.writing = this.writing.then(() => this.write(data)); });
    stream.getTracks()[0].addEventListener("ended", () => this.stop()); // the microphone was unplugged
    navigator.locks.request(lockOf(recording.id), () => this.stopped);
    recorder.start(PIECE_MS);
  }

  async write(data) {
    if (!data.size) return;
    try {
      const bytes = await data.arrayBuffer();
      await transact("readwrite", (_, pieces) => answered(pieces.put({ recording: this.recording.id, n: this.n++, bytes })));
    } catch {
      announce(text.recordingFull);
      this.stop();
    }
  }

  // Ends it; resolves to the recording once all of it is kept.
  async stop() {
    if (this.recorder.state !== "inactive") this.recorder.stop();
    await this.over;
    this.stream.getTracks().forEach((track) => track.stop());
    this.free();
    if (current.value === this) current.value = null;
    return this.recording;
  }
}

// Begins to record. Throws what getUserMedia throws, and what a browser without a database does.
export async function record() {
  if (!navigator.mediaDevices || !window.MediaRecorder) throw new Error(text.recordingUnsafe);
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  try {
    const mime = Object.keys(TYPES).find((type) => MediaRecorder.isTypeSupported(type));
    const recorder = new MediaRecorder(stream, mime ? { mimeType: mime } : {});
    const startedAt = Date.now();
    const local = new Date(startedAt - new Date(startedAt).getTimezoneOffset() * 60000).toISOString().slice(0, 19).replace("T", " ").replaceAll(":", ".");
    const recording = { id: crypto.randomUUID(), name: `${text.recording} ${local}.${TYPES[mime] ?? "webm"}`, mime: recorder.mimeType || mime || "audio/webm", startedAt };
    await transact("readwrite", (recordings) => answered(recordings.put(recording)));
    navigator.storage?.persist?.().catch(() => {}); // browsers may drop what they keep when the disk is full
    current.value = new Recorder(recording, stream, recorder);
  } catch (error) {
    stream.getTracks().forEach((track) => track.stop());
    throw error;
  }
}

addEventListener("beforeunload", (event) => { if (current.value) event.preventDefault(); });
