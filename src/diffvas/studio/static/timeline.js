// The clip at a glance: how much of the object is seen and hidden, where it was clicked, where samples disagree.

export function paintTimeline(canvas, { clip, object, run, sample, t, low }) {
  const ratio = window.devicePixelRatio || 1;
  const w = canvas.clientWidth, h = canvas.clientHeight;
  if (!w) return;
  if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
    canvas.width = Math.round(w * ratio);
    canvas.height = Math.round(h * ratio);
  }
  const x = canvas.getContext("2d");
  x.setTransform(ratio, 0, 0, ratio, 0, 0);
  x.clearRect(0, 0, w, h);
  const n = clip.frames, step = w / n, top = 14, base = h - 7;
  x.fillStyle = "#ffffff09";
  for (let k = 0; k < n; k += 2) if (step > 4) x.fillRect(k * step, 0, step, h);
  x.fillStyle = "#ffffff1c";
  x.fillRect(t * step, 0, Math.max(step, 2), h);

  const own = run?.objects.some((o) => o.id === object?.id);
  const whole = own ? run.samples.find((s) => s.key === sample)?.areas[object.id] : null;
  const seen = object?.areas;
  const most = Math.max(1, ...(whole || []), ...(seen || []));
  const gap = step > 5 ? 1 : 0;
  for (let k = 0; k < n; k++) {
    const at = k * step + gap / 2, width = Math.max(1, step - gap);
    const high = (v) => (v > 0 ? Math.max(1, ((base - top) * v) / most) : 0);
    if (whole) {
      x.globalAlpha = 0.38;
      x.fillStyle = object.colour;
      x.fillRect(at, base - high(whole[k]), width, high(whole[k]));
    }
    if (seen) {
      x.globalAlpha = 0.95;
      x.fillStyle = object.colour;
      x.fillRect(at, base - high(seen[k]), width, high(seen[k]));
    }
  }
  x.globalAlpha = 1;
  x.fillStyle = "#ffc24a";
  for (const k of low) x.fillRect(k * step, h - 5, Math.max(2, step), 4);
  for (const c of object?.clicks || []) {
    const cx = (c.frame + 0.5) * step;
    x.beginPath();
    x.arc(cx, 7, 3.5, 0, 7);
    x.fillStyle = "#fff";
    x.fill();
  }
  const cx = (t + 0.5) * step;
  x.fillStyle = "#fff";
  x.fillRect(cx - 1, 0, 2, h);
}

// The frame under a pointer.
export function frameAt(canvas, event, frames) {
  const place = canvas.getBoundingClientRect();
  const share = (event.clientX - place.left) / Math.max(1, place.width);
  return Math.min(frames - 1, Math.max(0, Math.floor(share * frames)));
}
