// What was sent to webhooks lately, and what became of it; what has failed can be sent again.

import { useState } from "preact/hooks";
import { request } from "./api.js";
import { text } from "./strings.js";
import { announce, html, Table, useRead, When } from "./ui.js";

const EVERY_MS = 10_000;
const MOST = 20;

export function Deliveries() {
  const [isFailedOnly, setFailedOnly] = useState(false);
  const [page, problem, read] = useRead(() => request(`/webhooks/deliveries?limit=${MOST}${isFailedOnly ? "&state=failed" : ""}`), EVERY_MS, [isFailedOnly]);
  const replay = ({ id }) => request(`/webhooks/deliveries/${id}/replay`, { method: "POST" })
    .then(() => { announce(text.replayed); read(); }, (error) => announce(error.message));
  if (!page) return html`<p class="quiet">${problem || text.loading}</p>`;
  return html`<${Table} title=${text.deliveries} none=${text.noDeliveries} heads=${text.deliveryHeads}
    rows=${page.deliveries.map((delivery) => rowOf(delivery, replay))}>
    <p><label><input type="checkbox" checked=${isFailedOnly} onChange=${(event) => setFailedOnly(event.target.checked)} /> ${text.failedOnly}</label></p>
  <//>`;
}

function rowOf(delivery, replay) {
  const { id, state, event, url, error, attempts, job_id: job, created_at: created } = delivery;
  return [
    job ? html`<a href=${`#/jobs/${job}`}>${event.type}</a>` : event.type, html`<span class="id">${url}</span>`,
    html`<span class=${`badge ${state}`}>${text.deliveryStates[state] ?? state}</span>${error && html`<div class="quiet">${error}</div>`}`,
    attempts.length, html`<${When} at=${created} />`,
    state === "failed" && html`<button aria-label=${`${text.replay}: ${id}`} onClick=${() => replay(delivery)}>${text.replay}</button>`,
  ];
}
