// Share links of a job: made, shown once, listed, revoked.

import { useEffect, useState } from "preact/hooks";
import { request } from "./api.js";
import { text } from "./strings.js";
import { announce, Dialog, html, When } from "./ui.js";

const DAYS = [1, 7, 30, 90];
const DAY_S = 86400;

export function Share({ job }) {
  const [isOpen, setOpen] = useState(false);
  return html`<button onClick=${() => setOpen(true)}>${text.share}</button>
    ${isOpen && html`<${Links} job=${job} onClose=${() => setOpen(false)} />`}`;
}

function Links({ job, onClose }) {
  const path = `/jobs/${job.id}/shares`;
  const [links, setLinks] = useState([]);
  const [made, setMade] = useState(null);
  const attempt = async (act) => {
    try {
      await act();
      setLinks((await request(path)).shares);
    } catch (error) {
      announce(error.message);
    }
  };
  useEffect(() => { attempt(() => {}); }, []);
  const make = (event) => {
    event.preventDefault();
    const days = Number(new FormData(event.target).get("days"));
    attempt(async () => setMade(await request(path, { method: "POST", json: { expires_in_s: days * DAY_S } })));
  };
  const revoke = ({ id }) => attempt(async () => {
    await request(`${path}/${id}`, { method: "DELETE" });
    if (made?.id === id) setMade(null);
  });
  const copy = () => navigator.clipboard.writeText(new URL(made.url, location).href).then(() => announce(text.copied), () => announce(text.notCopied));
  return html`<${Dialog} label="share" onClose=${onClose}>
    <h2 id="share">${text.shareTitle}</h2>
    <p class="quiet">${text.shareHint}</p>
    <form class="filters" onSubmit=${make}>
      <label>${text.validFor} <select name="days">${DAYS.map((days) => html`<option value=${days} selected=${days === 7}>${text.days(days)}</option>`)}</select></label>
      <button class="primary">${text.makeLink}</button>
    </form>
    ${made && html`<p class="link"><input readonly aria-label=${text.link} value=${new URL(made.url, location).href} onFocus=${(event) => event.target.select()} />
      <button onClick=${copy}>${text.copy}</button></p>
      <p class="quiet">${text.shownOnce}</p>`}
    ${links.length > 0 && html`<h3>${text.links}</h3><ul class="links">${links.map((link) => html`<li key=${link.id}>
      <span>${text.until} <${When} at=${link.expires_at} /> <span class="quiet">${text.made} <${When} at=${link.created_at} /></span></span>
      <button aria-label=${`${text.revoke}: ${link.expires_at}`} onClick=${() => revoke(link)}>${text.revoke}</button></li>`)}</ul>`}
    <form method="dialog" class="actions"><button>${text.close}</button></form>
  <//>`;
}
