"use strict";

// The page of one model: a form made of /model/info, whose values go to /predict, and the answer drawn as bars.
// Whatever comes from the service is put in as text, never as HTML.

const SHOWN = 10; // classes that are drawn at once; the others can be unfolded
const INPUTS = 10; // inputs whose contributions are drawn; the others are drawn as one
const CATEGORIES = 5; // texts that a hint names
const PATIENCE = 30_000; // milliseconds that an answer is waited for

const $ = (id) => document.getElementById(id);
const short = new Intl.NumberFormat("en-GB", { maximumSignificantDigits: 6 });

let model = null;
let fields = []; // {input, control, hint, error} for each input of the contract, in its order
let asked = ""; // the body that the answer on the page is to
let before = null; // that answer, to see beside the next one what a changed input does

/** A new element; children are elements or text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// --- asking the service ---------------------------------------------------------------------------------------------

/** What the service answers, as {status, body, retry}; the status is 0 when it does not answer at all. */
async function ask(path, body) {
  const headers = {};
  const key = $("key").value.trim();
  if (/[^!-~]/.test(key)) return { status: 401, body: { detail: "A key has no spaces and no letters beyond a to z." } };
  if (key) headers["X-API-Key"] = key;
  if (body) headers["Content-Type"] = "application/json";
  try {
    const response = await fetch(path, {
      method: body ? "POST" : "GET",
      headers,
      body,
      cache: "no-store",
      signal: AbortSignal.timeout(PATIENCE),
    });
    const text = await response.text();
    return { status: response.status, body: parsed(text), retry: response.headers.get("Retry-After") };
  } catch (error) {
    const why = error.name === "TimeoutError" ? `in ${PATIENCE / 1000} seconds` : "";
    return { status: 0, body: { detail: `The service did not answer ${why}`.trim() + "." }, retry: null };
  }
}

function parsed(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}

