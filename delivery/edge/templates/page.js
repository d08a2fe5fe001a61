// The page: unpacks the model and ONNX Runtime from the scripts before this one, checks the golden rows, and answers the form.
// All is in scripts, because a page that is opened from a folder may fetch nothing.
"use strict";

(async () => {
  const { there } = slipway;
  const CALLS = 400;
  const element = (id) => document.getElementById(id);
  const state = element("state");

  async function unpacked(text) {
    const packed = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
    return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  }
  const json = async (name) => JSON.parse(new TextDecoder().decode(await unpacked(EDGE_BUNDLE[name])));

  async function load() {
    const module = new Blob([await unpacked(EDGE_RUNTIME.mjs)], { type: "text/javascript" });
    ort.env.wasm.numThreads = 1; // more would need headers that a folder cannot send
    ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(module) };
    ort.env.wasm.wasmBinary = await unpacked(EDGE_RUNTIME.wasm);
    return ort.InferenceSession.create(await unpacked(EDGE_BUNDLE["model.onnx"]), { executionProviders: ["wasm"] });
  }

  function option(value, text) {
    const made = document.createElement("option");
    made.value = value;
    made.textContent = text;
    return made;
  }

  /** The control of a column: a list where the values are known, else a field. */
  function control(column, place) {
    const choices = column.type === "boolean" ? [true, false] : column.values;
    let made;
    if (there(choices)) {
      made = document.createElement("select");
      for (const value of choices.filter((one) => one !== null)) made.append(option(String(value), String(value)));
      if (column.nullable) made.append(option("", "no value"));
    } else {
      made = document.createElement("input");
      made.type = column.type === "text" ? "text" : "number";
      if (made.type === "number") {
        made.step = column.type === "integer" ? "1" : "any";
        if (there(column.minimum)) made.min = column.minimum;
        if (there(column.maximum)) made.max = column.maximum;
      } else if (column.observed?.values) {
        const known = document.createElement("datalist");
        known.id = `known${place}`;
        known.append(...column.observed.values.map((value) => option(value, value)));
        made.setAttribute("list", known.id);
        element("form").append(known);
      }
      if (column.nullable) made.placeholder = "no value";
      else if (column.type !== "text") made.required = true;
    }
    made.id = `f${place}`;
    made.value = column.example === null ? "" : String(column.example);
    return made;
  }

  function field(column, place) {
    const made = document.createElement("div");
    const label = document.createElement("label");
    const hint = document.createElement("small");
    const input = control(column, place);
    label.htmlFor = input.id;
    label.textContent = column.name;
    hint.id = `hint${place}`;
    hint.textContent = slipway.allowed(column).replace("null", "no value");
    input.setAttribute("aria-describedby", hint.id);
    made.append(label, input, hint);
    return made;
  }

  function bar(name, value, chosen) {
    const [made, track, fill] = [0, 0, 0].map(() => document.createElement("div"));
    const words = [document.createElement("span"), document.createElement("span")];
    made.className = chosen ? "bar chosen" : "bar";
    words[0].textContent = name;
    words[1].textContent = `${(value * 100).toFixed(1)} %`;
    track.className = "track"; // the words say the same
    track.setAttribute("aria-hidden", "true");
    fill.style.width = `${value * 100}%`;
    track.append(fill);
    made.append(words[0], track, words[1]);
    return made;
  }

  function show(contract, answer, milliseconds) {
    const section = element("answer");
    const heading = document.createElement("h2");
    const foot = document.createElement("small");
    heading.textContent = `${contract.target}: ${answer.label ?? Number(answer.value.toPrecision(6))}`;
    const bars = Object.entries(answer.probabilities ?? {}).map(([name, value]) => bar(name, value, name === answer.label));
    const rule = contract.labels === "threshold" ? ` It is ${contract.positive} from a probability of ${contract.threshold} on.` : "";
    foot.textContent = `Answered in ${milliseconds.toFixed(1)} ms.${rule}`;
    section.replaceChildren(heading, ...bars, foot);
    section.hidden = false;
  }

  function refuse(words) {
    const section = element("answer");
    const made = document.createElement("p");
    made.className = "refused";
    made.textContent = words;
    section.replaceChildren(made);
    section.hidden = false;
  }

  try {
    const contract = await json("contract.json");
    const release = await json("release.json");
    document.title = element("title").textContent = release.version ? `${contract.name}, version ${release.version}` : contract.name;
    if (EDGE_BUNDLE.notes.length) {
      element("notes").textContent = EDGE_BUNDLE.notes.join(" ");
      element("notes").hidden = false;
    }
    element("inputs").append(...contract.inputs.map(field));
    const began = performance.now();
    const session = await load();
    const loaded = performance.now() - began;
    const found = await slipway.check(session, contract, await json("golden.json"), ort.Tensor, CALLS);
    const words = found.failed || `${found.golden_rows} golden rows are answered as expected`;
    state.textContent =
      `${words}; largest difference ${found.largest_difference.toPrecision(2)}. ` +
      `Loaded in ${(loaded / 1000).toFixed(1)} s, median of ${CALLS} predictions ${(found.median_ms * 1000).toFixed(0)} µs, ` +
      `model of ${EDGE_BUNDLE.bytes.toLocaleString("en")} bytes, onnxruntime-web ${ort.env.versions.web}.`;
    state.dataset.result = JSON.stringify(found);
    state.className = found.failed ? "refused" : "";
    element("form").noValidate = true; // the contract's own words say what is wrong
    element("form").addEventListener("submit", async (event) => {
      event.preventDefault();
      try {
        const row = contract.inputs.map((column, place) => slipway.fromText(column, element(`f${place}`).value));
        const start = performance.now();
        const [answer] = await slipway.answers(session, contract, [row], ort.Tensor);
        show(contract, answer, performance.now() - start);
      } catch (error) {
        refuse(error.message);
      }
    });
    element("ask").disabled = Boolean(found.failed); // a model that answers otherwise here than it was tested answers nobody
  } catch (error) {
    state.textContent = `The model cannot run in this browser: ${error.message}`;
    state.className = "refused";
  }
})();
