/* The list of masks, what is said of them, and how it is kept: in the browser at once, in review.json when saved. */
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const MARKS = { accept: "✓", correct: "✎", reject: "✕", "": "·" }, WORDS = { accept: "accepted", correct: "to be corrected", reject: "rejected", "": "unreviewed" };
const STORE = `semivox-review:${data.run}`; // of these masks alone: others have other digests

// ---------------------------------------------------------------------- what was said
const fresh = () => ({ reviewer: "", cases: {}, changed: [], saved: "", current: "" });
let state = fresh(), kept = true, message = "", target = null;

function recall() {
  try { state = { ...fresh(), ...JSON.parse(localStorage.getItem(STORE) ?? "{}") }; } catch { kept = false; }
}
function remember() {
  try { localStorage.setItem(STORE, JSON.stringify(state)); } catch { kept = false; }
}
const said = (name) => Object.hasOwn(state.cases, name) ? state.cases[name] : { choice: null, note: "", time: "" };

function say(name, words) {
  state.cases = { ...state.cases, [name]: { ...said(name), ...words, time: new Date().toISOString() } };
  state.changed = [...new Set([...state.changed, name])];
  message = "";
  remember(); refresh();
}

/** Return review.json as an object: see semivox.reviewing.review. */
function review() {
  const cases = {};
  for (const { case: name, mask } of data.cases) {
    const { choice, note, time } = said(name);
    if (choice || note) Object.defineProperty(cases, name, { value: { choice, note, mask, time }, enumerable: true });
  }
  return { version: data.version, name: data.name, reviewer: state.reviewer, saved: new Date().toISOString(), cases };
}

