// The list of jobs: what is under way follows the API's events, older ones come page by page.

import { useEffect, useState } from "preact/hooks";
import { signal } from "signals";
import { follow, may, request } from "./api.js";
import { text } from "./strings.js";
import { announce, ask, clock, html, Progress, size, span, useSignal, When } from "./ui.js";
import { Upload } from "./upload.js";

const PAGE = 25;
// So many jobs come while the page is open before it shows the newest ones alone again: a tab may be open for weeks, and of
// more at once the API's events tell the newest 100 only.
const MOST_ARRIVED = 100;
const STATES = ["queued", "running", "succeeded", "failed", "canceled"];

const isActive = (job) => job.state === "queued" || job.state === "running";

const newestFirst = (one, other) => other.created_at.localeCompare(one.created_at);

class JobList {
  constructor() {
    this.jobs = signal([]); // newest first
    this.status = signal({ isLoading: true, isLost: false, problem: "", cursor: null });
    this.filters = {};
    this.nArrived = 0;
  }

  set(changes) {
    this.status.value = { ...this.status.value, ...changes };
  }

  query(cursor) {
    const query = new URLSearchParams({ limit: PAGE });
    for (const [name, value] of Object.entries(this.filters)) if (value) query.set(name, value);
    if (cursor) query.set("cursor", cursor);
    return query;
  }

  // Reads the newest page. What is shown stays below it, unless there may be jobs in between.
  async refresh(filters = this.filters) {
    const isAnew = filters !== this.filters;
    this.filters = filters;
    try {
      const page = await request(`/jobs?${this.query()}`);
      if (filters !== this.filters) return;
      const found = new Set(page.jobs.map((job) => job.id));
      const isJoined = !isAnew && page.next_cursor && this.jobs.value.some((job) => found.has(job.id));
      const older = isJoined ? this.jobs.value.filter((job) => newestFirst(job, page.jobs.at(-1)) > 0) : [];
      this.jobs.value = [...page.jobs, ...older];
      this.set({ isLoading: false, problem: "", ...(older.length ? {} : { cursor: page.next_cursor }) });
    } catch (error) {
      this.set({ isLoading: false, problem: error.message });
    }
  }

  async more() {
    const page = await request(`/jobs?${this.query(this.status.value.cursor)}`).catch((error) => this.set({ problem: error.message }));
    if (!page) return;
    const known = new Set(page.jobs.map((job) => job.id));
    this.jobs.value = [...this.jobs.value.filter((job) => !known.has(job.id)), ...page.jobs];
    this.set({ cursor: page.next_cursor, problem: "" });
  }

  isWanted(job) {
    const { state, model, language } = this.filters;
    return (!state || job.state === state) && (!model || job.model === model) &&
      (!language || (job.detected_language ?? job.language) === language);
  }

  // Whether a job's place is in the pages that are shown.
  isShown(job) {
    const { isLoading, cursor } = this.status.value;
    return !isLoading && (!cursor || newestFirst(job, this.jobs.value.at(-1)) < 0);
  }

  // Takes a job as it is now.
  update(job) {
    const jobs = this.jobs.value;
    const before = jobs.find((each) => each.id === job.id);
    if (before && before.state !== job.state && !isActive(job)) announce(text.ended(job.source.name, text.states[job.state]));
    if (before) this.jobs.value = jobs.map((each) => (each.id === job.id ? job : each));
    else if (this.isWanted(job) && this.isShown(job)) {
      this.jobs.value = [job, ...jobs].sort(newestFirst);
      this.nArrived += 1;
      if (this.nArrived === MOST_ARRIVED) {
        this.nArrived = 0;
        this.refresh({ ...this.filters });
      }
    }
  }

  remove(id) {
    this.jobs.value = this.jobs.value.filter((job) => job.id !== id);
  }

  follow() {
    return follow("/events", { job: (job) => this.update(job), deleted: ({ id }) => this.remove(id) }, {
      onOpen: () => { this.set({ isLost: false }); this.refresh(); },
      onLost: () => this.set({ isLost: true }),
    });
  }
}