/** Tell what was refused beside what is at fault, and put the focus there. */
function refuse({ status, body, retry }) {
  const detail = sentence(body.detail || `The service answered with status ${status}.`);
  if (status === 401 || status === 403) {
    wrong($("key"), $("key-error"), detail);
    $("key-need").textContent = "needed here";
    $("key").focus();
    return;
  }
  const errors = Array.isArray(body.errors) ? body.errors : [];
  const known = errors.map((error) => ({ ...error, field: fields.find(({ input }) => input.name === error.feature) }));
  for (const { field, feature, detail } of known) {
    if (field) wrong(field.control, field.error, sentence(detail.replace(/^feature (['"]).*?\1: /, (start) => (start.includes(feature) ? "" : start))));
  }
  const beside = known.filter(({ field }) => field);
  const elsewhere = known.filter(({ field }) => !field).map((error) => sentence(error.detail));
  const count = beside.length === 1 ? "One value was" : `${beside.length} values were`;
  const lines = beside.length ? [`${count} refused; the reason stands beside it.`, ...elsewhere] : [detail];
  if (retry) lines.push(`Try again in ${retry} s.`);
  $("alert").replaceChildren(make("p", { class: "alert" }, lines.join(" ")));
  if (beside.length) fields.find((field) => beside.some((error) => error.field === field)).control.focus();
  else $("alert").scrollIntoView({ block: "nearest" });
}

function sentence(text) {
  const words = String(text);
  return words.charAt(0).toUpperCase() + words.slice(1);
}

function wrong(control, error, detail) {
  control.setAttribute("aria-invalid", "true");
  error.textContent = detail;
}

function right(control, error) {
  control.removeAttribute("aria-invalid");
  error.textContent = "";
}

// --- the form -------------------------------------------------------------------------------------------------------

/** Draw the form of the model that serves; where a key is needed first, ask for it. */
async function load() {
  const answer = await ask("model/info");
  $("fields").removeAttribute("aria-busy");
  $("predict").textContent = answer.status === 200 ? "Predict" : "Try again";
  if (answer.status !== 200) return refuse(answer);
  model = answer.body;
  document.title = `${model.name}, version ${model.version}`;
  $("name").textContent = model.name;
  $("version").textContent = `version ${model.version}`;
  const task = { binary: "one of two classes", multiclass: `one of ${model.classes.length} classes`, regression: "a number" };
  $("about").replaceChildren("Predicts ", make("strong", {}, model.target), `: ${task[model.task]}`);
  fields = model.inputs.map(field);
  $("fields").replaceChildren(...fields.map(({ box }) => box));
  fill();
  for (const id of ["version", "example", "curl"]) $(id).hidden = false;
}

function field(input, position) {
  const id = `f${position}`;
  const described = { id, "aria-describedby": `${id}-hint ${id}-error` };
  const choices = choicesOf(input);
  const control = choices
    ? make("select", described, ...choices.map((value, index) => make("option", { value: index }, shown(value))))
    : make("input", { ...described, type: "text", spellcheck: "false", autocapitalize: "off" });
  if (!choices && input.type !== "text") control.setAttribute("inputmode", numeric(input));
  const seen = choices || !input.observed?.values ? null : make("datalist", { id: `${id}-seen` });
  seen?.append(...input.observed.values.map((value) => make("option", { value })));
  if (seen) control.setAttribute("list", seen.id);
  if (!choices && input.nullable) control.placeholder = "empty (null)";
  if (!choices && !input.nullable) control.setAttribute("aria-required", "true");
  const hint = make("p", { id: `${id}-hint`, class: "hint" });
  const error = make("p", { id: `${id}-error`, class: "error" });
  const box = make("div", { class: "field" }, make("label", { for: id }, input.name), control, ...(seen ? [seen] : []), hint, error);
  return { input, choices, control, hint, error, box };
}

/** A telephone's numeric keyboards have no minus. */
function numeric(input) {
  const lowest = input.minimum ?? input.exclusive_minimum ?? null;
  if (lowest === null || lowest < 0) return "text";
  return input.type === "integer" ? "numeric" : "decimal";
}

function choicesOf(input) {
  const values = input.values ?? (input.type === "boolean" ? [true, false] : null);
  return values && (input.nullable ? [...values, null] : values);
}

function shown(value) {
  return value === null ? "empty (null)" : String(value);
}

/** The example of the contract in every field. */
function fill() {
  for (const { input, choices, control, error } of fields) {
    // The service reads 0 and 1 as false and true.
    const example = input.type === "boolean" && input.example !== null ? Boolean(input.example) : input.example;
    if (choices) control.selectedIndex = choices.indexOf(example);
    else control.value = example ?? "";
    right(control, error);
  }
  $("alert").replaceChildren();
  changed();
}

/** What a field says: a value of JSON, or undefined where nothing was given. What is wrong goes to the service as it
 * is, which alone knows what is allowed and says so. */
function valueOf({ input, choices, control }) {
  if (choices) return choices[control.selectedIndex];
  const text = input.type === "text" ? control.value : control.value.trim();
  if (text === "") return input.nullable ? null : input.type === "text" ? "" : undefined;
  return input.type !== "text" && Number.isFinite(Number(text)) ? Number(text) : text;
}

function requestBody() {
  return JSON.stringify({ features: Object.fromEntries(fields.map((field) => [field.input.name, valueOf(field)])) });
}

/** Keep what depends on the values up to date: the hints and the command. */
function changed() {
  for (const field of fields) field.hint.replaceChildren(...hints(field));
  $("command").textContent = command();
  if (before) outdated(requestBody() !== asked);
}

function hints(field) {
  const { input } = field;
  const kind = { number: "number", integer: "whole number", boolean: "true or false", text: "text" }[input.type];
  const allowed = make("span", {}, kind + range(input), input.nullable ? ", or empty" : "");
  const seen = input.observed;
  if (seen?.values) {
    const value = valueOf(field);
    const outside = typeof value === "string" && !(value === "" && input.nullable) && !seen.values.includes(value);
    const few = seen.values.slice(0, CATEGORIES).join(", ") + (seen.values.length > CATEGORIES ? ", …" : "");
    return [allowed, " ", make("span", outside ? { class: "outside" } : {}, `${outside ? "not seen in training, which had" : "in training"} ${few}`)];
  }
  if (!seen || seen.minimum === null || seen.maximum === null) return [allowed];
  const value = valueOf(field);
  const outside = typeof value === "number" && (value < seen.minimum || value > seen.maximum);
  const limits = `${short.format(seen.minimum)} to ${short.format(seen.maximum)}`;
  return [allowed, " ", make("span", outside ? { class: "outside" } : {}, `${outside ? "outside" : "in"} training ${limits}`)];
}

function range(input) {
  const { minimum, maximum, exclusive_minimum: above, exclusive_maximum: below } = input;
  const strict = (above ?? below ?? null) !== null;
  if (!strict && minimum !== null && maximum !== null) return `, ${short.format(minimum)} to ${short.format(maximum)}`;
  const bounds = [["above", above], ["at least", minimum], ["below", below], ["at most", maximum]];
  const said = bounds.filter(([, bound]) => (bound ?? null) !== null).map(([word, bound]) => `${word} ${short.format(bound)}`);
  return said.length ? `, ${said.join(" and ")}` : "";
}

/** The request as a line for a shell; the key itself is never in it. */
function command() {
  const key = $("key").value.trim() ? ` -H "X-API-Key: $API_KEY"` : "";
  const body = requestBody().replaceAll("'", `'\\''`);
  return `curl ${new URL("predict", document.baseURI)}${key} -H 'Content-Type: application/json' -d '${body}'`;
}

// --- the answer -----------------------------------------------------------------------------------------------------

async function predict() {
  const button = $("predict");
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  $("alert").replaceChildren();
  right($("key"), $("key-error"));
  for (const { control, error } of fields) right(control, error);
  try {
    if (!model) return await load();
    const body = requestBody();
    const answer = await ask("predict", body);
    if (answer.status !== 200) return refuse(answer);
    draw(answer.body);
    [asked, before] = [body, answer.body];
    changed();
    $("said").scrollIntoView({ block: "nearest" });
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

/** Whether the answer on the page is to other values than those in the form. */
function outdated(yes) {
  $("answer").classList.toggle("stale", yes);
  $("answer-title").textContent = yes ? "Answer to the values before" : "Answer";
}

function draw(answer) {
  const isNumber = "value" in answer;
  const what = isNumber ? short.format(answer.value) : answer.label;
  const note = isNumber ? difference(answer.value) : percent(answer.probabilities[answer.label]);
  const size = what.length > 24 ? "what long" : "what";
  const result = make("span", { class: size }, make("strong", {}, what), " ", make("span", { class: "soft" }, note));
  $("said").replaceChildren(make("span", { class: "soft" }, model.target, ": "), result);
  $("drawn").replaceChildren(...(isNumber ? [] : bars(answer)));
  $("why").replaceChildren();
  $("explain").hidden = !model.explains;
  const facts = {
    "Model version": answer.model_version,
    Latency: `${short.format(answer.latency_ms)} ms`,
    "Request id": answer.request_id,
  };
  if (answer.rule) facts["Decided by the rule"] = answer.rule;
  if (model.threshold) facts.Threshold = `${model.positive} from ${percent(model.threshold)} on`;
  if (isNumber && Number(answer.value.toPrecision(6)) !== answer.value) facts["Exact value"] = answer.value;
  $("facts").replaceChildren(
    ...Object.entries(facts).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]),
  );
}

function difference(value) {
  if (!before || before.value === value) return "";
  const by = value - before.value;
  return `${short.format(Math.abs(by))} ${by > 0 ? "more" : "less"} than before`;
}

/** The classes in the order of the contract when they are few, the most probable first when they are many. */
function bars({ label, probabilities }) {
  const classes = model.classes.map((name) => [name, probabilities[name]]);
  if (classes.length > SHOWN) classes.sort((one, other) => other[1] - one[1]);
  const rows = classes.map(([name, share]) => bar(name, share, name === label));
  const parts = [make("ol", { class: "bars" }, ...rows.slice(0, SHOWN))];
  if (before) parts.push(make("p", { class: "legend" }, "the answer before"));
  if (rows.length > SHOWN) {
    const more = make("summary", {}, `The other ${rows.length - SHOWN} classes`);
    parts.push(make("details", { class: "more" }, more, make("ol", { class: "bars" }, ...rows.slice(SHOWN))));
  }
  return parts;
}

function bar(name, share, chosen) {
  const filled = make("div", { class: "bar" });
  filled.style.width = `${share * 100}%`;
  const track = make("div", { class: "track", "aria-hidden": "true" }, filled);
  if (before) {
    const mark = make("div", { class: "before" });
    mark.style.left = `calc(${before.probabilities[name] * 100}% - 1px)`;
    track.append(mark);
  }
  const row = make("div", { class: "row" }, make("span", {}, name), make("span", { class: "share", title: share }, percent(share)));
  return make("li", chosen ? { class: "chosen" } : {}, row, track);
}

function percent(share) {
  if (share > 0 && share < 0.001) return "< 0.1 %";
  if (share < 1 && share > 0.999) return "> 99.9 %";
  return `${(share * 100).toFixed(1)} %`;
}

// --- why ------------------------------------------------------------------------------------------------------------

/** Ask why the answer on the page is what it is, and draw what each input added to it. */
async function explain() {
  const button = $("explain");
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  const body = asked;
  $("why").replaceChildren(make("p", { class: "soft why-note" }, "Working it out …"));
  try {
    const answer = await ask("predict", JSON.stringify({ ...JSON.parse(body), explain: true }));
    if (body !== asked) return; // another answer has come meanwhile
    $("why").replaceChildren();
    if (answer.status !== 200) return refuse(answer);
    button.hidden = true;
    $("why").replaceChildren(...reasons(answer.body, JSON.parse(body).features));
    $("why").scrollIntoView({ block: "nearest" });
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

/** A table of the inputs with what each has added, the largest first, from the usual answer to this one. */
function reasons(answer, features) {
  const isNumber = "value" in answer;
  const { of, base, contributions, rows, exact, error } = answer.explanation;
  const whole = (value) => (isNumber ? short.format(value) : percent(value));
  const part = (value) => signed(isNumber ? short.format(Math.abs(value)) : (Math.abs(value) * 100).toFixed(1), value);
  const sorted = Object.entries(contributions).sort((one, other) => Math.abs(other[1]) - Math.abs(one[1]));
  const drawn = sorted.slice(0, INPUTS).map(([name, added]) => [name, shown(features[name]), added]);
  const rest = sorted.slice(INPUTS);
  if (rest.length) drawn.push([`The other ${rest.length} inputs`, null, rest.reduce((sum, [, added]) => sum + added, 0)]);
  const most = Math.max(...drawn.map(([, , added]) => Math.abs(added))) || 1;
  const what = isNumber ? of : `probability of ${of}`;
  const row = (words, ...cells) => make("tr", {}, make("th", { scope: "row" }, ...words), ...cells);
  const table = make(
    "table",
    { class: "why" },
    make("caption", {}, isNumber ? `What each input added` : `What each input added to the ${what}, in percentage points`),
    make("thead", {}, row([`On average over ${rows} training rows`], make("td", {}, whole(base)))),
    make("tbody", {}, ...drawn.map(([name, value, added]) => row(reason(name, value, added / most), make("td", {}, part(added))))),
    make("tfoot", {}, row([sentence(what)], make("td", {}, whole(answer.explanation.answer)))),
  );
  const about = exact ? "" : ` Each number may be off by ${(isNumber ? short.format(error) : (error * 100).toFixed(2))} or so; their sum is exact.`;
  const words = `An input with a usual value adds little. This is what the model does, not why things happen.${about}`;
  return [table, make("p", { class: "hint why-note" }, words)];
}

function reason(name, value, length) {
  const filled = make("div", { class: length < 0 ? "bar minus" : "bar plus" });
  filled.style.width = `${Math.abs(length) * 50}%`;
  const given = value === null ? [] : [" ", make("span", { class: "soft" }, value)];
  return [name, ...given, make("div", { class: "track signed", "aria-hidden": "true" }, filled)];
}

function signed(size, value) {
  if (!/[1-9]/.test(size)) return size;
  return value < 0 ? `−${size}` : `+${size}`;
}

// --- what happens when ----------------------------------------------------------------------------------------------

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  predict();
});
$("form").addEventListener("reset", (event) => {
  event.preventDefault(); // it would empty the fields, and the key
  fill();
});
$("form").addEventListener("input", changed);
$("explain").addEventListener("click", explain);
if (navigator.clipboard) {
  $("copy").hidden = false;
  $("copy").addEventListener("click", async () => {
    await navigator.clipboard.writeText($("command").textContent);
    $("copy").textContent = "Copied";
    setTimeout(() => ($("copy").textContent = "Copy"), 2000);
  });
}
load();
