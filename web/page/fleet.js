// Who works here and at what; the backlog of each model; error rates; all read again every few seconds.

import { useEffect, useState } from "preact/hooks";
import { may, request } from "./api.js";
import { text } from "./strings.js";
import { announce, ask, html, span } from "./ui.js";

const EVERY_MS = 3000;

export function Fleet() {
  const [fleet, setFleet] = useState(null);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    let timer = null;
    let isOver = false;
    const read = async () => {
      try {
        const [{ workers, backlog }, { models }, accuracy] = await Promise.all(["/workers", "/models", "/accuracy/stats"].map((path) => request(path)));
        if (!isOver) setFleet({ workers, backlog, models, accuracy: accuracy.models });
        setProblem("");
      } catch (error) {
        setProblem(error.message);
      }
      if (!isOver) timer = setTimeout(read, EVERY_MS);
    };
    read();
    return () => { isOver = true; clearTimeout(timer); };
  }, []);
  if (!fleet) return html`<p class="quiet" role="status">${problem || text.loading}</p>`;
  const served = fleet.models.filter(({ state }) => state !== "absent");
  return html`
    <h1>${text.fleet}</h1>
    ${problem && html`<p role="alert" class="problem">${problem}</p>`}
    <${Table} title=${text.workers} none=${text.noWorkers} heads=${text.workerHeads} rows=${fleet.workers.map(workerRow)} />
    <${Table} title=${text.backlog} none=${text.noBacklog} heads=${text.backlogHeads}
      rows=${fleet.backlog.map(({ model, jobs, audio_s: audio }) => [model, jobs, span(audio)])} />
    <${Table} title=${text.served} none=${text.noneServed} heads=${text.servedHeads}
      rows=${served.map(({ id, state, engine }) => [id, text.modelStates[state] ?? state, engine])} />
    <${Table} title=${text.accuracy} none=${text.noAccuracy} heads=${text.accuracyHeads}
      rows=${fleet.accuracy.map(({ model, language, wer, cer, jobs }) => [model, language ?? "–", percent(wer), percent(cer), jobs])} />`;
}

const percent = (rate) => (rate == null ? "–" : `${(100 * rate).toFixed(1)} %`);

function workerRow(worker) {
  const steps = worker.steps.map((step) => html`<div>${step.kind} ${step.idx}, <a href=${`#/jobs/${step.job_id}`}>${text.job}</a>${
    may("jobs:write") && html` <button aria-label=${`${text.cancel}: ${step.job_id}`} onClick=${() => cancel(step.job_id)}>${text.cancel}</button>`}</div>`);
  const others = worker.other_steps ? html`<div class="quiet">${text.otherSteps(worker.other_steps)}</div>` : null;
  const failing = worker.failing.map((why) => html`<div class="problem">${why}</div>`);
  return [
    html`${worker.role}<div class="quiet">${worker.id}</div>`, worker.model ?? "–", html`${worker.state}${failing}`, worker.device,
    steps.length || others ? [...steps, others] : text.idle,
  ];
}

async function cancel(id) {
  if (!(await ask(text.confirmCancel, text.cancelJob))) return;
  await request(`/jobs/${id}/cancel`, { method: "POST" }).catch((error) => announce(error.message));
}

function Table({ title, heads, rows, none }) {
  return html`<section class="table" tabindex=${rows.length ? 0 : null} aria-label=${title}><h2>${title}</h2>
    ${rows.length ? html`<table><thead><tr>${heads.map((head) => html`<th scope="col">${head}</th>`)}</tr></thead>
      <tbody>${rows.map((cells) => html`<tr>${cells.map((cell) => html`<td>${cell}</td>`)}</tr>`)}</tbody></table>`
    : html`<p class="quiet">${none}</p>`}</section>`;
}
