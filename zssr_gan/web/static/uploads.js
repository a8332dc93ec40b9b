// Files go up in pieces, as raw bodies; a cut connection goes on where the server has got to.
import { call, caseUrl, get, post, remove } from "./api.js";
import { changed, pace } from "./state.js";

export const uploads = []; // {case, file, name, sent, state: waiting | sending | done | failed, error}

const TRIES = 6, PIECE = 4_000_000; // bytes of a piece
const PARALLEL = 3;
let busy = 0;

/** Queue files for a case. */
export function add(id, files) {
  for (const file of files) uploads.push({ case: id, file, name: file.relative || file.webkitRelativePath || file.name, sent: 0, state: "waiting", error: null });
  changed("upload");
  return Promise.all(Array.from({ length: PARALLEL }, run));
}

export function retry(upload) {
  Object.assign(upload, { state: "waiting", error: null });
  changed("upload");
  return run();
}

export async function cancel(upload) {
  const sending = upload.state === "sending";
  upload.state = "cancelled";
  uploads.splice(uploads.indexOf(upload), 1);
  changed("upload");
  if (upload.id && !sending) await remove(caseUrl(upload.case, "uploads", upload.id)).catch(() => {});
}

async function run() {
  if (busy >= PARALLEL) return;
  busy += 1;
  pace.wait = 1000; // many files at once are few fetches of the case
  try {
    for (let next; (next = uploads.find((one) => one.state === "waiting")); ) await send(next);
  } finally {
    busy -= 1;
    if (!busy) pace.wait = 150;
  }
}

async function send(upload) {
  upload.state = "sending";
  changed("upload");
  try {
    const { file } = upload;
    const begun = (upload.id && (await get(caseUrl(upload.case, "uploads", upload.id)).then((at) => ({ id: upload.id, ...at })).catch(() => null))) // goes on
      || (await leftover(upload))
      || (await post(caseUrl(upload.case, "uploads"), { name: upload.name, bytes: file.size }));
    upload.id = begun.id;
    upload.sent = begun.offset;
    let failures = 0;
    do {
      const piece = file.slice(upload.sent, upload.sent + (begun.chunk_bytes ?? PIECE));
      try {
        const answer = await call("PUT", caseUrl(upload.case, "uploads", upload.id), piece, { "Upload-Offset": String(upload.sent), "Content-Type": "application/octet-stream" });
        failures = 0;
        upload.sent = answer.offset;
      } catch (error) {
        failures += 1;
        if (upload.state === "cancelled" || failures >= TRIES || (error.status >= 400 && error.status !== 409)) throw error;
        await new Promise((resolve) => setTimeout(resolve, 300 * 2 ** failures));
        upload.sent = (await get(caseUrl(upload.case, "uploads", upload.id)).catch(() => upload)).offset ?? upload.sent;
      }
      changed("upload");
    } while (upload.sent < file.size && upload.state === "sending");
    if (upload.state === "cancelled") await remove(caseUrl(upload.case, "uploads", upload.id));
    else uploads.splice(uploads.indexOf(upload), 1);
  } catch (error) {
    if (upload.state !== "cancelled") Object.assign(upload, { state: "failed", error: error.message, hopeless: [400, 413].includes(error.status) });
  }
  changed("upload");
}

/** Uploads of a case that this window does not send: a window that was closed left them. */
export async function leftovers(id) {
  const ours = new Set(uploads.map((one) => one.id));
  return (await get(caseUrl(id, "uploads"))).filter((one) => one.offset > 0 && !ours.has(one.id));
}

/** Of those, the one that began with this very file; null of none. */
async function leftover({ case: id, name, file }) {
  for (const one of await leftovers(id).catch(() => [])) {
    if (one.name !== name || one.bytes !== file.size || !crypto.subtle) continue;
    const at = await get(caseUrl(id, "uploads", one.id, "proof")), hashes = [];
    for (let from = 0; from < at.offset; from += at.piece_bytes) hashes.push(await crypto.subtle.digest("SHA-256", await file.slice(from, Math.min(at.offset, from + at.piece_bytes)).arrayBuffer()));
    const whole = await crypto.subtle.digest("SHA-256", await new Blob(hashes).arrayBuffer());
    if ([...new Uint8Array(whole)].map((byte) => byte.toString(16).padStart(2, "0")).join("") === at.proof) return { id: one.id, offset: at.offset };
  }
  return null;
}

/** All files of a drop, those of folders too, with their paths inside the folder. */
export async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  const found = [];
  for (const entry of entries) await walk(entry, found);
  return found;
}

async function walk(entry, found) {
  if (entry.name.startsWith(".")) return;
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    file.relative = entry.fullPath.replace(/^\//, "");
    found.push(file);
    return;
  }
  const reader = entry.createReader();
  for (let batch; (batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject))).length; ) {
    for (const one of batch.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }))) await walk(one, found);
  }
}
