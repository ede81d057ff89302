// Who works here and at what; the backlog of each model; error rates, now and over time; webhook deliveries. All is read
// again every few seconds while the view is seen.

import { may, request } from "./api.js";
import { Deliveries } from "./deliveries.js";
import { Plot } from "./plot.js";
import { text } from "./strings.js";
import { announce, ask, html, span, Table, useRead } from "./ui.js";

const EVERY_MS = 3000;
const RATES_EVERY_MS = 60_000;
const DAYS = 30;

export function Fleet() {
  const [fleet, problem, read] = useRead(async () => {
    const [{ workers, backlog, flower_url: flower }, { models }] = await Promise.all(["/workers", "/models"].map((path) => request(path)));
    return { workers, backlog, models, flower };
  }, EVERY_MS);
  if (!fleet) return html`<p class="quiet" role="status">${problem || text.loading}</p>`;
  const served = fleet.models.filter(({ state }) => state !== "absent");
  return html`
    <h1>${text.fleet}</h1>
    ${problem && html`<p role="alert" class="problem">${problem}</p>`}
    <${Table} title=${text.workers} none=${text.noWorkers} heads=${text.workerHeads}
      rows=${fleet.workers.map((worker) => workerRow(worker, fleet.flower, read))} />
    ${fleet.flower && html`<p><a href=${fleet.flower} rel="noreferrer">${text.flower}</a></p>`}
    <${Table} title=${text.backlog} none=${text.noBacklog} heads=${text.backlogHeads}
      rows=${fleet.backlog.map(({ model, jobs, audio_s: audio }) => [model, jobs, span(audio)])} />
    <${Table} title=${text.served} none=${text.noneServed} heads=${text.servedHeads}
      rows=${served.map(({ id, state, engine }) => [id, text.modelStates[state] ?? state, engine])} />
    <${Rates} />
    ${may("webhooks") && html`<${Deliveries} />`}`;
}

const percent = (rate) => (rate == null ? "–" : `${(100 * rate).toFixed(1)} %`);

// Error rates, of all jobs with a reference and by day.
function Rates() {
  const [rates, problem] = useRead(async () => {
    const [{ models }, { days }] = await Promise.all(["/accuracy/stats", `/accuracy/days?days=${DAYS}`].map((path) => request(path)));
    return { models, days };
  }, RATES_EVERY_MS);
  if (!rates) return html`<p class="quiet">${problem || text.loading}</p>`;
  return html`
    <${Table} title=${text.accuracy} none=${text.noAccuracy} heads=${text.accuracyHeads}
      rows=${rates.models.map(({ model, language, wer, cer, jobs }) => [model, language ?? "–", percent(wer), percent(cer), jobs])} />
    ${rates.days.length > 0 && html`<section class="table" aria-label=${text.accuracyDays}><h2>${text.accuracyDays}</h2>
      <p class="quiet">${text.accuracyDaysHint(DAYS)}</p>
      <${Plot} days=${rates.days.map(({ day, model, wer }) => ({ day, series: model, value: wer }))} nDays=${DAYS} />
      <details><summary>${text.asTable}</summary><${Table} label=${text.accuracyDays} heads=${text.accuracyDaysHeads}
        rows=${rates.days.map(({ day, model, wer, cer, jobs }) => [day, model, percent(wer), percent(cer), jobs]).reverse()} /></details>
    </section>`}`;
}

function workerRow(worker, flower, read) {
  const { id, role, state } = worker;
  const steps = worker.steps.map((step) => html`<div>${step.kind} ${step.idx}, <a href=${`#/jobs/${step.job_id}`}>${text.job}</a>${
    may("jobs:write") && html` <button aria-label=${`${text.cancel}: ${step.job_id}`} onClick=${() => cancel(step.job_id)}>${text.cancel}</button>`}</div>`);
  const others = worker.other_steps ? html`<div class="quiet">${text.otherSteps(worker.other_steps)}</div>` : null;
  const failing = worker.failing.map((why) => html`<div class="problem">${why}</div>`);
  const verb = state === "drained" ? "resume" : "drain";
  return [
    html`${flower ? html`<a href=${`${flower}/worker/${encodeURIComponent(id)}`} rel="noreferrer">${role}</a>` : role}<div class="quiet id">${id}</div>`,
    worker.model ?? "–", html`<span class=${`badge ${state}`}>${text.workerStates[state] ?? state}</span>${failing}`, worker.device,
    steps.length || others ? [...steps, others] : text.idle,
    may("admin") && role !== "beat" && html`<button aria-label=${`${text[verb]}: ${id}`} onClick=${() => set(id, verb, read)}>${text[verb]}</button>`,
  ];
}

async function set(id, verb, read) {
  if (verb === "drain" && !(await ask(text.confirmDrain(id), text.drain))) return;
  await request(`/workers/${encodeURIComponent(id)}/${verb}`, { method: "POST" }).then(read, (error) => announce(error.message));
}

async function cancel(id) {
  if (!(await ask(text.confirmCancel, text.cancelJob))) return;
  await request(`/jobs/${id}/cancel`, { method: "POST" }).catch((error) => announce(error.message));
}
