// What Node and the page have in common: from values to the model's inputs, and from its outputs to an answer.
// A plain script, because a page that is opened from a folder may load no modules.
"use strict";

globalThis.slipway = (() => {
  const LARGEST = { float32: 3.4028234663852886e38, float64: Number.MAX_VALUE };
  const TOGETHER = 20; // calls that are timed as one: a browser's clock has steps of 0.1 ms
  const BOUNDS = { minimum: "at least", exclusive_minimum: "above", maximum: "at most", exclusive_maximum: "below" };

  class Refused extends Error {}

  const there = (value) => value !== undefined && value !== null;
  const own = (object, name) => Object.prototype.hasOwnProperty.call(object, name);

  /** The allowed values in words. */
  function allowed(column) {
    let words;
    if (there(column.values)) {
      words = `one of ${column.values.map((value) => JSON.stringify(value)).join(", ")}`;
    } else if (column.type === "boolean") {
      words = "true or false";
    } else if (column.type === "text") {
      words = "a text";
    } else {
      words = column.type === "integer" ? "a whole number" : "a number";
      const said = Object.keys(BOUNDS).filter((key) => there(column[key])).map((key) => `${BOUNDS[key]} ${column[key]}`);
      if (said.length) words += `, ${said.join(" and ")}`;
    }
    return words + (column.nullable ? " or null" : "");
  }

  function inRange(column, value, largest) {
    return (
      value >= -largest && value <= largest &&
      (column.type !== "integer" || Number.isInteger(value)) &&
      (!there(column.minimum) || value >= column.minimum) &&
      (!there(column.maximum) || value <= column.maximum) &&
      (!there(column.exclusive_minimum) || value > column.exclusive_minimum) &&
      (!there(column.exclusive_maximum) || value < column.exclusive_maximum)
    );
  }

  /** A value as the model takes it: a text, or a number, NaN for null; throws Refused. */
  function read(contract, column, value) {
    const kind = column.type;
    if (column.nullable && (value === null || (kind === "text" && value === ""))) return kind === "text" ? "" : NaN;
    let fits;
    if (kind === "text") fits = typeof value === "string";
    else if (kind === "boolean") fits = typeof value === "boolean" || value === 0 || value === 1;
    else fits = typeof value === "number" && inRange(column, value, LARGEST[contract.onnx.dtype]);
    const listed = !there(column.values) || column.values.some((one) => one === value || (kind === "boolean" && Number(one) === Number(value)));
    if (!fits || !listed) {
      throw new Refused(`'${column.name}': ${JSON.stringify(value)} was given, allowed is ${allowed(column)}`);
    }
    return kind === "text" ? value : Number(value);
  }

  /** A row in the order of the contract, as the model takes it; throws Refused naming what is wrong. */
  function row(contract, given) {
    const names = contract.inputs.map((column) => column.name);
    if (given !== null && typeof given === "object" && !Array.isArray(given)) {
      const missing = names.find((name) => !own(given, name));
      if (missing !== undefined) throw new Refused(`'${missing}' is missing`);
      const unknown = Object.keys(given).find((name) => !names.includes(name));
      if (unknown !== undefined) throw new Refused(`'${unknown}' is unknown`);
      given = names.map((name) => given[name]);
    }
    if (!Array.isArray(given) || given.length !== names.length) {
      throw new Refused(`a row is an object, or a list of ${names.length} values: ${names.join(", ")}`);
    }
    return contract.inputs.map((column, place) => read(contract, column, given[place]));
  }

  function tensors(contract, rows, Tensor) {
    const { layout, dtype } = contract.onnx;
    const Numbers = dtype === "float32" ? Float32Array : Float64Array;
    if (layout === "matrix") {
      return { features: new Tensor(dtype, Numbers.from(rows.flat()), [rows.length, contract.inputs.length]) };
    }
    return Object.fromEntries(contract.inputs.map((column, place) => {
      const values = rows.map((one) => one[place]);
      const shape = [rows.length, 1];
      return [`f${place}`, column.type === "text" ? new Tensor("string", values, shape) : new Tensor(dtype, Numbers.from(values), shape)];
    }));
  }

  /** Probabilities or values, a list for each row. A label that the graph gives itself, a BigInt, is not asked for. */
  async function run(session, contract, rows, Tensor) {
    const name = contract.onnx.probabilities ?? contract.onnx.label;
    const output = (await session.run(tensors(contract, rows, Tensor), [name]))[name];
    const numbers = Array.from(output.data, Number);
    const width = numbers.length / rows.length;
    return rows.map((_, place) => numbers.slice(place * width, (place + 1) * width));
  }

  /** What the service would answer; throws Refused where the model has no finite answer. */
  function answer(contract, given) {
    if (!given.every(Number.isFinite)) throw new Refused("the model has no finite answer for these values");
    const classes = contract.classes ?? [];
    if (!classes.length) return { value: given[0] };
    let place = given.indexOf(Math.max(...given));
    if (contract.labels === "threshold") {
      const positive = classes.indexOf(contract.positive);
      place = given[positive] >= contract.threshold ? positive : 1 - positive;
    }
    return { label: classes[place], probabilities: Object.fromEntries(classes.map((name, at) => [name, given[at]])) };
  }

  async function answers(session, contract, rows, Tensor) {
    const given = await run(session, contract, rows.map((one) => row(contract, one)), Tensor);
    return given.map((one) => answer(contract, one));
  }

  /** How the golden rows are answered, and the median milliseconds of a prediction; `failed` says which row is wrong, or is empty. */
  async function check(session, contract, golden, Tensor, calls) {
    const rows = golden.inputs.map((one) => row(contract, one));
    const given = await run(session, contract, rows, Tensor);
    let largest = 0;
    let failed = "";
    given.forEach((numbers, at) => {
      const expected = golden.expected[at];
      const wanted = expected.probabilities ?? [expected.value];
      const off = Math.max(...numbers.map((value, place) => Math.abs(value - wanted[place]) / Math.max(1, Math.abs(wanted[place]))));
      largest = Math.max(largest, off);
      if (failed) return;
      if (!(off <= golden.tolerance)) failed = `golden row ${at} differs by ${off.toPrecision(2)}, ${golden.tolerance} is tolerated`;
      else if (expected.label !== undefined && answer(contract, numbers).label !== expected.label) failed = `golden row ${at} should be ${expected.label}`;
    });
    const times = [];
    for (let group = 0; group < calls / TOGETHER; group += 1) {
      const begin = performance.now();
      for (let call = 0; call < TOGETHER; call += 1) await run(session, contract, [rows[call % rows.length]], Tensor);
      times.push((performance.now() - begin) / TOGETHER);
    }
    times.sort((one, other) => one - other);
    return { golden_rows: rows.length, largest_difference: largest, tolerance: golden.tolerance, failed, median_ms: times[times.length >> 1] };
  }

  /** What somebody typed, as JSON would have it. */
  function fromText(column, typed) {
    if (column.nullable && (typed === "" || typed === "null")) return null;
    if (there(column.values)) {
      const found = column.values.find((value) => String(value) === typed);
      if (found !== undefined) return found;
    }
    if (column.type === "text") return typed;
    if (column.type === "boolean") return { true: true, yes: true, 1: true, false: false, no: false, 0: false }[typed.toLowerCase()] ?? typed;
    return typed.trim() === "" || Number.isNaN(Number(typed)) ? typed : Number(typed);
  }

  return { Refused, allowed, read, row, run, answer, answers, check, fromText, there };
})();
