// What the server answers; an error is one sentence with its cause and mend.

export class Refusal extends Error {
  constructor(message, status, body) {
    super(message);
    this.status = status;
    this.body = body;
  }
}

export const server = { refused: () => {} }; // called with a 401: who is not in sees the form

/** Ask the server; JSON in and out, or a raw body with its headers. */
export async function call(method, path, body, headers = {}) {
  const raw = body instanceof Blob;
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers: { ...(method === "GET" ? {} : { "X-Zssr-Gan": "1" }), ...(body === undefined || raw ? {} : { "Content-Type": "application/json" }), ...headers },
      body: body === undefined || raw ? body : JSON.stringify(body),
      credentials: "same-origin",
    });
  } catch {
    throw new Refusal("zssr-gan web does not answer: see whether it still runs in its terminal, then try again.", 0, {});
  }
  const text = await answer.text();
  let found = {};
  try {
    found = text ? JSON.parse(text) : {};
  } catch {
    found = {};
  }
  if (answer.ok) return found;
  const refusal = new Refusal(found.error ?? `The server answered ${answer.status}: try again.`, answer.status, found);
  if (answer.status === 401) server.refused(refusal);
  throw refusal;
}

export const get = (path) => call("GET", path);
export const post = (path, body) => call("POST", path, body ?? {});
export const put = (path, body) => call("PUT", path, body);
export const remove = (path, body) => call("DELETE", path, body);

export const caseUrl = (id, ...rest) => ["/api/cases", encodeURIComponent(id), ...rest.map(encodeURIComponent)].join("/");