export function Jobs() {
  const [list] = useState(() => new JobList());
  const jobs = useSignal(list.jobs);
  const { isLoading, isLost, problem, cursor } = useSignal(list.status);
  const [models, setModels] = useState([]);
  useEffect(() => {
    request("/models").then(({ models: found }) => setModels(found), () => {});
    list.refresh();
    return list.follow();
  }, []);
  const filter = (event) => list.refresh(Object.fromEntries(new FormData(event.currentTarget)));
  return html`
    <h1 class="hidden">${text.jobs}</h1>
    ${may("jobs:write") && html`<${Upload} models=${models} onJob=${(job) => list.update(job)} />`}
    <form class="filters" role="search" aria-label=${text.filters} onChange=${filter} onSubmit=${(event) => event.preventDefault()}>
      <label>${text.state} <select name="state"><option value="">${text.any}</option>
        ${STATES.map((state) => html`<option value=${state}>${text.states[state]}</option>`)}</select></label>
      <label>${text.model} <select name="model"><option value="">${text.any}</option>
        ${models.map(({ id }) => html`<option>${id}</option>`)}</select></label>
      <label>${text.language} <input name="language" size="6" placeholder=${text.anyLanguage} /></label>
      <span class="quiet lost" role="status">${isLost ? text.lost : ""}</span>
    </form>
    ${problem && html`<p role="alert" class="problem">${problem}</p>`}
    ${isLoading ? html`<p class="quiet">${text.loading}</p>`
      : jobs.length ? html`<ul class="jobs">${jobs.map((job) => html`<${Job} key=${job.id} job=${job} list=${list} />`)}</ul>`
      : html`<p class="quiet">${text.noJobs}</p>`}
    ${cursor && html`<p><button onClick=${() => list.more()}>${text.more}</button></p>`}`;
}

function Job({ job, list }) {
  const { source, state } = job;
  const act = async (method, path) => {
    try {
      const answer = await request(`/jobs/${job.id}${path}`, { method });
      if (answer) list.update(answer);
      else list.remove(job.id);
    } catch (error) {
      announce(error.message);
    }
  };
  const remove = async () => (await ask(text.confirmDelete(source.name), text.delete)) && act("DELETE", "");
  const canRetry = (state === "failed" || state === "canceled") && !job.audio_deleted_at;
  const named = (verb) => ({ "aria-label": `${verb}: ${source.name}`, children: verb });
  return html`<li class="job">
    <div class="name">
      <a href=${`#/jobs/${job.id}`}>${source.name}</a>
      <span class="quiet"><${When} at=${job.created_at} />${job.duration_s != null && ` · ${clock(job.duration_s)}`}${
        source.bytes != null && ` · ${size(source.bytes)}`} · ${job.model}</span>
    </div>
    <div class="state"><${State} job=${job} /></div>
    ${may("jobs:write") && html`<div class="actions">
      ${isActive(job) && html`<button onClick=${() => act("POST", "/cancel")} ...${named(text.cancel)} />`}
      ${canRetry && html`<button onClick=${() => act("POST", "/retry")} ...${named(text.retry)} />`}
      <button onClick=${remove} ...${named(text.delete)} />
    </div>`}
  </li>`;
}

export function State({ job }) {
  const { state, progress, error, waiting_for: waiting } = job;
  if (state !== "running") {
    return html`<span class=${`badge ${state}`}>${text.states[state]}</span>
      ${(error || waiting) && html`<span class="quiet why">${error?.detail ?? waiting.detail}</span>`}`;
  }
  const { percent, eta_s: eta, stage } = progress;
  return html`<span class="badge running">${text.stages[stage] ?? stage}</span>
    <${Progress} percent=${percent} label=${text.progress} />
    <span class="quiet numbers">${percent != null && `${Math.floor(percent)} %`}${eta != null && ` · ${text.left(span(eta))}`}</span>`;
}
