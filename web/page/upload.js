// The form that takes files and recordings, and the uploads that are under way.

import { useEffect, useRef, useState } from "preact/hooks";
import { Kept, Record } from "./recorder.js";
import { discard, fileOf, kept as recordings } from "./recordings.js";
import { text } from "./strings.js";
import { keep, readKept, send, transfers } from "./transfers.js";
import { html, Progress, size, useSignal } from "./ui.js";

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