async function save() {
  const content = review(), text = JSON.stringify(content, null, 1) + "\n";
  const times = new Map(state.changed.map((name) => [name, said(name).time]));
  try {
    if (!window.showSaveFilePicker) throw new Error("there are only downloads");
    target ??= await showSaveFilePicker({ suggestedName: "review.json", types: [{ accept: { "application/json": [".json"] } }] });
    const file = await target.createWritable();
    await file.write(text); await file.close();
  } catch (error) {
    if (error.name === "AbortError") return;
    target = null;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" })); link.download = "review.json"; link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }
  const since = (name) => times.get(name) !== said(name).time; // while the file was being written
  state = { ...state, saved: content.saved, changed: state.changed.filter(since) };
  message = "";
  remember(); refresh();
}

/** Take choices of a review.json: of these masks alone, and where they are later than what is here. */
async function load(file) {
  let content;
  try { content = JSON.parse(await file.text()); } catch { content = null; }
  if (content?.version !== data.version || typeof content.cases !== "object" || !content.cases) {
    message = `${file.name} is no review.json of version ${data.version}: nothing was taken`;
    return refresh();
  }
  const masks = new Map(data.cases.map((item) => [item.case, item.mask])), counts = { taken: 0, older: 0, foreign: 0 };
  const taken = {};
  for (const [name, found] of Object.entries(content.cases)) {
    const choice = found?.choice ?? null, note = String(found?.note ?? ""), time = String(found?.time ?? "");
    if (!masks.has(name) || masks.get(name) !== found?.mask || !(choice === null || WORDS[choice])) counts.foreign++;
    else if (said(name).time > time) counts.older++;
    else { counts.taken++; taken[name] = { choice, note, time }; }
  }
  state.cases = { ...state.cases, ...taken };
  state.changed = state.changed.filter((name) => !Object.hasOwn(taken, name));
  if (!state.reviewer && typeof content.reviewer === "string") state.reviewer = content.reviewer;
  message = `${file.name}: ${counts.taken} taken` + (counts.older ? `, ${counts.older} left, which are later here` : "")
    + (counts.foreign ? `, ${counts.foreign} left, which are of other masks` : "");
  remember(); refresh();
}

// ---------------------------------------------------------------------- the list
const shownDice = (dice) => (dice === null ? "–" : dice.toFixed(2));
let filter = "all", current = null;
const items = data.cases.map((item) => ({ ...item, mean: meanOf(item.estimates), ...listItem(item) }));

function meanOf(estimates) {
  const known = estimates.map((e) => e.dice).filter((dice) => dice !== null);
  return known.length ? known.reduce((sum, dice) => sum + dice, 0) / known.length : null;
}

function listItem(item) {
  const row = document.createElement("li"), button = document.createElement("button"), parts = {};
  button.type = "button";
  for (const part of ["mark", "name", "flag", "dice"]) { parts[part] = button.appendChild(document.createElement("span")); parts[part].className = part; }
  parts.name.textContent = item.case;
  parts.flag.textContent = item.flags.length ? "⚑" : "";
  parts.flag.title = item.flags.join("; ");
  parts.dice.textContent = shownDice(meanOf(item.estimates));
  button.addEventListener("click", () => show(item.case));
  row.append(button); byId("list").append(row);
  return { row, button, mark: parts.mark };
}

const matches = { all: () => true, unreviewed: (item) => !said(item.case).choice, flagged: (item) => item.flags.length > 0 };

/** Bring everything but the slices up to date with what was said. */
function refresh() {
  const count = (name) => items.filter(matches[name]).length, done = items.length - count("unreviewed");
  for (const item of items) {
    const choice = said(item.case).choice ?? "";
    item.row.hidden = !matches[filter](item);
    item.mark.textContent = MARKS[choice]; item.mark.className = `mark ${choice}`;
    item.button.setAttribute("aria-current", String(item === current));
    item.button.setAttribute("aria-label", `${item.case}, estimated Dice ${shownDice(item.mean)}, ${item.flags.length ? "flagged, " : ""}${WORDS[choice]}`);
  }
  byId("none").hidden = count(filter) > 0;
  for (const input of byId("filter").querySelectorAll("input")) {
    input.nextElementSibling.textContent = `${input.value[0].toUpperCase()}${input.value.slice(1)} ${count(input.value)}`;
  }
  byId("progress").max = items.length; byId("progress").value = done;
  byId("progress-text").textContent = `${done} of ${items.length} reviewed`;
  const { choice, note } = said(current.case);
  for (const button of document.querySelectorAll(".choice")) button.setAttribute("aria-pressed", String(button.dataset.choice === choice));
  if (byId("note").value !== note) byId("note").value = note;
  if (byId("reviewer").value !== state.reviewer) byId("reviewer").value = state.reviewer;
  byId("state").textContent = message || stateWords();
  byId("state").classList.toggle("unsaved", state.changed.length > 0);
}

function stateWords() {
  const many = state.changed.length;
  if (many && !kept) return `${many} unsaved: this browser loses them when the page is closed`;
  if (many) return `${many} unsaved, kept in this browser`;
  return state.saved ? `All saved, ${new Date(state.saved).toLocaleString([], { dateStyle: "short", timeStyle: "short" })}` : "Nothing to save yet";
}

// ---------------------------------------------------------------------- one case
const viewer = new Viewer(byId("planes"), data.classes, data.ct, describe);

async function show(name) {
  current = items.find((item) => item.case === name);
  state.current = name;
  remember(); refresh();
  current.button.scrollIntoView({ block: "nearest" });
  byId("case").textContent = name;
  byId("flags").textContent = current.flags.join("; ") || "Nothing odd was found by size, number of parts, border or intensities.";
  byId("flags").className = current.flags.length ? "bad" : "quiet";
  byId("estimates").replaceChildren(lead("Estimated Dice"), ...current.estimates.map(estimate));
  try {
    const scan = await openCase(name);
    if (current.case !== name) return; // someone was quicker
    byId("trouble").hidden = true;
    viewer.show(scan);
    const following = neighbour(1);
    if (following) openCase(following.case).catch(() => {}); // said when it is opened
  } catch (error) {
    if (current.case !== name) return;
    viewer.show(null);
    byId("trouble").textContent = `${name} cannot be shown: ${error.message}`;
    byId("trouble").hidden = false;
  }
}

function lead(text) {
  const item = document.createElement("li");
  item.className = "lead"; item.textContent = text;
  return item;
}

function estimate({ name, dice, lower, coverage }) {
  const item = document.createElement("li"), key = document.createElement("span"), bound = document.createElement("small");
  key.className = "key"; key.style.setProperty("--colour", data.classes.find((c) => c.name === name)?.colour ?? "#fff");
  bound.textContent = lower === null ? "" : ` above ${lower.toFixed(2)} with ${Math.round(coverage * 100)} % probability`;
  item.append(key, `${name} ${dice === null ? "without an estimate" : dice.toFixed(2)}`, bound);
  return item;
}

/** Say how the slices are shown; called by the viewer after it has drawn. */
function describe() {
  const scan = viewer.shown;
  byId("tools").hidden = !scan;
  if (!scan) return;
  byId("outlines").setAttribute("aria-pressed", String(viewer.outlines));
  byId("zoom").setAttribute("aria-pressed", String(viewer.zoom)); byId("zoom").disabled = !scan.box;
  options(byId("preset"), viewer.dragged ? [...viewer.presets(), "By hand"] : viewer.presets(), viewer.dragged ? "By hand" : viewer.preset);
  const many = scan.channels.length > 1 && !scan.colour;
  byId("channel-label").hidden = !many;
  if (many) { const names = scan.channels.map(channelName); options(byId("channel"), names, names[viewer.channel]); }
  const [low, high] = scan.range, unit = (high - low) / 255, number = (x) => Number(x.toPrecision(3)).toLocaleString("en");
  byId("window").textContent = `level ${number(low + viewer.level * unit)}, width ${number(viewer.width * unit)}`;
  const size = (spacing) => `${spacing.map((s) => Number(s.toPrecision(3))).join(" × ")} ${scan.unit}`;
  byId("resolution").textContent = scan.original ? `shown in voxels of ${size(scan.spacing)}, the scan has ${size(scan.original.spacing)}` : "";
}
const channelName = (_, number) => `${number + 1} ${data.channels[number] ?? ""}`.trim();

function options(select, names, chosen) {
  const now = [...select.options].map((option) => option.value);
  if (String(now) !== String(names)) select.replaceChildren(...names.map((name) => new Option(name, name)));
  select.value = chosen;
}

/** Return the next (1) or previous (-1) item of those that match the filter, or a further test. */
function neighbour(by, also = () => true) {
  const here = items.indexOf(current), order = by > 0 ? items.slice(here + 1) : items.slice(0, here).reverse();
  return order.find((item) => matches[filter](item) && also(item));
}
function move(by) { const item = neighbour(by); if (item) show(item.case); }
function moveToUnreviewed() {
  const item = neighbour(1, matches.unreviewed) ?? items.find((other) => other !== current && matches[filter](other) && matches.unreviewed(other));
  if (item) show(item.case);
}
function choose(choice) { say(current.case, { choice: said(current.case).choice === choice ? null : choice }); }
function nextOf(list, value) { return list[(list.indexOf(value) + 1) % list.length]; }

// ---------------------------------------------------------------------- keys and buttons
const KEYS = {
  a: () => choose("accept"), c: () => choose("correct"), r: () => choose("reject"), n: () => byId("note").focus(),
  arrowleft: () => move(-1), arrowright: () => move(1), u: moveToUnreviewed,
  arrowup: () => viewer.step(1), arrowdown: () => viewer.step(-1), pageup: () => viewer.step(5), pagedown: () => viewer.step(-5),
  1: () => viewer.enlarge(0), 2: () => viewer.enlarge(1), 3: () => viewer.enlarge(2),
  w: () => preset(nextOf(viewer.presets(), viewer.preset)), o: () => viewer.toggle("outlines"), z: () => viewer.toggle("zoom"),
  i: () => viewer.shown && !viewer.shown.colour && viewer.setChannel((viewer.channel + 1) % viewer.shown.channels.length),
  b: () => viewer.setWindow(viewer.level - 8, viewer.width), d: () => viewer.setWindow(viewer.level + 8, viewer.width),
  "+": () => viewer.setWindow(viewer.level, viewer.width / 1.15), "-": () => viewer.setWindow(viewer.level, viewer.width * 1.15),
  s: save, "?": () => byId("keys").showModal(),
};
KEYS["="] = KEYS["+"]; // the same key without shift

document.addEventListener("keydown", (event) => {
  const { target: at } = event, key = event.key.toLowerCase(), typing = at.matches("input:not([type]), select");
  if (event.ctrlKey || event.metaKey || event.altKey || byId("keys").open) return;
  if (typing && (key === "escape" || key === "enter")) at.blur();
  if (typing || (at.matches("[type=range], [type=radio]") && /^(arrow|page)/.test(key)) || !Object.hasOwn(KEYS, key)) return;
  event.preventDefault();
  KEYS[key]();
});

function preset(name) { if (viewer.shown && name !== "By hand") { viewer.setPreset(name); viewer.draw(); } }
for (const button of document.querySelectorAll(".choice")) button.addEventListener("click", () => choose(button.dataset.choice));
const CLICKS = { previous: () => move(-1), next: () => move(1), outlines: KEYS.o, zoom: KEYS.z, save, help: KEYS["?"], load: () => byId("file").click() };
for (const [id, act] of Object.entries(CLICKS)) byId(id).addEventListener("click", act);
byId("preset").addEventListener("change", (event) => { preset(event.target.value); event.target.blur(); }); // keys are for the page again
byId("channel").addEventListener("change", (event) => { viewer.setChannel(event.target.selectedIndex); event.target.blur(); });
byId("note").addEventListener("input", (event) => say(current.case, { note: event.target.value }));
byId("reviewer").addEventListener("input", (event) => { state.reviewer = event.target.value; remember(); });
byId("file").addEventListener("change", async (event) => { const [file] = event.target.files; if (file) await load(file); event.target.value = ""; });
byId("filter").addEventListener("change", (event) => { filter = event.target.value; refresh(); });
document.addEventListener("click", ({ detail, target: at }) => { // after a mouse's click, arrows are for the page again
  if (detail && at.matches("[type=range], [type=radio]")) at.blur();
});
window.addEventListener("storage", (event) => { if (event.key === STORE) { recall(); refresh(); } }); // another window of this page
window.addEventListener("beforeunload", (event) => { if (!kept && state.changed.length) event.preventDefault(); });

recall();
remember(); // finds out whether it can
show((items.find((item) => item.case === state.current) ?? items[0]).case);
