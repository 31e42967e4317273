/* Shows a case: up to three planes of its scan, with the outlines of its mask. Knows nothing of choices. */
"use strict";

const PLANES = [ // rows go down from the high end of an axis; mirrored: the patient's right is at the left
  { name: "axial", axis: 2, across: 0, down: 1, mirrored: true, sides: ["R", "L", "A", "P"] },
  { name: "coronal", axis: 1, across: 0, down: 2, mirrored: true, sides: ["R", "L", "S", "I"] },
  { name: "sagittal", axis: 0, across: 1, down: 2, mirrored: false, sides: ["P", "A", "S", "I"] },
];
const WHOLE = "Whole range", AROUND = "Around the mask", STRONG = "High contrast";
const HOUNSFIELD = { "Soft tissue": [40, 400], "Lung": [-600, 1500], "Bone": [400, 1800] }; // level, width
// Marching squares: which edges (0 top, 1 right, 2 bottom, 3 left) a line joins, by the corners that are inside:
// 8 top left, 4 top right, 2 bottom right, 1 bottom left.
const JOINS = [[], [[3, 2]], [[2, 1]], [[3, 1]], [[0, 1]], [[3, 2], [0, 1]], [[0, 2]], [[3, 0]],
  [[3, 0]], [[0, 2]], [[3, 0], [2, 1]], [[0, 1]], [[3, 1]], [[2, 1]], [[3, 2]], []];
const KEPT = 6; // cases that stay decoded

const arrivals = new Map(), decodedCases = new Map();
window.semivoxCase = (content) => arrivals.get(content.case)?.(content);

/** Return a case's voxels, loaded and decoded once; the last few stay. */
function openCase(name) {
  const found = decodedCases.get(name) ?? loadCase(name).then(decoded);
  decodedCases.delete(name);
  decodedCases.set(name, found); // the last used is the last to go
  found.catch(() => decodedCases.delete(name));
  while (decodedCases.size > KEPT) decodedCases.delete(decodedCases.keys().next().value);
  return found;
}

function loadCase(name) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script"), source = `review/${encodeURIComponent(name)}.js`;
    const fail = () => reject(new Error(`${source} cannot be read: keep the folder “review” beside this page`));
    arrivals.set(name, resolve);
    script.onload = () => { script.remove(); arrivals.delete(name); fail(); }; // nothing, where it has arrived
    script.onerror = () => { script.remove(); arrivals.delete(name); fail(); };
    script.src = source;
    document.head.append(script);
  });
}

async function decoded(content) {
  if (!window.DecompressionStream) throw new Error("this browser is too old: take Chrome 80, Firefox 113, Safari 16.4 or later");
  const [nx, ny, nz] = content.shape, mask = await inflated(content.mask), channels = [];
  for (const text of content.channels) {
    const bytes = await inflated(text);
    for (let at = 0; at < bytes.length; at++) if (at % nx) bytes[at] += bytes[at - 1];
    channels.push(bytes);
  }
  const areas = content.shape.map((length) => new Uint32Array(length));
  for (let z = 0, at = 0; z < nz; z++) for (let y = 0; y < ny; y++) for (let x = 0; x < nx; x++, at++) {
    if (mask[at]) { areas[0][x]++; areas[1][y]++; areas[2][z]++; }
  }
  const spans = areas.map((counts) => [counts.findIndex((n) => n > 0), counts.findLastIndex((n) => n > 0)]);
  const index = areas.map((counts) => counts.reduce((best, n, at) => (n > counts[best] ? at : best), counts.length >> 1));
  return { ...content, mask, channels, index, box: spans[0][0] < 0 ? null : spans };
}

