// What a share link opens: the reader, read only. The link's token stands in the fragment, which browsers send to nobody.

import { useEffect, useState } from "preact/hooks";
import { request } from "./api.js";
import { Transcript } from "./reader.js";
import { text } from "./strings.js";
import { html, When } from "./ui.js";

export function Shared() {
  const [shared, setShared] = useState(null);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    const open = async () => {
      setShared(null);
      setProblem("");
      try {
        const { job_id: id, name, expires_at: expiresAt } = await request("/s", { method: "POST", json: { token: location.hash.slice(1) } });
        const transcript = await request(`/jobs/${id}/transcript?format=json`);
        setShared({ job: { id, source: { name } }, expiresAt, transcript });
        document.title = `${name} · Longhand`;
      } catch (error) {
        setProblem(error.status === 404 || error.status === 422 ? text.linkInvalid : error.message);
      }
    };
    open();
    addEventListener("hashchange", open);
    return () => removeEventListener("hashchange", open);
  }, []);
  if (problem) return html`<p role="alert" class="problem">${problem}</p>`;
  if (!shared) return html`<p class="quiet" role="status">${text.loading}</p>`;
  return html`<h1 class="title">${shared.job.source.name}</h1>
    <p class="quiet">${text.sharedUntil} <${When} at=${shared.expiresAt} /></p>
    <${Transcript} key=${shared.job.id} job=${shared.job} transcript=${shared.transcript} at=${0} />`;
}
