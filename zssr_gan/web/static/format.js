// Numbers with units, times with their zone.

export function bytes(count) {
  if (count === null || count === undefined) return "size not known";
  if (count < 1000) return `${count}\u00a0bytes`;
  let value = count / 1000, unit = 0;
  while (value >= 999.5 && unit < 3) { value /= 1000; unit += 1; }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)}\u00a0${["kB", "MB", "GB", "TB"][unit]}`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "not known";
  if (seconds < 1) return "under 1\u00a0s";
  if (seconds < 60) return `${Math.round(seconds)}\u00a0s`;
  const minutes = Math.round(seconds / 60);
  if (seconds < 600) return `${Math.floor(seconds / 60)}\u00a0min ${Math.floor(seconds % 60)}\u00a0s`;
  if (minutes < 60) return `${minutes}\u00a0min`;
  return `${Math.floor(minutes / 60)}\u00a0h ${minutes % 60}\u00a0min`;
}

const CLOCK = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short" });

export function time(iso) {
  const moment = new Date(iso);
  return iso && !Number.isNaN(moment.valueOf()) ? CLOCK.format(moment) : "time not known";
}

export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en-GB")} ${number === 1 ? one : many}`;
}

export function size(width, height) {
  return width && height ? `${width}\u00a0×\u00a0${height}\u00a0px` : "size not known";
}

/** Seconds of a frame from its integer and time base ("1/25"), or null. */
export function seconds(pts, base) {
  if (pts === null || pts === undefined || !base) return null;
  const [above, below] = String(base).split("/").map(Number);
  return (pts * above) / (below || 1);
}

/** What a job does now, in words. */
export function stage(progress) {
  if (!progress) return "";
  const picture = progress.images > 1 ? `picture ${progress.image} of ${progress.images}` : "";
  const part = progress.share === null && progress.total ? ` (${Math.floor((100 * progress.done) / progress.total)} % of this step)` : "";
  return [picture, progress.name?.replace(/^originals\//, ""), progress.stage && progress.stage + part].filter(Boolean).join(" · ");
}