async function inflated(text) {
  const letters = atob(text), bytes = new Uint8Array(letters.length);
  for (let at = 0; at < bytes.length; at++) bytes[at] = letters.charCodeAt(at);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The planes of one case in an element; `told` is called when what is shown has changed. */
class Viewer {
  constructor(place, classes, ct, told) {
    Object.assign(this, { place, classes, ct, told, shown: null, large: 0, outlines: true, zoom: false, channel: 0, preset: WHOLE });
    this.views = PLANES.map((plane, number) => this.makeView(plane, number));
    new ResizeObserver(() => this.draw()).observe(place);
  }

  makeView(plane, number) {
    const figure = document.createElement("figure"), frame = document.createElement("div"), canvas = document.createElement("canvas");
    const caption = document.createElement("figcaption"), slider = document.createElement("input"), count = document.createElement("span");
    frame.className = "frame"; canvas.tabIndex = 0; canvas.setAttribute("role", "img");
    slider.type = "range"; slider.min = 0; slider.setAttribute("aria-label", `${plane.name} slice`);
    slider.addEventListener("input", () => this.go(plane.axis, Number(slider.value)));
    const label = document.createElement("span"); label.textContent = plane.name;
    caption.append(label, slider, count); frame.append(canvas); figure.append(frame, caption); this.place.append(figure);
    const view = { plane, figure, canvas, label, slider, count, picture: document.createElement("canvas"), rolled: 0 };
    canvas.addEventListener("wheel", (event) => this.roll(event, view), { passive: false });
    canvas.addEventListener("dblclick", () => this.enlarge(number));
    canvas.addEventListener("pointerdown", (event) => this.press(event, view));
    return view;
  }

  show(scan) {
    const flat = scan?.shape.indexOf(1) ?? -1; // a picture, or a single slice
    this.shown = scan;
    this.index = scan && [...scan.index];
    const planes = scan ? PLANES.map((plane, n) => n).filter((n) => flat < 0 || PLANES[n].axis === flat) : [];
    if (scan && this.channel >= scan.channels.length) this.channel = 0;
    if (scan && !(planes.includes(this.large) && String(planes) === String(this.planes))) this.large = this.firstPlane(scan, planes);
    this.planes = planes;
    this.place.classList.toggle("single", this.planes.length < 2);
    if (scan) this.setPreset(this.preset);
    this.draw();
  }

  /** The plane that was acquired: across the axis of the largest spacing. */
  firstPlane({ spacing }, planes) {
    const across = (n) => spacing[PLANES[n].axis];
    return planes.reduce((best, n) => (across(n) > across(best) * 1.01 ? n : best), planes[0]);
  }

  enlarge(number) { if (this.planes.includes(number)) { this.large = number; this.draw(); } }
  step(by) { if (this.shown) { const { axis } = PLANES[this.large]; this.go(axis, this.index[axis] + by); } }
  go(axis, to) { if (this.shown) { this.index[axis] = Math.max(0, Math.min(this.shown.shape[axis] - 1, to)); this.draw(); } }
  toggle(what) { this[what] = !this[what]; this.draw(); }
  setChannel(number) { this.channel = number; this.setPreset(this.preset); this.draw(); }

  roll(event, view) {
    if (event.ctrlKey || !this.shown || this.shown.shape[view.plane.axis] < 2) return; // Ctrl is the browser's own zoom
    event.preventDefault();
    view.rolled += event.deltaMode ? event.deltaY * 40 : event.deltaY; // a touchpad gives many small moves
    if (Math.abs(view.rolled) < 30) return;
    this.go(view.plane.axis, this.index[view.plane.axis] + (view.rolled > 0 ? 1 : -1));
    view.rolled = 0;
  }

  press(event, view) {
    if (event.button || !this.shown) return;
    const start = { x: event.clientX, y: event.clientY, level: this.level, width: this.width };
    let dragged = false;
    const move = (e) => {
      const [right, down] = [e.clientX - start.x, e.clientY - start.y];
      if (event.pointerType === "touch" || (!dragged && Math.hypot(right, down) < 4)) return;
      dragged = true;
      this.setWindow(start.level + down * 0.6, start.width * Math.exp(right / 200));
    };
    const end = (e) => {
      for (const name of ["pointermove", "pointerup", "pointercancel"]) view.canvas.removeEventListener(name, name === "pointermove" ? move : end);
      if (e.type === "pointerup" && !dragged) this.point(e, view);
    };
    view.canvas.setPointerCapture(event.pointerId);
    view.canvas.addEventListener("pointermove", move);
    view.canvas.addEventListener("pointerup", end);
    view.canvas.addEventListener("pointercancel", end);
  }

  /** Let the other planes go to a point of this one. */
  point(event, view) {
    const { plane } = view, { left, top, kx, ky, from } = view.layout, [w, h] = this.sizeOf(plane);
    const bounds = view.canvas.getBoundingClientRect();
    const u = Math.floor(from[0] + (event.clientX - bounds.left - left) / kx), v = Math.floor(from[1] + (event.clientY - bounds.top - top) / ky);
    if (u < 0 || v < 0 || u >= w || v >= h) return;
    this.index[plane.across] = plane.mirrored ? w - 1 - u : u;
    this.index[plane.down] = h - 1 - v;
    this.draw();
  }

  // ------------------------------------------------------------------ window and level, of bytes from 0 to 255
  presets() { return [WHOLE, AROUND, STRONG, ...(this.ct[this.channel] ? Object.keys(HOUNSFIELD) : [])]; }

  setPreset(name) {
    this.preset = this.presets().includes(name) ? name : WHOLE;
    const [low, high] = this.shown.range, span = high - low || 1;
    if (HOUNSFIELD[this.preset]) {
      const [level, width] = HOUNSFIELD[this.preset];
      this.setWindow((level - low) / span * 255, width / span * 255, true);
    } else if (this.preset === WHOLE) {
      this.setWindow(127.5, 255, true);
    } else {
      const [dark, middle, bright] = this.around([0.02, 0.5, 0.98]);
      const strong = this.preset === STRONG;
      this.setWindow(strong ? middle : (dark + bright) / 2, Math.max(8, (bright - dark) * (strong ? 0.5 : 1)), true);
    }
  }

  setWindow(level, width, preset = false) {
    this.level = Math.max(-255, Math.min(510, level));
    this.width = Math.max(2, Math.min(1020, width));
    this.dragged = !preset;
    if (!preset) this.draw();
  }

  /** Return quantiles of the bytes in the mask's box and a quarter of its size around it; of all where it is empty. */
  around(shares) {
    const { shape, box, channels } = this.shown, counts = new Uint32Array(256), bytes = channels[this.channel] ?? channels[0];
    const [xs, ys, zs] = shape.map((length, axis) => {
      if (!box) return [0, length - 1];
      const margin = Math.ceil((box[axis][1] - box[axis][0] + 1) / 4);
      return [Math.max(0, box[axis][0] - margin), Math.min(length - 1, box[axis][1] + margin)];
    });
    for (let z = zs[0]; z <= zs[1]; z++) for (let y = ys[0]; y <= ys[1]; y++) for (let x = xs[0]; x <= xs[1]; x++) {
      counts[bytes[x + shape[0] * (y + shape[1] * z)]]++;
    }
    const all = counts.reduce((sum, n) => sum + n, 0);
    return shares.map((share) => { let seen = 0; return Math.max(0, counts.findIndex((n) => (seen += n) >= share * all)); });
  }

  // ------------------------------------------------------------------ drawing
  sizeOf(plane) { return [this.shown.shape[plane.across], this.shown.shape[plane.down]]; }

  draw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => { // once a frame, however many moves there were
      this.waiting = null;
      this.views.forEach((view, number) => {
        view.figure.hidden = !this.planes?.includes(number);
        view.figure.classList.toggle("large", number === this.large);
      });
      if (this.shown) this.views.forEach((view, number) => { if (this.planes.includes(number)) this.drawView(view); });
      this.told();
    });
  }

  drawView(view) {
    const { plane, canvas } = view, { shape, spacing } = this.shown, [w, h] = this.sizeOf(plane);
    const { clientWidth: width, clientHeight: height } = canvas, ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
    view.slider.max = shape[plane.axis] - 1; view.slider.value = this.index[plane.axis];
    view.slider.hidden = view.count.hidden = shape[plane.axis] < 2;
    view.label.textContent = shape[plane.axis] < 2 && this.shown.unit === "pixels" ? "picture" : plane.name;
    view.count.textContent = `${this.index[plane.axis] + 1} of ${shape[plane.axis]}`;
    canvas.setAttribute("aria-label", `${view.label.textContent} slice ${view.count.textContent} of ${this.shown.case}`);
    const marks = this.paint(view, w, h), [from, to] = this.part(plane, w, h);
    const scale = Math.min((width - 16) / ((to[0] - from[0]) * spacing[plane.across]), (height - 16) / ((to[1] - from[1]) * spacing[plane.down]));
    const kx = scale * spacing[plane.across], ky = scale * spacing[plane.down];
    const left = (width - (to[0] - from[0]) * kx) / 2, top = (height - (to[1] - from[1]) * ky) / 2;
    view.layout = { left, top, kx, ky, from };
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.drawImage(view.picture, from[0], from[1], to[0] - from[0], to[1] - from[1], left, top, (to[0] - from[0]) * kx, (to[1] - from[1]) * ky);
    if (this.outlines) {
      context.save();
      context.beginPath(); context.rect(left - 2, top - 2, (to[0] - from[0]) * kx + 4, (to[1] - from[1]) * ky + 4); context.clip();
      for (const [number, path] of this.lines(marks, w, h, (x) => left + (x - from[0]) * kx, (y) => top + (y - from[1]) * ky)) {
        for (const [colour, thickness] of [["#000b", 3.2], [this.classes[number - 1]?.colour ?? "#fff", 1.7]]) { // a rim, for bright tissue
          context.strokeStyle = colour; context.lineWidth = thickness; context.lineCap = "round"; context.stroke(path);
        }
      }
      context.restore();
    }
    this.annotate(context, view, width, height, w, h);
  }

  /** Paint the slice into view.picture, a voxel a pixel, and return its mask in the same order. */
  paint(view, w, h) {
    const { plane, picture } = view, { shape, channels, mask, colour } = this.shown;
    const strides = [1, shape[0], shape[0] * shape[1]], base = this.index[plane.axis] * strides[plane.axis];
    const step = strides[plane.across], row = strides[plane.down], marks = new Uint8Array(w * h), grey = new Uint8ClampedArray(256);
    for (let value = 0; value < 256; value++) grey[value] = (value - this.level) / this.width * 255 + 127.5;
    picture.width = w; picture.height = h;
    const context = picture.getContext("2d"), image = context.createImageData(w, h), out = image.data;
    const [red, green, blue] = colour ? channels : Array(3).fill(channels[this.channel]);
    for (let v = 0, to = 0; v < h; v++) for (let u = 0; u < w; u++, to++) {
      const at = base + (h - 1 - v) * row + (plane.mirrored ? w - 1 - u : u) * step;
      out[4 * to] = grey[red[at]]; out[4 * to + 1] = grey[green[at]]; out[4 * to + 2] = grey[blue[at]]; out[4 * to + 3] = 255;
      marks[to] = mask[at];
    }
    context.putImageData(image, 0, 0);
    return marks;
  }

  /** Return the part of the slice to draw, [[u, v], [u, v]]: all of it, or the mask's box with room around it. */
  part(plane, w, h) {
    const { box, spacing } = this.shown;
    if (!this.zoom || !box) return [[0, 0], [w, h]];
    const room = Math.max(...box.map(([low, high], axis) => (high - low + 1) * spacing[axis])) * 0.25;
    const span = (axis, length, reversed) => {
      const margin = Math.max(2, Math.round(room / spacing[axis])), low = Math.max(0, box[axis][0] - margin), high = Math.min(length, box[axis][1] + 1 + margin);
      return reversed ? [length - high, length - low] : [low, high];
    };
    const us = span(plane.across, w, plane.mirrored), vs = span(plane.down, h, true);
    return [[us[0], vs[0]], [us[1], vs[1]]];
  }

  /** Return [class number, Path2D] of every class in the slice: lines half-way between voxels inside and outside. */
  lines(marks, w, h, x, y) {
    const paths = new Map(), at = (u, v) => (u < 0 || v < 0 || u >= w || v >= h ? 0 : marks[v * w + u]);
    for (let v = 0; v <= h; v++) for (let u = 0; u <= w; u++) {
      const corners = [at(u - 1, v - 1), at(u, v - 1), at(u, v), at(u - 1, v)];
      if (corners.every((mark) => mark === corners[0])) continue;
      const middles = [[u, v - 0.5], [u + 0.5, v], [u, v + 0.5], [u - 0.5, v]];
      for (const number of new Set(corners)) {
        if (!number) continue;
        if (!paths.has(number)) paths.set(number, new Path2D());
        const code = corners.reduce((sum, mark, corner) => sum + (mark === number ? 8 >> corner : 0), 0), path = paths.get(number);
        for (const [one, other] of JOINS[code]) {
          path.moveTo(x(middles[one][0]), y(middles[one][1])); path.lineTo(x(middles[other][0]), y(middles[other][1]));
        }
      }
    }
    return paths;
  }

  /** Draw the sides of the body, and at the edges where the other planes lie. */
  annotate(context, view, width, height, w, h) {
    if (this.shown.unit === "pixels") return;
    const { plane, layout: { left, top, kx, ky, from } } = view;
    context.font = "600 12px system-ui, sans-serif"; context.fillStyle = "#dfe6e9"; context.strokeStyle = "#000"; context.lineWidth = 3;
    const write = (text, x, y, align, baseline) => {
      context.textAlign = align; context.textBaseline = baseline; context.strokeText(text, x, y); context.fillText(text, x, y);
    };
    const [atLeft, atRight, atTop, atBottom] = plane.sides;
    write(atLeft, 8, height / 2, "left", "middle"); write(atRight, width - 8, height / 2, "right", "middle");
    write(atTop, width / 2, 8, "center", "top"); write(atBottom, width / 2, height - 6, "center", "bottom");
    if (this.planes.length < 2) return;
    const u = plane.mirrored ? w - 1 - this.index[plane.across] : this.index[plane.across], v = h - 1 - this.index[plane.down];
    const x = left + (u + 0.5 - from[0]) * kx, y = top + (v + 0.5 - from[1]) * ky;
    context.strokeStyle = "#6cc5d3"; context.lineWidth = 1.5; context.beginPath();
    for (const [x0, y0, x1, y1] of [[x, 0, x, 9], [x, height - 9, x, height], [0, y, 9, y], [width - 9, y, width, y]]) { context.moveTo(x0, y0); context.lineTo(x1, y1); }
    context.stroke();
  }
}
