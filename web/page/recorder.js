// The button that records, and the recordings that wait in the browser.

import { useEffect, useState } from "preact/hooks";
import { current, discard, fileOf, kept as recordings, look, record } from "./recordings.js";
import { text } from "./strings.js";
import { announce, ask, clock, html, useSignal } from "./ui.js";

// The button that begins a recording, and ends it.
export function Record({ onRecorded }) {
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
export function Kept({ sending, onSend }) {
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
